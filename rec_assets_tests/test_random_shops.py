"""What `check-source` calls usable can be bootstrapped: random shops, small and odd ones among them."""

from pathlib import Path

import pytest

from rec_assets_tests.conftest import SMALL, Shop
from rec_assets_tests.random_shops import write_random_shop

HORIZON = 5
SETTINGS = {**SMALL, "REC_HORIZON_DAYS": str(HORIZON)}


def check_and_bootstrap(folder: Path, seed: int) -> bool:
    """Whether the shop can be used; it is then bootstrapped, and neither way ends in a stack trace."""
    shop = Shop(folder / "home", write_random_shop(folder / "shop", seed, horizon=HORIZON), settings=SETTINGS)
    verdict, made = shop.run("check-source"), shop.run("bootstrap")
    said = f"{verdict.stdout[-1500:]}\n{made.stderr[-3000:]}"
    assert "Traceback" not in verdict.stderr + made.stderr, said
    if verdict.returncode == 0:
        assert made.returncode == 0, said
        assert shop.run("recommend", "c0").returncode == 0
    return verdict.returncode == 0


# Everybody buys once; a source that can't be used, and one of too few days.
@pytest.mark.parametrize(("seed", "usable"), [(58, True), (1, False), (2, False)])
def test_a_usable_shop_is_bootstrapped_and_another_says_why_not(tmp_path: Path, seed: int, usable: bool) -> None:
    assert check_and_bootstrap(tmp_path, seed) == usable


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 40))
def test_many_usable_shops_are_bootstrapped(tmp_path: Path, seed: int) -> None:
    check_and_bootstrap(tmp_path, seed)
