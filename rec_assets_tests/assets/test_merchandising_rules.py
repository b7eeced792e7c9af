"""Merchandising rules in assets: the lists, serving index and simulation of a shop with rules."""

import datetime as dt
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dagster import AssetSelection, DagsterInstance, Definitions, define_asset_job

from rec_assets.definitions import build_definitions
from rec_assets.recsys.rules.rule_kinds import PinRule
from rec_assets.recsys.rules.rules_file import read_rules
from rec_assets.serving.index_files.folder import ServingFolder
from rec_assets.serving.recommendation import RecommendationRequest
from rec_assets.serving.recommender import Recommender
from rec_assets.serving.responder import Responder
from rec_assets.settings import Settings
from rec_assets_tests.conftest import SMALL, BootstrappedShop, Shop

RULES = """
default: house
rule_sets:
  house:
    - {name: recalled, kind: exclude, products: {file: recalled.csv}}
    - {name: comes-back, kind: returns_penalty, cost: 1}
    - {name: tail, kind: boost, products: {slow_movers: 0.5}, slots: 3, max_dcg_loss: 0.1}
    - {name: launch, kind: pin, product_id: "%s", rank: 1}
    - {name: enough, kind: frequency_cap, max_impressions: 5}
  bold:
    - {name: tail, kind: boost, products: {slow_movers: 0.5}, slots: 5, max_dcg_loss: 1}
"""


@pytest.fixture
def shop_with_rules(shop: BootstrappedShop, tmp_path: Path) -> Shop:
    """A copy of the shop with rules that exclude its best seller and pin the next one."""
    shutil.copytree(shop.home, tmp_path / "home")
    best = (
        shop.lake.table("product_statistics")
        .pandas(shop.lake.table("product_statistics").days[-1:])
        .sort_values("order_lines")
    )
    recalled, pinned = best["product_id"].iloc[-1], best["product_id"].iloc[-2]
    (tmp_path / "recalled.csv").write_text(f"product_id\n{recalled}\n", encoding="utf-8")
    (tmp_path / "rules.yaml").write_text(RULES % pinned, encoding="utf-8")
    settings = {**SMALL, "REC_RULES": str(tmp_path / "rules.yaml")}
    return Shop(tmp_path / "home", shop.source, settings=settings)


def assert_lists_follow_rules(shop: Shop, file: Path, without: pd.DataFrame) -> pd.DataFrame:
    """Assert that the newest lists follow the rules, and return the lists."""
    rules, lists = read_rules(file), shop.lake.table("hybrid_scores").pandas(shop.lake.table("hybrid_scores").days[-1:])
    assert set(without["rules_version"]) == {""} and without["rule"].isna().all()
    assert set(lists["rules_version"]) == {rules.version("house")}
    assert set(lists["rule"].dropna()) == {"raised by rule comes-back", "boosted by rule tail", "pinned by rule launch"}
    (recalled,), pin = rules.product_files["recalled.csv"].index, rules.sets["house"][3]
    assert isinstance(pin, PinRule)
    first = lists[(lists["rank"] == 1) & (lists["list"] == "all")]
    assert recalled in set(without["product_id"]) and recalled not in set(lists["product_id"])
    assert set(first["product_id"]) == {pin.product_id} and len(first) == without["customer_id"].nunique()
    assert (lists.groupby(["customer_id", "list"])["rank"].max() == 20).mean() > 0.9
    return lists


