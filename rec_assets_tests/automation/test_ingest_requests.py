"""What the sensors request, as tables of landed files and lake contents."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

import pytest

from rec_assets.automation.ingest_requests import IngestRequest, ingest_requests
from rec_assets.resources.data_versions import FILES, FINGERPRINT, MADE_FROM, Materialization
from rec_assets.sources.landing import LandedFiles, combined_fingerprint

MONDAY = dt.date(2018, 1, 1)


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


@dataclass
class Ingested:
    """Materializations of the raw and the cleaned lines that are in the lake."""

    raw: dict[dt.date | None, Materialization] = field(default_factory=dict)
    cleaned: dict[dt.date | None, Materialization] = field(default_factory=dict)

    def read(self, number: int, content: str) -> None:
        """Read a day whose file has this content."""
        metadata = {FILES: {"file.csv": content} if content else {}, FINGERPRINT: f"rows of {content}"}
        self.raw[day(number)] = Materialization(0, "", None, metadata)

    def clean(self, number: int) -> None:
        """Clean a day that was read."""
        made_from = {"raw_purchase_logs": {"fingerprint": self.raw[day(number)].fingerprint}}
        self.cleaned[day(number)] = Materialization(0, "", None, {MADE_FROM: made_from})

    def requests(self, landed: dict[dt.date, LandedFiles], oldest: int = 0) -> list[IngestRequest]:
        """What the sensor requests."""
        return ingest_requests(landed, self.raw, self.cleaned, day(oldest))


@pytest.fixture
def lake() -> Ingested:
    """Days 0 to 9 were read, each from a file with the content "old"; day 6 had no sales."""
    lake = Ingested()
    for number in range(10):
        lake.read(number, "" if number == 6 else "old")
        lake.clean(number)
    return lake


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
    lake: Ingested, changes: dict[str, str], requested: list[str]
) -> None:
    requests = lake.requests(landed(**{**READ, **changes}))
    assert [str(request) for request in requests] == requested


def test_days_before_the_oldest_are_requested_only_if_they_were_read_before(lake: Ingested) -> None:
    files = landed(**{**READ, "d2": "fixed"})
    files[day(-3)] = LandedFiles("x", "x", is_complete=True)
    assert [str(request) for request in lake.requests(files, oldest=5)] == ["1 day landed: 2018-01-03"]


def test_the_run_key_depends_only_on_the_content(lake: Ingested) -> None:
    (one,), (same,), (other,) = (
        lake.requests(landed(**{**READ, "d10": content})) for content in ("new", "new", "fixed")
    )
    assert one.run_key == same.run_key != other.run_key


def test_days_next_to_a_broken_day_are_cleaned_without_it(lake: Ingested) -> None:
    # Regression: one run over the three days read 10 and 12, failed on 11, and cleaned none.
    files = landed(**{**READ, "d10": "new", "d11": "broken", "d12": "new"})
    (first,) = lake.requests(files)
    for number in (10, 12):
        lake.read(number, "new")
    again = lake.requests(files)
    assert [str(request) for request in again] == [f"1 day landed: {day(number)}" for number in (10, 11, 12)]
    for number in (10, 12):
        lake.clean(number)
    (broken,) = lake.requests(files)
    assert broken.run_key == again[1].run_key != first.run_key, "requested once by itself, and not again"


def test_an_undone_correction_is_requested_again(lake: Ingested) -> None:
    keys = []
    for content, was in (("new", ""), ("fixed", "new"), ("new", "fixed")):
        if was:
            lake.read(10, was)
            lake.clean(10)
        (request,) = lake.requests(landed(**{**READ, "d10": content}))
        keys.append(request.run_key)
    assert len(set(keys)) == 3
