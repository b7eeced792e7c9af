"""Amazon Beauty: twelve years of sparse data in one export."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from rec_assets_tests.conftest import SMALL, Shop
from rec_assets_tests.shops import write_beauty_source

pytestmark = pytest.mark.long

NEWEST = dt.date(2014, 7, 23)


@pytest.mark.timeout(1200)
def test_amazon_beauty_can_be_bootstrapped(tmp_path: Path) -> None:
    source = write_beauty_source(tmp_path)
    if source is None:
        pytest.skip("the Amazon Beauty files don't exist")
    spark = {name: value for name, value in SMALL.items() if "SPARK" in name}
    # In sparse data, many recommended products have no purchases, so the limit of the release gate is higher.
    settings = {**spark, "REC_LOOKBACK_DAYS": "365", "REC_GATE__MAX_COLD_SHARE": "0.4"}
    beauty = Shop(tmp_path / "home", source, settings=settings)
    bootstrapped = beauty.run("bootstrap", timeout=1100)
    assert bootstrapped.returncode == 0, bootstrapped.stderr
    report = beauty.home / "reports" / f"date={NEWEST}" / "evaluation.html"
    assert bootstrapped.stdout.strip().endswith(str(report)) and report.stat().st_size > 10_000
    assert beauty.lake.table("champion").days == beauty.lake.table("evaluation_report").days == [NEWEST]
    metrics = beauty.lake.table("evaluation_report").pandas([NEWEST])
    evaluated = metrics[(metrics["model"] == "hybrid") & (metrics["slice"] == "all") & (metrics["k"] == 10)]
    assert evaluated.set_index("metric")["value"]["ndcg"] > 0
