"""The synthetic fashion shop: what a recommender can find in it, from its files to the answers of the API."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rec_assets.datasets.fashion import CATEGORIES, FashionShop
from rec_assets.recsys.evaluation.evaluate import metric_values
from rec_assets.resources.lake import Lake
from rec_assets.serving.engine import Engine
from rec_assets.serving.index_files.folder import ServingFolder
from rec_assets.serving.recommendation import RecommendationRequest, RecommendedItem
from rec_assets.sources.check import check_source
from rec_assets.sources.spec import load_data_source
from rec_assets_tests.conftest import Shop

CUSTOMERS, DAYS, SEED = 1200, 150, 3
SETTINGS = {"REC_SPARK_SHUFFLE_PARTITIONS": "4"}

pytestmark = pytest.mark.timeout(1800)  # the first test waits for two bootstraps


@dataclass
class Fashion:
    """The shop, bootstrapped with its browsing history and without (and with an upstream asset)."""

    folder: Path
    simulated: FashionShop
    home: Path
    without_events: Path

    def engine(self) -> Engine:
        from rec_assets.recsys.rules.rules_file import EMPTY_RULE_SETS

        published = ServingFolder(self.home / "serving").current()
        assert published is not None
        return Engine(published, EMPTY_RULE_SETS)

    def evaluation(self, home: Path) -> pd.DataFrame:
        table = Lake(home / "lake").table("evaluation_report")
        return table.pandas([max(table.days)])


@pytest.fixture(scope="module")
def fashion(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fashion]:
    folder = tmp_path_factory.mktemp("fashion")
    simulated = FashionShop(CUSTOMERS, DAYS, SEED)
    simulated.write(folder)
    text = (folder / "fashion.yaml").read_text(encoding="utf-8")
    begin, end = text.index("events:"), text.index("catalog:")
    upstream = text[:begin].replace("purchases:\n", "purchases:\n  asset: [warehouse, products]\n")
    (folder / "without.yaml").write_text(upstream + text[end:], encoding="utf-8")
    homes = {}
    for name in ("fashion", "without"):
        export = {"REC_EXPORT__URL": f"sqlite:///{folder}/{name}.db"}
        shop = Shop(folder / name, folder / f"{name}.yaml", settings={**SETTINGS, **export})
        result = shop.run("bootstrap")
        assert result.returncode == 0, result.stderr[-3000:]
        homes[name] = shop.home
    yield Fashion(folder, simulated, homes["fashion"], homes["without"])


def items_of(engine: Engine, customer: str, **request: object) -> list[RecommendedItem]:
    asked = RecommendationRequest(k=20, customer_id=customer, **request)  # type: ignore[arg-type]
    return engine.respond(asked, frozenset()).items


@pytest.mark.slow
@pytest.mark.parametrize("slice_", ["all", "novel"])
def test_the_lists_are_ahead_of_every_baseline(fashion: Fashion, slice_: str) -> None:
    report = fashion.evaluation(fashion.home)
    found = report[(report["metric"] == "ndcg_difference") & (report["slice"] == slice_)]
    assert len(found) >= 5 and (found["ci_low"] > 0).all(), found[["baseline", "value", "ci_low", "ci_high"]]


@pytest.mark.slow
def test_browsing_history_helps_to_find_novel_products(fashion: Fashion) -> None:
    with_events, without = (
        metric_values(fashion.evaluation(home), "novel", "ndcg")["value"]["hybrid"]
        for home in (fashion.home, fashion.without_events)
    )
    assert with_events >= 1.1 * without


@pytest.mark.slow
def test_a_list_has_one_variant_of_a_product_and_all_are_in_stock(fashion: Fashion) -> None:
    engine, catalog = fashion.engine(), pd.read_csv(fashion.folder / "products.csv", dtype=str).set_index("sku")
    product_of = catalog["style"].dropna()
    for customer in engine.recommender.index.histories.customers:
        for mode in ("all", "discover"):
            shown = items_of(engine, customer.decode(), mode=mode)
            assert len({item.product_id for item in shown}) == len(shown) == 20
            for item in shown:
                assert item.variant_id is not None and product_of[item.variant_id] == item.product_id
                assert catalog["stock"][item.variant_id] != "0", item


@pytest.mark.slow
def test_the_variant_is_in_the_size_of_the_customer(fashion: Fashion) -> None:
    engine, lines = fashion.engine(), _kept_sizes(fashion.folder)
    fits, sizes_by_name = 0, {each.name: each.sizes for each in CATEGORIES}
    known = 0
    for customer in engine.recommender.index.histories.customers:
        for item in items_of(engine, customer.decode()):
            counts = lines.get((customer.decode(), item.category))
            if counts is not None and len(sizes_by_name[item.category]) > 1:
                known += 1
                fits += item.attributes["size"] == counts.most_common(1)[0][0]
    assert known > 1000 and fits / known >= 0.9, fits / known


@pytest.mark.slow
def test_the_export_has_what_the_api_shows(fashion: Fashion) -> None:
    engine, database = fashion.engine(), sqlite3.connect(fashion.folder / "fashion.db")
    exported = dict(database.execute("SELECT customer_id, products FROM recommendations").fetchall())
    database.close()
    customers = [each.decode() for each in engine.recommender.index.histories.customers]
    assert len(exported) > 0.9 * len(customers) and exported.keys() <= set(customers)
    for customer, products in exported.items():
        assert json.loads(products) == [item.variant_id for item in items_of(engine, customer)]


def _kept_sizes(folder: Path) -> dict[tuple[str, str], Counter[str]]:
    """(customer, category) → sizes that the customer kept, from the landed files."""
    catalog = pd.read_csv(folder / "products.csv", dtype=str).set_index("sku")
    lines = pd.concat([pd.read_csv(file, dtype=str) for file in sorted((folder / "purchases").glob("*.csv"))])
    lines = lines[lines["price"].notna() & lines["pieces"].eq("1")].drop_duplicates()
    kept: dict[tuple[str, str], Counter[str]] = {}
    for row in lines.itertuples():
        key = str(row.customer), str(catalog["category"][str(row.sku)])
        kept.setdefault(key, Counter())[str(catalog["size"][str(row.sku)])] += 1 if row.kind == "sale" else -1
    positive = {key: Counter({size: n for size, n in counts.items() if n > 0}) for key, counts in kept.items()}
    return {key: counts for key, counts in positive.items() if counts}


def test_the_same_seed_makes_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        FashionShop(150, 60, 5).write(tmp_path / name)
    files = sorted(file.relative_to(tmp_path / "one") for file in (tmp_path / "one").rglob("*") if file.is_file())
    assert len(files) > 100
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)


def test_check_source_finds_the_dirt_and_nothing_else(tmp_path: Path) -> None:
    FashionShop(300, 90, 5).write(tmp_path)
    check = check_source(load_data_source(str(tmp_path / "fashion.yaml"), tmp_path / "home"))
    assert check.ok, check.errors
    text = check.to_text()
    assert "products of the log in the catalog: all" in text and "of known products: all" in text
    assert {"no_customer", "invalid_price", "excluded", "duplicate_line"} <= {
        line.split(":")[0].strip() for line in check.topics["Cleaning"]
    }


def test_customers_buy_what_they_like() -> None:
    shop = FashionShop(400, 90, 5)
    days = [lines for _, lines, _ in shop.simulate()]
    bought = pd.concat(days).query("kind == 'sale' and customer != '' and customer != 'TEST'")
    customer, style = bought["customer"].str[1:].astype(int), bought["sku"].str[2:6].astype(int)
    utility, category = shop._people.utility, shop.styles.category
    ranks = [
        (utility[who, category == category[what]] < utility[who, what]).mean()
        for who, what in zip(customer, style, strict=True)
    ]
    assert len(ranks) > 300 and np.mean(ranks) > 0.75  # 0.5 by chance
