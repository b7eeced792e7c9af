"""What the sensors request, as tables of landed files and lake contents."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pandas as pd
import pytest

from rec_assets.automation.ingest_requests import ingest_requests
from rec_assets.resources.lake import Lake
from rec_assets.sources.landing import LandedFiles, combined_fingerprint

MONDAY = dt.date(2018, 1, 1)
TABLES = ("raw_purchase_logs", "cleaned_interactions")


def day(number: int) -> dt.date:
    return MONDAY + dt.timedelta(days=number)


def landed(**days: str) -> dict[dt.date, LandedFiles]:
    """`d3="old"`: day 3 has a file with that content; the file of a "growing" day is still being written."""
    return {
        day(int(name[1:])): LandedFiles("", "", is_complete=False)
        if content == "growing"
        else LandedFiles(combined_fingerprint({"file.csv": content}), content, is_complete=True)
        for name, content in days.items()
    }


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Days 0 to 9 were read, each from a file with the content "old"; day 6 had no sales."""
    lake = Lake(tmp_path)
    for number in range(10):
        read(lake, number, "" if number == 6 else "old")
    return lake


def read(lake: Lake, number: int, content: str, tables: tuple[str, ...] = TABLES) -> None:
    for table in tables:
        lake.write(table, pd.DataFrame({"n": [number]}), day(number), {"file.csv": content} if content else {})


READ = {f"d{number}": "old" for number in range(10) if number != 6}

CASES: dict[str, tuple[dict[str, str], list[str]]] = {
    "nothing new": ({}, []),
    "a new day": ({"d10": "new"}, ["1 day landed: 2018-01-11"]),
    "ten new days are one run": (
        {f"d{number}": "new" for number in range(10, 20)},
        ["10 days landed: 2018-01-11 to 2018-01-20"],
    ),
    "a day without files before a new day has no sales": ({"d11": "new"}, ["2 days landed: 2018-01-11, 2018-01-12"]),
    "a late file of a day that counted as without sales": ({"d6": "late"}, ["1 day landed: 2018-01-07"]),
    "a corrected day": ({"d4": "fixed"}, ["1 day landed: 2018-01-05"]),
    "a corrected day and a new one are one run": (
        {"d4": "fixed", "d10": "new"},
        ["2 days landed: 2018-01-05, 2018-01-11"],
    ),
    "days far apart are two runs": (
        {"d1": "fixed", "d10": "new"},
        ["1 day landed: 2018-01-02", "1 day landed: 2018-01-11"],
    ),
    "the same file again": ({"d9": "old"}, []),
    "a day that is still growing waits": ({"d10": "growing"}, []),
    "a growing day does not delay others": ({"d10": "growing", "d11": "new"}, ["1 day landed: 2018-01-12"]),
    "no run includes a growing day": (
        {"d9": "fixed", "d10": "growing", "d11": "new"},
        ["1 day landed: 2018-01-10", "1 day landed: 2018-01-12"],
    ),
    "a correction that is still growing waits": ({"d4": "growing"}, []),
}


@pytest.mark.parametrize(("changes", "requested"), CASES.values(), ids=CASES)
def test_days_whose_files_differ_from_the_lake_are_requested(
    lake: Lake, changes: dict[str, str], requested: list[str]
) -> None:
    requests = ingest_requests(landed(**{**READ, **changes}), lake, oldest=day(0))
    assert [str(request) for request in requests] == requested


def test_days_before_the_oldest_are_requested_only_if_they_were_read_before(lake: Lake) -> None:
    files = landed(**{**READ, "d2": "fixed"})
    files[day(-3)] = LandedFiles("x", "x", is_complete=True)
    assert [str(request) for request in ingest_requests(files, lake, oldest=day(5))] == ["1 day landed: 2018-01-03"]


def test_the_run_key_depends_only_on_the_content(lake: Lake) -> None:
    (one,), (same,), (other,) = (
        ingest_requests(landed(**{**READ, "d10": content}), lake, oldest=day(0)) for content in ("new", "new", "fixed")
    )
    assert one.run_key == same.run_key != other.run_key


def test_days_next_to_a_broken_day_are_cleaned_without_it(lake: Lake) -> None:
    # Regression: one run over the three days read 10 and 12, failed on 11, and cleaned none.
    files = landed(**{**READ, "d10": "new", "d11": "broken", "d12": "new"})
    (first,) = ingest_requests(files, lake, oldest=day(0))
    for number in (10, 12):
        read(lake, number, "new", TABLES[:1])
    again = ingest_requests(files, lake, oldest=day(0))
    assert [str(request) for request in again] == [f"1 day landed: {day(number)}" for number in (10, 11, 12)]
    for number in (10, 12):
        read(lake, number, "new")
    (broken,) = ingest_requests(files, lake, oldest=day(0))
    assert broken.run_key == again[1].run_key != first.run_key, "requested once by itself, and not again"


def test_an_undone_correction_is_requested_again(lake: Lake) -> None:
    keys = []
    for content, was in (("new", ""), ("fixed", "new"), ("new", "fixed")):
        if was:
            read(lake, 10, was)
        (request,) = ingest_requests(landed(**{**READ, "d10": content}), lake, oldest=day(0))
        keys.append(request.run_key)
    assert len(set(keys)) == 3