def test_lists_follow_the_rules_and_pass_the_check(
    shop_with_rules: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SMALL.items():
        monkeypatch.setenv(name, value)
    built = build_definitions(
        Settings(home=shop_with_rules.home, source=str(shop_with_rules.source), rules=tmp_path / "rules.yaml")
    )
    job = define_asset_job("lists", AssetSelection.assets("hybrid_scores"))
    defs = Definitions(
        assets=built.assets, asset_checks=built.asset_checks, resources=built.resources, jobs=[job],
        executor=built.executor,
    )  # fmt: skip
    newest = max(shop_with_rules.lake.table("hybrid_scores").days)
    without = shop_with_rules.lake.table("hybrid_scores").pandas([newest])
    with DagsterInstance.ephemeral() as instance:
        made = defs.resolve_job_def("lists").execute_in_process(instance=instance, partition_key=str(newest))
    assert made.success
    (check,) = made.get_asset_check_evaluations()
    assert check.passed and "two full lists" in (check.description or "")
    assert_lists_follow_rules(shop_with_rules, tmp_path / "rules.yaml", without)


@pytest.mark.slow
def test_a_bootstrap_applies_new_rules_and_the_api_returns_its_lists(shop_with_rules: Shop, tmp_path: Path) -> None:
    lake, rules = shop_with_rules.lake, read_rules(tmp_path / "rules.yaml")
    days = lake.table("hybrid_scores").days
    before, without = (
        {day: lake.table("hybrid_scores").fingerprint([day]) for day in days},
        lake.table("hybrid_scores").pandas(days[-1:]),
    )
    run = shop_with_rules.run("bootstrap")
    assert run.returncode == 0, run.stderr[-3000:]
    assert {day for day in days if lake.table("hybrid_scores").fingerprint([day]) != before[day]} == {days[-1]}
    lists = assert_lists_follow_rules(shop_with_rules, tmp_path / "rules.yaml", without)

    published = ServingFolder(shop_with_rules.home / "serving").current()
    assert published is not None and published.as_of == days[-1]
    recommender = Recommender.load(published.path)
    assert recommender.index.metadata["rules_version"] == rules.version("house")
    stored = Responder(recommender, rule_sets=rules)
    live = Responder(Recommender(replace(recommender.index, lists={})), rule_sets=rules)
    for customer in sorted(lists["customer_id"].unique())[::40]:
        request = RecommendationRequest(k=20, customer_id=customer, rules="house")
        shown = [
            one.build_response(request, one.available(frozenset()), np.random.default_rng(1)) for one in (stored, live)
        ]
        rows = lists[(lists["customer_id"] == customer) & (lists["list"] == "all")].sort_values("rank")
        batch = list(zip(rows["product_id"], rows["rule"].where(rows["rule"].notna(), None), strict=True))
        for answer in shown:
            assert [(each.product_id, each.rule) for each in answer.items] == batch
    again = shop_with_rules.run("bootstrap")
    assert again.returncode == 0 and "hybrid_scores" not in again.stdout


@pytest.mark.slow
def test_the_command_line_shows_and_simulates_rules(shop_with_rules: Shop) -> None:
    shown = shop_with_rules.run("rules", "show")
    assert shown.returncode == 0, shown.stderr[-3000:]
    assert "house (default)" in shown.stdout and "recalled" in shown.stdout
    run = shop_with_rules.run("rules", "simulate", "house")
    assert run.returncode == 0, run.stderr[-3000:]
    lines = {line.split("  ")[0]: line for line in run.stdout.splitlines()}
    assert {"none", "house", "house: recalled", "house: tail", "house: launch"} <= set(lines)
    assert "+0.0%" in lines["none"] and "bold" not in lines
    page = (shop_with_rules.home / "reports" / "rules.html").read_text(encoding="utf-8")
    assert "house: tail: cost of the boost" in page and page.count("<svg") == 1
    lists_as_of = max(shop_with_rules.lake.table("evaluation_report").days) - dt.timedelta(days=14)
    assert str(lists_as_of) in page


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "text", "message"),
    [
        (("rules", "show"), "rule_sets: {a: [{name: x, kind: pim}]}", "pim"),
        (("rules", "simulate", "gone"), "rule_sets: {a: [], b: []}", "there is no rule set 'gone'; there are a, b"),
        (("bootstrap",), "default: gone", "there is no rule set gone"),
        (("serve",), "default: gone", "there is no rule set gone"),
    ],
)
def test_invalid_rules_are_reported_in_one_line(
    shop: BootstrappedShop, tmp_path: Path, arguments: tuple[str, ...], text: str, message: str
) -> None:
    (tmp_path / "rules.yaml").write_text(text, encoding="utf-8")
    settings = {**SMALL, "REC_RULES": str(tmp_path / "rules.yaml")}
    run = Shop(shop.home, shop.source, settings=settings).run(*arguments)
    assert run.returncode == 1 and message in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1
