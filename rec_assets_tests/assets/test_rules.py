"""Rules in the graph: lists, index and simulation of a shop whose merchandiser wrote some."""

import datetime as dt
import shutil
from pathlib import Path

import numpy as np
import pytest

from rec_assets.recsys.rules.spec import read_rules
from rec_assets.serving.answers import Answerer, Wish
from rec_assets.serving.folder import ServingFolder
from rec_assets.serving.recommender import Recommender
from rec_assets_tests.conftest import SMALL, BootstrappedShop, Shop

RULES = """
default: house
rule_sets:
  house:
    - {name: recalled, kind: never, products: {file: recalled.csv}}
    - {name: comes-back, kind: returns, cost: 1}
    - {name: tail, kind: favour, products: {slow_movers: 0.5}, places: 3, most_loss: 0.1}
    - {name: launch, kind: pin, product: "%s", place: 1}
    - {name: enough, kind: frequency_cap, most: 5}
  bold:
    - {name: tail, kind: favour, products: {slow_movers: 0.5}, places: 5, most_loss: 1}
"""


@pytest.fixture
def ruled(shop: BootstrappedShop, tmp_path: Path) -> Shop:
    """A copy of the shop with rules: its best seller is recalled, and its second is pinned."""
    shutil.copytree(shop.home, tmp_path / "home")
    best = shop.lake.pandas("product_statistics", shop.lake.days("product_statistics")[-1:]).sort_values("orders")
    recalled, pinned = best["product_id"].iloc[-1], best["product_id"].iloc[-2]
    (tmp_path / "recalled.csv").write_text(f"product_id\n{recalled}\n", encoding="utf-8")
    (tmp_path / "rules.yaml").write_text(RULES % pinned, encoding="utf-8")
    settings = {**SMALL, "REC_RULES": str(tmp_path / "rules.yaml")}
    return Shop(tmp_path / "home", shop.source, settings=settings)


def test_the_newest_lists_are_made_by_the_rules_and_the_api_shows_them(ruled: Shop, tmp_path: Path) -> None:
    lake, rules = ruled.lake, read_rules(tmp_path / "rules.yaml")
    days = lake.days("hybrid_scores")
    before = {day: lake.fingerprint("hybrid_scores", [day]) for day in days}
    without = lake.pandas("hybrid_scores", days[-1:])
    assert set(without["rules_version"]) == {""} and without["rule"].isna().all()
    run = ruled.run("bootstrap")
    assert run.returncode == 0, run.stderr[-3000:]
    assert {day for day in days if lake.fingerprint("hybrid_scores", [day]) != before[day]} == {days[-1]}
    lists = lake.pandas("hybrid_scores", days[-1:])
    assert set(lists["rules_version"]) == {rules.version("house")}
    assert set(lists["rule"].dropna()) == {"raised by rule comes-back", "boosted by rule tail", "pinned by rule launch"}
    (recalled,) = rules.lists["recalled.csv"].index
    pinned = rules.sets["house"][3].product
    first = lists[(lists["rank"] == 1) & (lists["list"] == "all")]
    assert recalled in set(without["product_id"]) and recalled not in set(lists["product_id"])
    assert set(first["product_id"]) == {pinned} and len(first) == without["customer_id"].nunique()
    assert (lists.groupby(["customer_id", "list"])["rank"].max() == 20).mean() > 0.9

    published = ServingFolder(ruled.home / "serving").current()
    assert published is not None and published.as_of == days[-1]
    recommender = Recommender.load(published.path)
    assert recommender.index.about["rules_version"] == rules.version("house")
    live = Answerer(Recommender(recommender.index.__class__(**{**vars(recommender.index), "lists": {}})), rules=rules)
    stored = Answerer(recommender, rules=rules)
    for customer in first["customer_id"].iloc[::40]:
        wish = Wish(k=20, customer_id=customer, rules="house")
        shown = [
            [(each.product_id, each.rule) for each in one.answer(wish, one.available(frozenset()),
                                                                 np.random.default_rng(1)).entries]
            for one in (stored, live)
        ]  # fmt: skip
        rows = lists[(lists["customer_id"] == customer) & (lists["list"] == "all")].sort_values("rank")
        batch = list(zip(rows["product_id"], rows["rule"].where(rows["rule"].notna(), None), strict=True))
        assert shown[0] == shown[1] == batch


def test_rules_are_shown_and_simulated(ruled: Shop) -> None:
    shown = ruled.run("rules", "show")
    assert shown.returncode == 0, shown.stderr[-3000:]
    assert "house (default)" in shown.stdout and "recalled" in shown.stdout
    run = ruled.run("rules", "simulate", "house")
    assert run.returncode == 0, run.stderr[-3000:]
    lines = {line.split("  ")[0]: line for line in run.stdout.splitlines()}
    assert {"none", "house", "house: recalled", "house: tail", "house: launch"} <= set(lines)
    assert "+0.0%" in lines["none"] and "bold" not in lines
    page = (ruled.home / "reports" / "rules.html").read_text(encoding="utf-8")
    assert "house: tail: what the boost costs" in page and page.count("<svg") == 1
    judged = max(ruled.lake.days("evaluation_report")) - dt.timedelta(days=14)
    assert str(judged) in page


@pytest.mark.parametrize(
    ("arguments", "text", "says"),
    [
        (("rules", "show"), "rule_sets: {a: [{name: x, kind: pim}]}", "pim"),
        (("rules", "simulate", "gone"), RULES % "x", "there is no rule set 'gone'; there are house, bold"),
        (("bootstrap",), "default: gone", "there is no rule set gone"),
        (("serve",), "default: gone", "there is no rule set gone"),
    ],
)
def test_wrong_rules_are_one_clear_line(ruled: Shop, tmp_path: Path, arguments: tuple[str, ...], text: str,
                                        says: str) -> None:  # fmt: skip
    (tmp_path / "rules.yaml").write_text(text, encoding="utf-8")
    run = ruled.run(*arguments)
    assert run.returncode == 1 and says in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1
