"""A release reads the models that it was made from, whatever was trained for their day since."""

import datetime as dt
import json
from pathlib import Path

import pandas as pd
import pytest

from rec_assets.assets.model_loading import released_model
from rec_assets.resources.lake import Lake, MissingPartition
from rec_assets.resources.releases import Release

DAY = dt.date(2017, 12, 3)


def write(lake: Lake, content: str, day: dt.date = DAY) -> None:
    lake.write("ranker", pd.DataFrame({"recipe": [content]}), day)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path)
    write(lake, "released")
    return lake


@pytest.fixture
def release(lake: Lake) -> Release:
    table = lake.table("ranker")
    tags = {
        "table_versions": {"ranker": table.version},
        "model_fingerprints": {"ranker": table.partitions[DAY].fingerprint},
    }
    return Release(
        version=3, as_of=DAY, als_as_of=DAY, graph_as_of=DAY, ranker_as_of=DAY, content="", decision="promoted",
        rolled_back=False, run_id="", tags={name: json.dumps(value) for name, value in tags.items()},
    )  # fmt: skip


def read(lake: Lake, release: Release) -> str:
    table, day = released_model(lake, release, "ranker")
    content: str = table.pandas([day])["recipe"].item()
    return content


def test_a_model_that_was_made_again_by_hand_is_not_used_under_the_name_of_the_release(
    lake: Lake, release: Release
) -> None:
    write(lake, "made again")
    assert read(lake, release) == "released"
    lake.delete("ranker", [DAY])
    assert read(lake, release) == "released"
    lake.vacuum("ranker", release.table_versions.values(), hours=0)
    assert read(lake, release) == "released"


def test_without_its_version_a_release_uses_the_model_of_the_day(lake: Lake, release: Release) -> None:
    write(lake, "made again")
    lake.vacuum("ranker", hours=0)
    assert read(lake, release) == "made again"


def test_the_same_version_of_a_table_that_was_started_again_is_not_used(tmp_path: Path, release: Release) -> None:
    other = Lake(tmp_path / "other")
    write(other, "other")
    write(other, "newest")
    assert read(other, release) == "newest"


def test_a_missing_model_is_named_with_what_to_do(lake: Lake, release: Release) -> None:
    lake.delete("ranker", [DAY])
    lake.vacuum("ranker", hours=0)
    with pytest.raises(MissingPartition, match=f"ranker of {DAY}, which version 3 was made from.*roll back"):
        released_model(lake, release, "ranker")
