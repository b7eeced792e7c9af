"""`rec-assets rules`: the effect of merchandising rules on the newest catalog, and on past recommendation lists."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rec_assets.assets.active_rules import add_frequency_capped
from rec_assets.assets.model_loading import load_ranker
from rec_assets.files import write_atomically
from rec_assets.recsys.data.interactions import net_purchases
from rec_assets.recsys.data.snapshot_table import from_table
from rec_assets.recsys.evaluation.customer_sample import sample_customers
from rec_assets.recsys.evaluation.evaluate import make_slices
from rec_assets.recsys.rules.compiled import CompiledRules, compile_rules, unknown_products
from rec_assets.recsys.rules.rules_file import NO_RULE_SET, RulesError, RuleSets, read_rules
from rec_assets.recsys.rules.simulation import lists_by_rules, measure_rule_sets, trade_off_variants
from rec_assets.recsys.rules.simulation_page import CURVE_METRICS, SimulationResult, simulation_page
from rec_assets.resources.lake import MissingPartition, open_lake
from rec_assets.resources.product_snapshots import load_product_snapshot
from rec_assets.resources.spark import spark_resource
from rec_assets.settings import Settings


@dataclass(frozen=True)
class RuleEffect:
    """One rule and the newest catalog: how many products it hides, and which ids it names are not in the catalog."""

    rule_set: str
    name: str
    kind: str
    hidden: int
    unknown: list[str]


def inspect_rules(settings: Settings) -> list[RuleEffect]:
    """The effect of each rule on the newest catalog.

    Raises:
        RulesError: the rules file is invalid.
        MissingPartition: there is no catalog yet.
    """
    rules, lake = read_rules(settings.rules), open_lake(settings.lake)
    if not any(rules.sets.values()):
        return []
    days = lake.table("product_snapshot").days
    if not days:
        raise MissingPartition("product_snapshot: the table is empty: run `rec-assets bootstrap` first")
    snapshot = from_table(lake.table("product_snapshot").read(days[-1:]), days[-1])
    return [
        RuleEffect(
            name, rule.name, rule.kind, int((~compile_rules(rules, name, snapshot, only=rule.name).visible).sum()),
            unknown_products(rule, rules, snapshot),
        )
        for name, rule_set in rules.sets.items()
        for rule in rule_set
    ]  # fmt: skip


def simulate_rules(
    settings: Settings, rule_sets: list[str], log: Callable[[str], None]
) -> tuple[SimulationResult, Path]:
    """Re-rank the candidates of the newest evaluated day with rule sets, with each rule alone, and with its variants.

    If `rule_sets` is empty, simulate all. Returns the results, and the path of their page.

    Raises:
        RulesError: the rules file is invalid, or has no such rule set.
        MissingPartition: no day was evaluated yet, or its candidates were deleted.
    """
    rules, lake = read_rules(settings.rules), open_lake(settings.lake)
    chosen = _choose_rule_sets(rules, rule_sets)
    evaluated_days = lake.table("evaluation_report").days
    if not evaluated_days:
        raise MissingPartition("evaluation_report: no day was evaluated yet: run `rec-assets bootstrap` first")
    until = evaluated_days[-1]
    day = until - dt.timedelta(days=settings.horizon_days)
    snapshot = load_product_snapshot(lake.table("product_snapshot"), day, settings.staging)
    compiled = {NO_RULE_SET: compile_rules(rules, NO_RULE_SET, snapshot)}
    variants: dict[str, CompiledRules] = {}
    curves: dict[str, dict[tuple[int, float], str]] = {}
    for name in chosen:
        compiled[name] = compile_rules(rules, name, snapshot)
        for rule in rules.sets[name]:
            alone = f"{name}: {rule.name}"
            if len(rules.sets[name]) > 1:
                compiled[alone] = compile_rules(rules, name, snapshot, only=rule.name)
            if points := trade_off_variants(compile_rules(rules, name, snapshot, only=rule.name)):
                curves[alone] = {point: f"{alone} {point}" for point in points}
                variants |= {curves[alone][point]: variant for point, variant in points.items()}
    log(f"as of {day}, with {len(compiled) + len(variants)} sets of rules; evaluated on the purchases up to {until}")

    spark = spark_resource(settings).spark_session
    label_days = [day + dt.timedelta(days=number) for number in range(1, settings.horizon_days + 1)]
    labels = net_purchases(lake.table("cleaned_interactions").spark(spark, label_days), until)
    sample = sample_customers(labels, settings.evaluation_customers)
    if not sample.buyers:
        raise RulesError(f"there are no purchases from {label_days[0]} to {label_days[-1]} to evaluate lists on")
    candidates = sample.select_from(lake.table("candidates").spark(spark, [day]))
    capped = {each.frequency_cap_column: each for each in compiled.values() if each.frequency_cap_column}
    for rules_with_cap in capped.values():
        candidates = add_frequency_capped(candidates, rules_with_cap, lake, day)
    candidates = candidates.persist()
    ranker_as_of = lake.table("hybrid_scores").head(day, rows=1)["ranker_as_of"][0].as_py()
    ranker = load_ranker(lake.table("ranker").pandas([ranker_as_of]))
    history = (
        candidates.where("repeat_order_lines > 0").select("customer_id", "product_id", "customer_orders").toPandas()
    )
    orders = history.groupby("customer_id")["customer_orders"].first()
    slices = make_slices(sample.purchases.toPandas(), history, orders)
    lists = lists_by_rules(candidates, ranker, compiled, variants, settings.staging)
    price = pd.Series(snapshot.price, index=snapshot.product_ids)
    metrics = measure_rule_sets(lists, [*compiled, *variants], slices, price, len(snapshot), seed=settings.recipe.seed)

    def curve(points: dict[tuple[int, float], str]) -> pd.DataFrame:
        rows = metrics.loc[list(points.values()), list(CURVE_METRICS)].reset_index(drop=True)
        return pd.DataFrame(list(points), columns=["slots", "max_dcg_loss"]).join(rows)

    simulated = SimulationResult(
        as_of=day, until=until, customers=slices[0].truth["customer_id"].nunique(), table=metrics.loc[[*compiled]],
        curves={rule: curve(points) for rule, points in curves.items()},
    )  # fmt: skip
    path = settings.reports / "rules.html"
    write_atomically(path, simulation_page(simulated))
    return simulated, path


def _choose_rule_sets(rules: RuleSets, rule_sets: list[str]) -> list[str]:
    existing = [name for name in rules.sets if name != NO_RULE_SET]
    if not existing:
        raise RulesError("there are no rules: set REC_RULES to a YAML file (docs/rules.md)")
    for name in rule_sets:
        if name not in existing:
            raise RulesError(f"there is no rule set {name!r}; there are {', '.join(existing)}")
    return rule_sets or existing
