"""Releases on a real registry: promoted, rejected, rolled back; and the serving folder that goes with them."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from rec_assets.recsys.recipe import Recipe
from rec_assets.resources.releases import PROMOTED, REJECTED, ReleaseError, Releases
from rec_assets.serving.folder import ServingFolder

MODEL = "product-recommender"


def day(number: int) -> dt.date:
    return dt.date(2018, 1, 1) + dt.timedelta(days=number)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A registry; its tables take seconds to make."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def releases(uri: str) -> Iterator[Releases]:
    client = MlflowClient(uri, uri)
    client.create_registered_model(MODEL)
    yield Releases(uri, MODEL)
    client.delete_registered_model(MODEL)


def propose(releases: Releases, as_of: int, decision: str = PROMOTED, content: str = "") -> int:
    version = releases.client.create_model_version(MODEL, source="/nowhere").version
    trained = str(day(as_of - 7))
    tags = {
        "as_of": day(as_of), "als_version": trained, "graph_version": trained, "ranker_version": trained,
        "recipe": Recipe().model_dump_json(), "content": content or f"models of {as_of}",
    }  # fmt: skip
    releases.propose(int(version), tags)
    if decision:
        releases.decide(int(version), decision, {"reasons": "…"})
    return int(version)


def champion(releases: Releases) -> int:
    return int(releases.client.get_model_version_by_alias(MODEL, "champion").version)


def test_the_newest_promoted_version_is_in_force_and_has_the_alias(releases: Releases) -> None:
    one, two, _ = propose(releases, 10), propose(releases, 17), propose(releases, 24, REJECTED)
    found = releases.in_force()
    assert found is not None and found.version == two == champion(releases)
    assert found.models == dict.fromkeys(("als_version", "graph_version", "ranker_version"), str(day(10)))
    assert int(releases.client.get_model_version_by_alias(MODEL, "challenger").version) == 3
    past = releases.in_force(day(16))
    assert past is not None and past.version == one
    assert releases.in_force(day(9)) is None


def test_an_undecided_version_is_not_in_force(releases: Releases) -> None:
    propose(releases, 10, decision="")
    assert releases.in_force() is None


def test_a_version_that_was_registered_and_never_proposed_is_no_release(releases: Releases) -> None:
    releases.client.create_model_version(MODEL, source="/nowhere")
    assert releases.all() == []


def test_a_rollback_goes_to_the_version_before_and_stays_there(releases: Releases) -> None:
    one, two = propose(releases, 10), propose(releases, 17)
    assert releases.roll_back().version == one == champion(releases)
    assert releases.get(two).rolled_back
    same = propose(releases, 24, decision="", content="models of 17")
    assert releases.taken_back(releases.get(same)) == two
    assert releases.taken_back(releases.get(one)) is None


def test_a_rollback_can_name_its_version_and_be_undone_by_naming_the_other(releases: Releases) -> None:
    one, _, three = (propose(releases, as_of) for as_of in (10, 17, 24))
    assert releases.roll_back(to=one).version == one == champion(releases)
    assert releases.roll_back(to=three).version == three == champion(releases)
    assert not releases.get(three).rolled_back


def test_a_recipe_of_other_code_is_read_as_far_as_it_goes(releases: Releases) -> None:
    one, two = propose(releases, 10), propose(releases, 17)
    stored = Recipe(list_size=30).model_dump()
    del stored["als"]["alpha"]
    releases.tag(one, {"recipe": json.dumps({**stored, "gone": 1})})
    assert releases.get(one).recipe == Recipe(list_size=30)
    releases.tag(two, {"recipe": json.dumps({**stored, "list_size": -1})})
    assert [each.version for each in releases.all()] == [one, two], "the others can be gone back to"
    with pytest.raises(ReleaseError, match=f"the recipe of version {two} can't be read .* Upgrading"):
        _ = releases.get(two).recipe


@pytest.mark.parametrize(
    ("to", "said"),
    [
        (None, r"no earlier version to go back to; promoted and standing: 1 \(as of 2018-01-11\)"),
        (2, "version 2 was rejected, so it can't be gone back to"),
        (9, r"has no version 9; there are: 1 \(as of 2018-01-11\), 2"),
    ],
)
def test_what_can_not_be_gone_back_to_is_told_with_what_can(releases: Releases, to: int | None, said: str) -> None:
    propose(releases, 10)
    propose(releases, 17, REJECTED)
    with pytest.raises(ReleaseError, match=said):
        releases.roll_back(to)
    assert champion(releases) == 1


def write(text: str) -> Callable[[Path], None]:
    def into(folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "index").write_text(text)

    return into


def publish(serving: ServingFolder, version: int, as_of: dt.date, into: Callable[[Path], None]) -> None:
    serving.point(serving.add(version, as_of, into))


def test_the_index_that_was_pointed_to_is_current(tmp_path: Path) -> None:
    serving = ServingFolder(tmp_path)
    assert serving.current() is None
    publish(serving, 1, day(2), write("of day 2"))
    serving.add(1, day(1), write("of day 1, made later"))
    current = serving.current()
    assert current is not None
    assert (current.version, current.as_of, (current.path / "index").read_text()) == (1, day(2), "of day 2")


def test_an_index_made_again_leaves_the_one_that_is_being_read(tmp_path: Path) -> None:
    serving = ServingFolder(tmp_path)
    for text in ("first", "second", "third"):
        publish(serving, 1, day(1), write(text))
    assert [(each.path / "index").read_text() for each in serving.indexes()] == ["second", "third"]
    newest = serving.newest_of(1)
    assert newest == serving.current() and newest is not None and newest.path.name.startswith("1-2018-01-02-")


def test_a_writer_that_fails_leaves_the_current_index_as_it_was(tmp_path: Path) -> None:
    serving = ServingFolder(tmp_path)
    publish(serving, 1, day(1), write("good"))

    def fail(folder: Path) -> None:
        folder.mkdir(parents=True)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        publish(serving, 2, day(2), fail)
    assert serving.current() == serving.newest_of(1)
    assert json.loads((tmp_path / "current.json").read_text())["version"] == 1


def test_old_indexes_go_but_those_of_the_last_versions_stay(tmp_path: Path) -> None:
    serving = ServingFolder(tmp_path)
    for version in range(1, 6):
        for number in range(3):
            publish(serving, version, day(10 * version + number), write("…"))
    assert [(each.version, each.as_of) for each in serving.indexes()] == [
        (version, day(10 * version + number)) for version in (3, 4, 5) for number in (1, 2)
    ]


def test_releases_are_known_where_listings_leave_tags_out(releases: Releases, monkeypatch: pytest.MonkeyPatch) -> None:
    # Unity Catalog isn't here; its registry does this one thing otherwise.
    version = propose(releases, 10)
    in_catalog = Releases("databricks", MODEL)
    assert in_catalog.client._registry_uri == "databricks-uc"
    whole = MlflowClient.search_model_versions

    def without_tags(client: MlflowClient, *arguments: object, **options: object) -> list[ModelVersion]:
        found = whole(client, *arguments, **options)
        return [ModelVersion(each.name, each.version, each.creation_timestamp) for each in found]

    monkeypatch.setattr(MlflowClient, "search_model_versions", without_tags)
    in_catalog.uri = in_catalog.registry_uri = releases.uri
    assert [release.version for release in in_catalog.all()] == [version]
