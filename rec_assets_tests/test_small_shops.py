"""Shops that teach next to nothing: they get lists from what there is, and one line that says what is missing."""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from rec_assets.recsys.unlearned import NO_RANKER
from rec_assets.serving.folder import ServingFolder
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
    """Write the file of a day; what a customer buys on it is one order."""
    with (folder / "sales" / f"{FIRST + dt.timedelta(days=day)}.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["who", "what", "title", "category", "when", "pieces"])
        for number, (of, who, what, title, category, pieces) in enumerate(lines):
            if of == day:
                out.writerow(
                    [who, what, title, category, f"{FIRST + dt.timedelta(days=day)} {number % 24:02}:00", pieces]
                )


def shop_of(folder: Path, lines: list[Line]) -> Shop:
    (folder / "sales").mkdir(parents=True)
    for day in range(DAYS):
        land(folder, day, lines)
    source = folder / "shop.yaml"
    source.write_text(YAML)
    return Shop(folder / "home", source, settings=SETTINGS)


def served(shop: Shop) -> Recommender:
    """What the API would answer from."""
    published = ServingFolder(shop.home / "serving").current()
    assert published is not None
    return Recommender.load(published.path)


def unique_pieces(day: int) -> list[Line]:
    """Four customers buy two pieces each a day, of which there is but one; each keeps to a category. No titles."""
    return [
        (day, f"c{who}", f"piece {day}{who}{place}", "", f"kind {who % 2}", 1) for who in range(4) for place in range(2)
    ]


def test_unique_pieces_without_titles_are_listed_by_category_and_a_further_day_goes_on(tmp_path: Path) -> None:
    shop = shop_of(tmp_path, [line for day in range(DAYS) for line in unique_pieces(day)])
    found = shop.run("bootstrap")
    assert found.returncode == 0, found.stderr[-2000:]
    (said,) = [line for line in found.stdout.splitlines() if line.startswith("Not learned")]
    assert all(name in said for name in ("no ALS factors", "no co-purchase graph", NO_RANKER))
    day = max(shop.lake.days("hybrid_scores"))
    lists = shop.lake.pandas("hybrid_scores", [day])
    own_kind = {f"c{who}": f"kind {who % 2}" for who in range(4)}
    categories = shop.lake.pandas("products").set_index("product_id")["category"]
    first = lists[(lists["list"] == "discover") & (lists["rank"] == 1)].set_index("customer_id")["product_id"]
    assert first.map(categories).to_dict() == own_kind
    for page in ("evaluation", "release"):
        assert "no ALS factors" in (shop.home / "reports" / f"date={day}" / f"{page}.html").read_text()
    recommender = served(shop)
    assert recommender.recommend("c0", 3, "discover")["product_id"].iloc[0] == first["c0"]
    assert len(recommender.recommend("stranger", 3)) == 3

    land(tmp_path, DAYS, unique_pieces(DAYS))
    again = shop.run("bootstrap")
    assert again.returncode == 0, again.stderr[-2000:]
    assert served(shop).state.as_of == day + dt.timedelta(days=1)


def given_back(day: int) -> list[Line]:
    """Whatever is bought is given back on the same day; and nothing has a text."""
    return [(day, f"c{who}", f"p{(day + who) % 3}", "", "", pieces) for who in range(3) for pieces in (1, -1)]


def test_a_shop_that_got_everything_back_shows_strangers_its_products(tmp_path: Path) -> None:
    shop = shop_of(tmp_path, [line for day in range(DAYS) for line in given_back(day)])
    found = shop.run("bootstrap")
    assert found.returncode == 0, found.stderr[-2000:]
    assert "For everybody" in found.stdout and "no text similarity" in found.stdout and NO_RANKER in found.stdout
    assert shop.lake.pandas("hybrid_scores", [max(shop.lake.days("hybrid_scores"))]).empty
    assert set(served(shop).recommend("c0")["product_id"]) == {"p0", "p1", "p2"}


def test_a_shop_whose_every_line_is_refused_is_told_so_in_one_line(tmp_path: Path) -> None:
    found = shop_of(tmp_path, [(day, "", "p", "Ware", "ware", 1) for day in range(DAYS)]).run("bootstrap")
    assert found.returncode == 1
    last = found.stderr.strip().splitlines()[-1]
    assert "nothing to make lists from" in last and "5 by" in last and "check-source" in last
    assert "Traceback" not in found.stderr


def all_at_once(day: int) -> list[Line]:
    bought = [(0, f"c{who:02}", f"p{(who + place) % 6}", "Ware", "ware", 1) for who in range(12) for place in range(4)]
    return bought if day == 0 else []


def everybody_buys_everything(day: int) -> list[Line]:
    return [(day, f"c{who}", f"p{what}", f"Ware {what}", "ware", 1) for who in range(6) for what in range(5)]


def one_customer(day: int) -> list[Line]:
    return [(day, "only", f"p{day % 3}", f"Ware {day % 3}", "ware", 1)]


def to_each_their_own(day: int) -> list[Line]:
    return [(day, f"c{who}", f"p{who}", f"Ware {who}", f"kind {who % 2}", 1) for who in range(6)]


def everybody_once(day: int) -> list[Line]:
    return [(day, f"c{day}{who}", f"p{who}", f"Ware {who}", "ware", 1) for who in range(4)]


def closed_on_the_last_day(day: int) -> list[Line]:
    return [] if day == DAYS - 1 else [(day, f"c{who}", f"p{(day + who) % 5}", "Ware", "", 1) for who in range(4)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "lines_of",
    [
        all_at_once, everybody_buys_everything, one_customer, to_each_their_own, everybody_once,
        closed_on_the_last_day,
    ],
)  # fmt: skip
def test_an_odd_shop_has_lists_and_is_told_what_is_missing(
    lines_of: Callable[[int], list[Line]], tmp_path: Path
) -> None:
    shop = shop_of(tmp_path, [line for day in range(DAYS) for line in lines_of(day)])
    found = shop.run("bootstrap")
    assert found.returncode == 0, found.stderr[-2000:]
    assert NO_RANKER in found.stdout and "Traceback" not in found.stderr
    assert len(served(shop).recommend("stranger"))
    customer = shop.lake.pandas("hybrid_scores", [max(shop.lake.days("hybrid_scores"))])["customer_id"].iloc[0]
    assert len(served(shop).recommend(customer))
    for arguments in ((customer,), ("stranger",), (customer, "--list", "discover")):
        asked = shop.run("recommend", *arguments)
        assert asked.returncode == 0, asked.stderr[-2000:]
