"""The verdict of `check-source` on random shops: it is given, in words, and what it calls usable can be read."""

import contextlib
import datetime as dt
from pathlib import Path

import pytest

from rec_assets.recsys.data.cleaning import CleaningRules, clean_day
from rec_assets.recsys.events import PURCHASE
from rec_assets.sources.check import check_source
from rec_assets.sources.errors import SourceError
from rec_assets.sources.reader import RAW_SCHEMA, read_day, read_export
from rec_assets.sources.spec import Source, load_source
from rec_assets_tests.random_shops import write_random_shop

SHOPS = 100


def kept_purchases(source: Source, first: dt.date, last: dt.date) -> int:
    """Purchases that cleaning keeps of these days, read as the graph reads them."""
    rules = CleaningRules(source.time_zone, source.has_price, bulk_quantity=source.purchases.bulk_quantity)
    export = None if source.is_daily else read_export(source)
    kept = 0
    for day in (first + dt.timedelta(days=number) for number in range((last - first).days + 1)):
        raw = read_day(source, day) if export is None else export.get(day, RAW_SCHEMA.empty_table())
        result = clean_day(raw.to_pandas(), day, rules)
        assert len(raw) == len(result.rejected) + (~result.cleaned["line_id"].str.endswith("@returned")).sum()
        kept += int((result.cleaned["event"] == PURCHASE).sum())
    return kept


@pytest.mark.parametrize("block", range(5))
def test_every_shop_gets_a_verdict_and_a_usable_one_can_be_read(tmp_path: Path, block: int) -> None:
    verdicts = []
    for seed in range(block, SHOPS, 5):
        source = load_source(str(write_random_shop(tmp_path / str(seed), seed)), tmp_path)
        found = check_source(source, days=1000)
        verdicts.append(found.ok)
        assert "This source can" in found.to_text()
        if found.ok:
            assert found.covers, seed
            assert kept_purchases(source, *found.covers) > 0, seed
        else:
            if found.covers:  # what can't be used for its lines can still be read, or says in words why not
                with contextlib.suppress(SourceError):
                    kept_purchases(source, *found.covers)
    assert 5 < sum(verdicts) < len(verdicts)
