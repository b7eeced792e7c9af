"""Shops with too little training data: they have lists, and one line says which models are missing."""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from rec_assets.assets.model_loading import NO_RANKER
from rec_assets.serving.index_files.folder import ServingFolder
from rec_assets.serving.recommender import Recommender
from rec_assets_tests.conftest import SMALL, Shop

FIRST = dt.date(2024, 3, 1)
DAYS = 5
SETTINGS = {**SMALL, "REC_HORIZON_DAYS": "2", "REC_SPARK_SHUFFLE_PARTITIONS": "1"}

Line = tuple[int, str, str, str, str, int]
"""Day, customer, product, title, category, quantity."""

YAML = """time_zone: UTC
purchases:
  path: sales/{date:%Y-%m-%d}.csv
  columns: {customer_id: who, product_id: what, title: title, category: category, time: when, quantity: pieces}
returns:
  negative_quantity: true
"""


def land(folder: Path, day: int, lines: Iterable[Line]) -> None:
    """Write the file of a day."""
    with (folder / "sales" / f"{FIRST + dt.timedelta(days=day)}.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["who", "what", "title", "category", "when", "pieces"])
        for number, (line_day, who, what, title, category, pieces) in enumerate(lines):
            if line_day == day:
                out.writerow(
                    [who, what, title, category, f"{FIRST + dt.timedelta(days=day)} {number % 24:02}:00", pieces]
                )


def write_shop(folder: Path, lines: list[Line]) -> Shop:
    (folder / "sales").mkdir(parents=True)
    for day in range(DAYS):
        land(folder, day, lines)
    source = folder / "shop.yaml"
    source.write_text(YAML)
    return Shop(folder / "home", source, settings=SETTINGS)


def load_recommender(shop: Shop) -> Recommender:
    """The published index, as the API uses it."""
    published = ServingFolder(shop.home / "serving").current()
    assert published is not None
    return Recommender.load(published.path)


def unique_pieces(day: int) -> list[Line]:
    """Four customers each buy two unique products per day, each in one category. No titles."""
    return [
        (day, f"c{who}", f"piece {day}{who}{place}", "", f"kind {who % 2}", 1) for who in range(4) for place in range(2)
    ]


@pytest.mark.long
def test_unique_products_without_titles_are_recommended_by_category_and_a_second_bootstrap_works(
    tmp_path: Path,
) -> None:
    shop = write_shop(tmp_path, [line for day in range(DAYS) for line in unique_pieces(day)])
    result = shop.run("bootstrap")
    assert result.returncode == 0, result.stderr[-2000:]
    (missing,) = [line for line in result.stdout.splitlines() if line.startswith("Missing models")]
    assert all(name in missing for name in ("no ALS factors", "no co-purchase graph", NO_RANKER))
    day = max(shop.lake.table("hybrid_scores").days)
    lists = shop.lake.table("hybrid_scores").pandas([day])
    categories_bought = {f"c{who}": f"kind {who % 2}" for who in range(4)}
    categories = shop.lake.table("products").pandas().set_index("product_id")["category"]
    first = lists[(lists["list"] == "discover") & (lists["rank"] == 1)].set_index("customer_id")["product_id"]
    assert first.map(categories).to_dict() == categories_bought
    for page in ("evaluation", "release"):
        assert "no ALS factors" in (shop.home / "reports" / f"date={day}" / f"{page}.html").read_text()
    recommender = load_recommender(shop)
    assert recommender.recommend("c0", 3, "discover")["product_id"].iloc[0] == first["c0"]
    assert len(recommender.recommend("stranger", 3)) == 3

    land(tmp_path, DAYS, unique_pieces(DAYS))
    again = shop.run("bootstrap")
    assert again.returncode == 0, again.stderr[-2000:]
    assert load_recommender(shop).snapshot.as_of == day + dt.timedelta(days=1)


def all_returned(day: int) -> list[Line]:
    """All purchases are returned on the same day, and no product has text."""
    return [(day, f"c{who}", f"p{(day + who) % 3}", "", "", pieces) for who in range(3) for pieces in (1, -1)]


@pytest.mark.long
def test_a_shop_whose_purchases_are_all_returned_recommends_its_products_to_visitors(tmp_path: Path) -> None:
    shop = write_shop(tmp_path, [line for day in range(DAYS) for line in all_returned(day)])
    result = shop.run("bootstrap")
    assert result.returncode == 0, result.stderr[-2000:]
    assert "For all customers" in result.stdout and "no text similarity" in result.stdout and NO_RANKER in result.stdout
    assert shop.lake.table("hybrid_scores").pandas([max(shop.lake.table("hybrid_scores").days)]).empty
    assert set(load_recommender(shop).recommend("c0")["product_id"]) == {"p0", "p1", "p2"}


@pytest.mark.slow
def test_a_shop_whose_lines_are_all_rejected_gets_an_error_of_one_line(tmp_path: Path) -> None:
    result = write_shop(tmp_path, [(day, "", "p", "Ware", "ware", 1) for day in range(DAYS)]).run("bootstrap")
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert "no purchases to train on" in last and "5 by" in last and "check-source" in last
    assert "Traceback" not in result.stderr


def all_on_one_day(day: int) -> list[Line]:
    bought = [(0, f"c{who:02}", f"p{(who + place) % 6}", "Ware", "ware", 1) for who in range(12) for place in range(4)]
    return bought if day == 0 else []


def all_buy_everything(day: int) -> list[Line]:
    return [(day, f"c{who}", f"p{what}", f"Ware {what}", "ware", 1) for who in range(6) for what in range(5)]


def one_customer(day: int) -> list[Line]:
    return [(day, "only", f"p{day % 3}", f"Ware {day % 3}", "ware", 1)]


def one_product_per_customer(day: int) -> list[Line]:
    return [(day, f"c{who}", f"p{who}", f"Ware {who}", f"kind {who % 2}", 1) for who in range(6)]


def all_buy_once(day: int) -> list[Line]:
    return [(day, f"c{day}{who}", f"p{who}", f"Ware {who}", "ware", 1) for who in range(4)]


def closed_on_the_last_day(day: int) -> list[Line]:
    return [] if day == DAYS - 1 else [(day, f"c{who}", f"p{(day + who) % 5}", "Ware", "", 1) for who in range(4)]


@pytest.mark.long
@pytest.mark.parametrize(
    "lines_of",
    [
        all_on_one_day, all_buy_everything, one_customer, one_product_per_customer, all_buy_once,
        closed_on_the_last_day,
    ],
)  # fmt: skip
def test_an_unusual_shop_has_lists_and_says_which_models_are_missing(
    lines_of: Callable[[int], list[Line]], tmp_path: Path
) -> None:
    shop = write_shop(tmp_path, [line for day in range(DAYS) for line in lines_of(day)])
    result = shop.run("bootstrap")
    assert result.returncode == 0, result.stderr[-2000:]
    assert NO_RANKER in result.stdout and "Traceback" not in result.stderr
    assert len(load_recommender(shop).recommend("stranger"))
    customer = (
        shop.lake.table("hybrid_scores").pandas([max(shop.lake.table("hybrid_scores").days)])["customer_id"].iloc[0]
    )
    assert len(load_recommender(shop).recommend(customer))
    for arguments in ((customer,), ("stranger",), (customer, "--list", "discover")):
        recommend = shop.run("recommend", *arguments)
        assert recommend.returncode == 0, recommend.stderr[-2000:]
