"""Which days are overdue: the weekdays and delays of earlier days, holidays, silence, and the check and its alert."""

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from rec_assets.checks.data import data_checks
from rec_assets.sources.rhythm import Punctuality, what_is_overdue
from rec_assets.sources.spec import load_data_source

pytestmark = pytest.mark.fast

BERLIN = ZoneInfo("Europe/Berlin")
FIRST, SATURDAY = dt.date(2024, 4, 1), dt.date(2024, 5, 11)
MONDAY, TUESDAY = SATURDAY + dt.timedelta(days=2), SATURDAY + dt.timedelta(days=3)
Landed = dict[dt.date, dt.datetime | None]


def at(day: dt.date, hour: int) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(hour), BERLIN)


def days(last: dt.date = SATURDAY) -> list[dt.date]:
    """Days of a shop that is closed on Sundays."""
    every = (FIRST + dt.timedelta(days=number) for number in range((last - FIRST).days + 1))
    return [day for day in every if day.weekday() != 6]


def landed(last: dt.date = SATURDAY) -> Landed:
    """Each day landed at six in the morning after it."""
    return {day: at(day + dt.timedelta(days=1), 6) for day in days(last)}


def found(files: Landed, now: dt.datetime, last_day: dt.date = dt.date.max) -> Punctuality:
    result = what_is_overdue(files, BERLIN, now, last_day)
    assert result is not None
    return result


def test_a_shop_that_is_closed_on_sundays_has_no_alarm_on_mondays() -> None:
    result = found(landed(), at(MONDAY, 23))
    assert not result.overdue
    assert result.next_due == at(TUESDAY, 8)  # Monday, six hours after its end, and two hours of grace
    assert result.summary == "no day is overdue, the newest landed day is 2024-05-11; the next is due by " + (
        "2024-05-14 08:00 CEST"
    )


@pytest.mark.parametrize(("hour", "overdue"), [(7, []), (8, [MONDAY])])
def test_a_day_is_overdue_after_the_usual_delay(hour: int, overdue: list[dt.date]) -> None:
    result = found(landed(), at(TUESDAY, hour))
    assert result.overdue == overdue and result.is_silent == bool(overdue)


def test_a_silent_shop_has_an_alarm_until_its_log_counts_as_ended() -> None:
    result = found(landed(), at(SATURDAY + dt.timedelta(days=30), 12))
    assert (len(result.overdue), result.overdue[0], result.is_silent) == (24, MONDAY, True)
    assert result.summary == "2024-05-13 and 23 more days should have landed; the newest landed day is 2024-05-11"
    assert not found(landed(), at(SATURDAY + dt.timedelta(days=61), 12)).overdue


def test_a_missing_day_between_landed_ones_counts_for_a_week() -> None:
    files = landed()
    holiday = SATURDAY - dt.timedelta(days=2)
    del files[holiday]
    result = found(files, at(MONDAY, 12))
    assert result.overdue == [holiday] and not result.is_silent
    later = landed(SATURDAY + dt.timedelta(days=7))
    del later[holiday]
    assert not found(later, at(SATURDAY + dt.timedelta(days=8), 12)).overdue


def test_days_that_landed_together_show_no_usual_delay() -> None:
    at_once = at(SATURDAY + dt.timedelta(days=2), 0)
    result = found(dict.fromkeys(days(), at_once), at(TUESDAY, 12))
    assert not result.overdue
    # The longest delay that counts is that of Thursday: three days.
    assert result.next_due == at(MONDAY + dt.timedelta(days=4), 2)


def test_a_file_that_is_corrected_much_later_does_not_change_the_usual_delay() -> None:
    files: Landed = landed() | {SATURDAY - dt.timedelta(days=4): at(TUESDAY, 9)}
    assert found(files, at(TUESDAY, 9)).overdue == [MONDAY]


def test_a_store_that_tells_no_times_gets_three_days() -> None:
    files: Landed = dict.fromkeys(days())
    assert not found(files, at(MONDAY + dt.timedelta(days=4), 1)).overdue
    assert found(files, at(MONDAY + dt.timedelta(days=4), 3)).overdue == [MONDAY]


def test_nothing_is_expected_after_the_last_day_nor_of_a_new_shop() -> None:
    result = found(landed(), at(TUESDAY, 12), SATURDAY)
    assert (result.overdue, result.next_due) == ([], None)
    assert what_is_overdue(dict(list(landed().items())[-13:]), BERLIN, at(TUESDAY, 12)) is None


Check = Callable[..., dg.AssetCheckResult]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Runs the check on files of 30 days, which landed an hour after their day; the newest one has this age."""
    today = dt.datetime.now(dt.timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)

    def run(path: str = "{date:%Y-%m-%d}.csv", newest_age: int = 4, last_day: str = "") -> dg.AssetCheckResult:
        for age in range(newest_age, newest_age + 30):
            file = tmp_path / f"{today - dt.timedelta(days=age):%Y-%m-%d}.csv"
            file.write_text("at,buyer,sku\n")
            os.utime(file, ((today - dt.timedelta(days=age - 1)).timestamp() + 3600,) * 2)
        yaml = tmp_path / "shop.yaml"
        yaml.write_text(
            f"first_day: 2018-01-01\n{last_day}\n"
            f"purchases: {{path: '{path}', columns: {{customer_id: buyer, product_id: sku, time: at}}}}\n"
        )
        checks = data_checks(load_data_source(str(yaml), tmp_path))
        result = next(each for each in checks if each.check_key.name == "purchases_land_on_time")()
        assert isinstance(result, dg.AssetCheckResult)
        return result

    return run


def test_the_check_fails_when_the_feed_falls_silent(check: Check) -> None:
    result = check()
    overdue = dt.datetime.now(dt.timezone.utc).date() - dt.timedelta(days=3)
    assert not result.passed and result.severity == dg.AssetCheckSeverity.ERROR
    assert (result.description or "").startswith(f"{overdue} and ")
    assert result.metadata["overdue_days"].value in (2, 3)  # the last one is due at three in the morning


def test_the_check_tells_until_when_the_log_is_fresh(check: Check) -> None:
    result = check(newest_age=0)
    assert result.passed and "dagster/fresh_until_timestamp" in result.metadata


@pytest.mark.parametrize(
    "shop",
    [{"path": "{date:%Y-%m-%d}.txt"}, {"path": "*.csv", "last_day": "last_day: 2024-01-01"}, {"newest_age": 100},
     {"newest_age": 20, "last_day": f"last_day: {dt.date.today() - dt.timedelta(days=20)}"}],
)  # fmt: skip
def test_the_check_passes_if_nothing_is_expected(check: Check, shop: dict[str, Any]) -> None:
    result = check(**shop)
    assert result.passed and "dagster/fresh_until_timestamp" not in result.metadata
