"""Another shop that the code has never seen, and sparse: twelve years of Amazon Beauty as one export."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from rec_assets_tests.conftest import SMALL, Shop
from rec_assets_tests.shops import write_beauty_source

NEWEST = dt.date(2014, 7, 23)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_amazon_beauty_goes_through_the_whole_graph_to_a_report(tmp_path: Path) -> None:
    source = write_beauty_source(tmp_path)
    if source is None:
        pytest.skip("the Amazon Beauty files are not beside the repository")
    spark = {name: value for name, value in SMALL.items() if "SPARK" in name}
    # So sparse a shop shows much that nobody bought yet: about as much as the gate lets pass elsewhere.
    settings = {**spark, "REC_LOOKBACK_DAYS": "365", "REC_GATE__COLD_SHARE": "0.4"}
    beauty = Shop(tmp_path / "home", source, settings=settings)
    done = beauty.run("bootstrap", timeout=1100)
    assert done.returncode == 0, done.stderr
    report = beauty.home / "reports" / f"date={NEWEST}" / "evaluation.html"
    assert done.stdout.strip().endswith(str(report)) and report.stat().st_size > 10_000
    assert beauty.lake.days("champion") == beauty.lake.days("evaluation_report") == [NEWEST]
    metrics = beauty.lake.pandas("evaluation_report", [NEWEST])
    judged = metrics[(metrics["model"] == "hybrid") & (metrics["slice"] == "all") & (metrics["k"] == 10)]
    assert judged.set_index("metric")["value"]["ndcg"] > 0
