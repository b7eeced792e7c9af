"""Rules in the graph: lists, index and simulation of a shop whose merchandiser wrote some."""

import datetime as dt
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dagster import AssetSelection, DagsterInstance, Definitions, define_asset_job

from rec_assets.definitions import build_definitions
from rec_assets.recsys.rules.spec import PinRule, read_rules
from rec_assets.serving.folder import ServingFolder
from rec_assets.serving.recommender import Recommender
from rec_assets.serving.responder import RecommendationRequest, Responder
from rec_assets.settings import Settings
from rec_assets_tests.conftest import SMALL, BootstrappedShop, Shop

RULES = """
default: house
rule_sets:
  house:
    - {name: recalled, kind: never, products: {file: recalled.csv}}
    - {name: comes-back, kind: returns, cost: 1}
    - {name: tail, kind: favor, products: {slow_movers: 0.5}, places: 3, most_loss: 0.1}
    - {name: launch, kind: pin, product: "%s", place: 1}
    - {name: enough, kind: frequency_cap, most: 5}
  bold:
    - {name: tail, kind: favor, products: {slow_movers: 0.5}, places: 5, most_loss: 1}
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


def assert_by_rules(shop: Shop, file: Path, without: pd.DataFrame) -> pd.DataFrame:
    """The newest lists keep to the rules; returns them."""
    rules, lists = read_rules(file), shop.lake.pandas("hybrid_scores", shop.lake.days("hybrid_scores")[-1:])
    assert set(without["rules_version"]) == {""} and without["rule"].isna().all()
    assert set(lists["rules_version"]) == {rules.version("house")}
    assert set(lists["rule"].dropna()) == {"raised by rule comes-back", "boosted by rule tail", "pinned by rule launch"}
    (recalled,), pin = rules.lists["recalled.csv"].index, rules.sets["house"][3]
    assert isinstance(pin, PinRule)
    first = lists[(lists["rank"] == 1) & (lists["list"] == "all")]
    assert recalled in set(without["product_id"]) and recalled not in set(lists["product_id"])
    assert set(first["product_id"]) == {pin.product} and len(first) == without["customer_id"].nunique()
    assert (lists.groupby(["customer_id", "list"])["rank"].max() == 20).mean() > 0.9
    return lists


def test_lists_are_made_by_the_rules_and_checked_by_them(
    ruled: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SMALL.items():
        monkeypatch.setenv(name, value)
    built = build_definitions(Settings(home=ruled.home, source=str(ruled.source), rules=tmp_path / "rules.yaml"))
    job = define_asset_job("lists", AssetSelection.assets("hybrid_scores"))
    defs = Definitions(
        assets=built.assets, asset_checks=built.asset_checks, resources=built.resources, jobs=[job],
        executor=built.executor,
    )  # fmt: skip
    newest = max(ruled.lake.days("hybrid_scores"))
    without = ruled.lake.pandas("hybrid_scores", [newest])
    with DagsterInstance.ephemeral() as instance:
        made = defs.resolve_job_def("lists").execute_in_process(instance=instance, partition_key=str(newest))
    assert made.success
    (check,) = made.get_asset_check_evaluations()
    assert check.passed and "two full lists" in (check.description or "")
    assert_by_rules(ruled, tmp_path / "rules.yaml", without)


@pytest.mark.slow
def test_a_bootstrap_takes_the_rules_up_and_the_api_shows_its_lists(ruled: Shop, tmp_path: Path) -> None:
    lake, rules = ruled.lake, read_rules(tmp_path / "rules.yaml")
    days = lake.days("hybrid_scores")
    before, without = (
        {day: lake.fingerprint("hybrid_scores", [day]) for day in days},
        lake.pandas("hybrid_scores", days[-1:]),
    )
    run = ruled.run("bootstrap")
    assert run.returncode == 0, run.stderr[-3000:]
    assert {day for day in days if lake.fingerprint("hybrid_scores", [day]) != before[day]} == {days[-1]}
    lists = assert_by_rules(ruled, tmp_path / "rules.yaml", without)

    published = ServingFolder(ruled.home / "serving").current()
    assert published is not None and published.as_of == days[-1]
    recommender = Recommender.load(published.path)
    assert recommender.index.about["rules_version"] == rules.version("house")
    stored = Responder(recommender, rules=rules)
    live = Responder(Recommender(replace(recommender.index, lists={})), rules=rules)
    for customer in sorted(lists["customer_id"].unique())[::40]:
        wish = RecommendationRequest(k=20, customer_id=customer, rules="house")
        shown = [one.answer(wish, one.available(frozenset()), np.random.default_rng(1)) for one in (stored, live)]
        rows = lists[(lists["customer_id"] == customer) & (lists["list"] == "all")].sort_values("rank")
        batch = list(zip(rows["product_id"], rows["rule"].where(rows["rule"].notna(), None), strict=True))
        for answer in shown:
            assert [(each.product_id, each.rule) for each in answer.entries] == batch
    again = ruled.run("bootstrap")
    assert again.returncode == 0 and "hybrid_scores" not in again.stdout


@pytest.mark.slow
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
        (("rules", "simulate", "gone"), "rule_sets: {a: [], b: []}", "there is no rule set 'gone'; there are a, b"),
        (("bootstrap",), "default: gone", "there is no rule set gone"),
        (("serve",), "default: gone", "there is no rule set gone"),
    ],
)
def test_wrong_rules_are_one_clear_line(
    shop: BootstrappedShop, tmp_path: Path, arguments: tuple[str, ...], text: str, says: str
) -> None:
    (tmp_path / "rules.yaml").write_text(text, encoding="utf-8")
    settings = {**SMALL, "REC_RULES": str(tmp_path / "rules.yaml")}
    run = Shop(shop.home, shop.source, settings=settings).run(*arguments)
    assert run.returncode == 1 and says in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1
