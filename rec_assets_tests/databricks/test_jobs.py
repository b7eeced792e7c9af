"""Jobs of the bundle: the entry point of the wheel with the name of a job, in its own process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rec_assets_tests.conftest import Shop
from rec_assets_tests.shops import write_giftware_shop

pytestmark = pytest.mark.integration


@pytest.fixture
def bare(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "home", write_giftware_shop(tmp_path / "shop"))


def run(shop: Shop, job: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from rec_assets.on_databricks import main; main()", job]
    return subprocess.run(command, env=shop.environment, capture_output=True, text=True, check=False)


def test_a_job_runs_with_a_dagster_instance(bare: Shop) -> None:
    done = run(bare, "ingest_catalog")
    assert done.returncode == 0, done.stderr
    assert bare.lake.table("raw_product_catalog").partitions.get(None) is not None
    assert (bare.home / "dagster" / "dagster.yaml").is_file()


@pytest.mark.slow
def test_a_failed_job_prints_its_reason_in_the_last_line(bare: Shop) -> None:
    failed = run(bare, "retrain")
    assert failed.returncode != 0
    last = failed.stderr.strip().splitlines()[-1]
    assert "retrain failed: execute_retraining: there is no release yet" in last
