"""Random shops, also small and unusual ones: a shop that `check-source` accepts can be bootstrapped."""

from pathlib import Path

import pytest

from rec_assets_tests.conftest import SMALL, Shop
from rec_assets_tests.random_shops import write_random_shop

HORIZON = 5
SETTINGS = {**SMALL, "REC_HORIZON_DAYS": str(HORIZON)}


def check_and_bootstrap(folder: Path, seed: int) -> bool:
    """Whether the shop can be used. If so, bootstrap it. No command shows a stack trace."""
    shop = Shop(folder / "home", write_random_shop(folder / "shop", seed, horizon=HORIZON), settings=SETTINGS)
    checked, bootstrapped = shop.run("check-source"), shop.run("bootstrap")
    output = f"{checked.stdout[-1500:]}\n{bootstrapped.stderr[-3000:]}"
    assert "Traceback" not in checked.stderr + bootstrapped.stderr, output
    if checked.returncode == 0:
        assert bootstrapped.returncode == 0, output
        assert shop.run("recommend", "c0").returncode == 0
    return checked.returncode == 0


# Each customer buys once; unusable data; too few days.
@pytest.mark.long
@pytest.mark.parametrize(("seed", "usable"), [(58, True), (1, False), (2, False)])
def test_a_usable_shop_is_bootstrapped_and_an_unusable_shop_is_an_error(
    tmp_path: Path, seed: int, usable: bool
) -> None:
    assert check_and_bootstrap(tmp_path, seed) == usable


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3, 40))
def test_many_usable_shops_are_bootstrapped(tmp_path: Path, seed: int) -> None:
    check_and_bootstrap(tmp_path, seed)
