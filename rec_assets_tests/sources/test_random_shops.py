"""`check-source` with random shops: it always has a result, and a usable data source can be read."""

import contextlib
import datetime as dt
from pathlib import Path

import pytest

from rec_assets.recsys.data.cleaning import CleaningSettings, clean_day
from rec_assets.recsys.data.raw_lines import RAW_SCHEMA
from rec_assets.recsys.events import PURCHASE
from rec_assets.sources.check import check_source
from rec_assets.sources.errors import SourceError
from rec_assets.sources.reader import read_day, read_export
from rec_assets.sources.spec import DataSource, load_data_source
from rec_assets_tests.random_shops import write_random_shop

pytestmark = pytest.mark.integration

SHOPS = 100
_MARKS = {1: pytest.mark.slow, 2: pytest.mark.slow, 3: pytest.mark.long, 4: pytest.mark.long}
_BLOCKS = [0, *(pytest.param(block, marks=mark) for block, mark in _MARKS.items())]


def valid_purchases(source: DataSource, first: dt.date, last: dt.date) -> int:
    """Number of valid purchases on these days, read as the assets read them."""
    rules = CleaningSettings(source.time_zone, source.has_price, bulk_quantity=source.purchases.bulk_quantity)
    export = None if source.is_daily else read_export(source)
    purchases = 0
    for day in (first + dt.timedelta(days=number) for number in range((last - first).days + 1)):
        raw = read_day(source, day) if export is None else export.get(day, RAW_SCHEMA.empty_table())
        result = clean_day(raw.to_pandas(), day, rules)
        assert len(raw) == len(result.rejected) + (~result.cleaned["line_id"].str.endswith("@returned")).sum()
        purchases += int((result.cleaned["event"] == PURCHASE).sum())
    return purchases


@pytest.mark.parametrize("block", _BLOCKS)
def test_every_shop_has_a_result_and_a_usable_shop_can_be_read(tmp_path: Path, block: int) -> None:
    results = []
    for seed in range(block, SHOPS, 5):
        source = load_data_source(str(write_random_shop(tmp_path / str(seed), seed)), tmp_path)
        result = check_source(source, days=1000)
        results.append(result.ok)
        assert "This data source can" in result.to_text()
        if result.ok:
            assert result.covered_days, seed
            assert valid_purchases(source, *result.covered_days) > 0, seed
        else:
            if result.covered_days:  # it can be read anyway, or the error says why not
                with contextlib.suppress(SourceError):
                    valid_purchases(source, *result.covered_days)
    assert 5 < sum(results) < len(results)
