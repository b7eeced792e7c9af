"""What the sensors request, as tables of landed files, lake contents and live accuracy."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rec_assets.automation.ingest_requests import ingest_requests
from rec_assets.automation.retraining_reasons import retraining_reasons
from rec_assets.resources.lake import Lake
from rec_assets.settings import RetrainingSettings
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


def live(rates: list[float], products: float = 0.1, customers: float = 0.05) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "date": [day(number) for number in range(len(rates))],
            "hit_rate": rates,
            "unknown_products": products,
            "unknown_customers": customers,
        }
    )


USUAL = [0.30, 0.32, 0.31, 0.29, 0.30, 0.31, 0.30, 0.32]
REASONS: dict[str, tuple[int, pd.DataFrame, set[str]]] = {
    "nothing measured": (10, live([]), set()),
    "all as usual": (10, live(USUAL), set()),
    "enough new interactions": (50, live([]), {"new interactions"}),
    "just too few": (49, live([]), set()),
    "accuracy falls out of its band": (10, live([*USUAL, 0.2]), {"accuracy"}),
    "accuracy that rises is no reason": (10, live([*USUAL, 0.5]), set()),
    "too few days for a band": (10, live([*USUAL[:5], 0.1]), set()),
    "a day that could not be measured": (10, live([*USUAL, np.nan]), set()),
    "unknown products": (10, live(USUAL, products=0.5), {"unknown products"}),
    "unknown customers": (10, live(USUAL, customers=0.5), {"unknown customers"}),
    "all at once": (
        90,
        live([*USUAL, 0.1], 0.6, 0.6),
        {"new interactions", "accuracy", "unknown products", "unknown customers"},
    ),
}


@pytest.mark.parametrize(("lines", "measured", "kinds"), REASONS.values(), ids=REASONS)
def test_retraining_reasons(lines: int, measured: pd.DataFrame, kinds: set[str]) -> None:
    reasons = retraining_reasons(RetrainingSettings(), lines_before=1000, lines_since=lines, live=measured)
    assert set(reasons) == kinds
    assert all(any(c.isdigit() for c in reason) for reason in reasons.values()), "reasons contain numbers"


def test_one_unusual_day_is_no_reason() -> None:
    measured = live(USUAL).assign(unknown_products=[0.1] * (len(USUAL) - 1) + [0.9])
    assert retraining_reasons(RetrainingSettings(), lines_before=1000, lines_since=0, live=measured) == {}
