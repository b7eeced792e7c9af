"""A small shop with its whole graph materialised, once per session, by the command a user would type."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rec_assets.resources.lake import Lake
from rec_assets_tests.shops import write_giftware_shop

os.environ["PYSPARK_PYTHON"] = sys.executable

SMALL = {
    "REC_HORIZON_DAYS": "14",
    "REC_LOOKBACK_DAYS": "60",
    "REC_SPARK_MASTER": "local[2]",
    "REC_SPARK_DRIVER_MEMORY": "2g",
    "REC_SPARK_SHUFFLE_PARTITIONS": "2",
    "REC_RECIPE__ALS__RANK": "8",
    "REC_RECIPE__ALS__ITERATIONS": "3",
    "REC_RECIPE__RANKER__ROUNDS": "30",
    "REC_RECIPE__LIST_SIZE": "20",
}


@dataclass(frozen=True)
class Shop:
    """A shop's home and how to run commands on it."""

    home: Path
    source: Path
    settings: Mapping[str, str] = field(default_factory=lambda: SMALL, kw_only=True)

    @property
    def environment(self) -> dict[str, str]:
        """The settings, as variables."""
        return {**os.environ, **self.settings, "REC_HOME": str(self.home), "REC_SOURCE": str(self.source)}

    @property
    def lake(self) -> Lake:
        """Its lake."""
        return Lake(self.home / "lake")

    def run(self, *arguments: str, timeout: float = 540) -> subprocess.CompletedProcess[str]:
        """`rec-assets ARGUMENTS`."""
        command = [sys.executable, "-m", "rec_assets.cli", *arguments]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )


@dataclass(frozen=True)
class BootstrappedShop(Shop):
    """A shop after `rec-assets bootstrap`."""

    result: subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> BootstrappedShop:
    """The giftware wholesaler, bootstrapped. Tests that change it work on a copy."""
    folder = tmp_path_factory.mktemp("giftware")
    bare = Shop(folder / "home", write_giftware_shop(folder / "shop"))
    return BootstrappedShop(bare.home, bare.source, bare.run("bootstrap"))
