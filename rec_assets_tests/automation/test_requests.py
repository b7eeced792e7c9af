"""What the sensors ask for, as tables: what landed and what the lake holds; how the models fare."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rec_assets.automation.requests import ingest_requests, reasons_to_train
from rec_assets.resources.lake import Lake
from rec_assets.settings import Retraining
from rec_assets.sources.landing import LandedFiles, fingerprint_of

MONDAY = dt.date(2018, 1, 1)
TABLES = ("raw_purchase_logs", "cleaned_interactions")


def day(number: int) -> dt.date:
    return MONDAY + dt.timedelta(days=number)


def landed(**days: str) -> dict[dt.date, LandedFiles]:
    """`d3="old"`: on day 3 lies a file with that content; "growing" lies there half."""
    return {
        day(int(name[1:])): LandedFiles("", "", settled=False)
        if content == "growing"
        else LandedFiles(fingerprint_of({"file.csv": content}), content, settled=True)
        for name, content in days.items()
    }


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Days 0 to 9 were read, each from a file with the content "old", but for day 6, on which the shop was closed."""
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
    "a closed day before a new one is read as such": ({"d11": "new"}, ["2 days landed: 2018-01-11, 2018-01-12"]),
    "a late file of a day that counted as closed": ({"d6": "late"}, ["1 day landed: 2018-01-07"]),
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
    "a growing day holds up no other": ({"d10": "growing", "d11": "new"}, ["1 day landed: 2018-01-12"]),
    "no run passes over a growing day": (
        {"d9": "fixed", "d10": "growing", "d11": "new"},
        ["1 day landed: 2018-01-10", "1 day landed: 2018-01-12"],
    ),
    "a correction that is still growing waits": ({"d4": "growing"}, []),
}


@pytest.mark.parametrize(("changes", "asked"), CASES.values(), ids=CASES)
def test_what_landed_and_is_not_in_the_lake_as_it_lies_there_is_asked_for(
    lake: Lake, changes: dict[str, str], asked: list[str]
) -> None:
    assert [str(each) for each in ingest_requests(landed(**{**READ, **changes}), lake, oldest=day(0))] == asked


def test_days_before_the_oldest_are_read_only_if_they_were_read_before_and_changed(lake: Lake) -> None:
    found = landed(**{**READ, "d2": "fixed"})
    found[day(-3)] = LandedFiles("x", "x", settled=True)
    assert [str(each) for each in ingest_requests(found, lake, oldest=day(5))] == ["1 day landed: 2018-01-03"]


def test_the_key_of_a_request_changes_with_the_content_and_with_nothing_else(lake: Lake) -> None:
    (one,), (same,), (other,) = (
        ingest_requests(landed(**{**READ, "d10": content}), lake, oldest=day(0)) for content in ("new", "new", "fixed")
    )
    assert one.run_key == same.run_key != other.run_key


def test_good_days_beside_a_broken_one_are_cleaned_without_it(lake: Lake) -> None:
    # One run over the three read 10 and 12, failed on 11, and cleaned none.
    found = landed(**{**READ, "d10": "new", "d11": "broken", "d12": "new"})
    (first,) = ingest_requests(found, lake, oldest=day(0))
    for number in (10, 12):
        read(lake, number, "new", TABLES[:1])
    again = ingest_requests(found, lake, oldest=day(0))
    assert [str(each) for each in again] == [f"1 day landed: {day(number)}" for number in (10, 11, 12)]
    for number in (10, 12):
        read(lake, number, "new")
    (broken,) = ingest_requests(found, lake, oldest=day(0))
    assert broken.run_key == again[1].run_key != first.run_key, "asked for once by itself, and not again"


def test_a_correction_that_is_taken_back_is_read_again(lake: Lake) -> None:
    keys = []
    for content, was in (("new", ""), ("fixed", "new"), ("new", "fixed")):
        if was:
            read(lake, 10, was)
        (asked,) = ingest_requests(landed(**{**READ, "d10": content}), lake, oldest=day(0))
        keys.append(asked.run_key)
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
    "nothing to say": (10, live([]), set()),
    "all as usual": (10, live(USUAL), set()),
    "enough new purchases": (50, live([]), {"new purchases"}),
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
        {"new purchases", "accuracy", "unknown products", "unknown customers"},
    ),
}


@pytest.mark.parametrize(("lines", "measured", "kinds"), REASONS.values(), ids=REASONS)
def test_training_is_asked_for_when_something_speaks_for_it(
    lines: int, measured: pd.DataFrame, kinds: set[str]
) -> None:
    found = reasons_to_train(Retraining(), lines_before=1000, lines_since=lines, live=measured)
    assert set(found) == kinds
    assert all(any(character.isdigit() for character in words) for words in found.values()), "reasons come with numbers"


def test_one_odd_day_is_not_enough_to_call_products_unknown() -> None:
    measured = live(USUAL).assign(unknown_products=[0.1] * (len(USUAL) - 1) + [0.9])
    assert reasons_to_train(Retraining(), lines_before=1000, lines_since=0, live=measured) == {}
