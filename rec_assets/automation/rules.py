"""`rec-assets rules`: what the rules say of today's catalog, and what they would have done to past lists."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rec_assets.assets.models_of_day import ranker_from, snapshot_without_models
from rec_assets.assets.rules import with_frequency_cap
from rec_assets.files import write_whole
from rec_assets.recsys.data.interactions import net_purchases
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.evaluation.evaluate import make_slices
from rec_assets.recsys.evaluation.sample import sample_customers
from rec_assets.recsys.rules.compiled import CompiledRules, compile_rules, unknown_products
from rec_assets.recsys.rules.page import DRAWN, Simulated, simulation_page
from rec_assets.recsys.rules.simulation import lists_by_rules, measure, trade_offs
from rec_assets.recsys.rules.spec import NONE, Rules, RulesError, read_rules
from rec_assets.resources.lake import Lake, MissingPartition
from rec_assets.resources.spark import spark_resource
from rec_assets.resources.storage import STAGING
from rec_assets.settings import Settings

Say = Callable[[str], None]


@dataclass(frozen=True)
class RuleRow:
    """One rule and today's catalog: how many products it hides, and what it names that isn't there."""

    rule_set: str
    name: str
    kind: str
    hidden: int
    unknown: list[str]


def inspect_rules(settings: Settings) -> list[RuleRow]:
    """Each rule beside the newest day's catalog.

    Raises:
        RulesError: the rules can't be used as they are.
        MissingPartition: there is no catalog yet.
    """
    rules, lake = read_rules(settings.rules), Lake(settings.lake)
    if not any(rules.sets.values()):
        return []
    days = lake.days("product_statistics")
    if not days:
        raise MissingPartition("product_statistics: nothing is in the lake yet: run `rec-assets bootstrap` first")
    state = _state(lake, days[-1])
    return [
        RuleRow(
            name, rule.name, rule.kind, int((~compile_rules(rules, name, state, only=rule.name).shown).sum()),
            unknown_products(rule, rules, state),
        )
        for name, rule_set in rules.sets.items()
        for rule in rule_set
    ]  # fmt: skip


def simulate(settings: Settings, wanted: list[str], say: Say) -> tuple[Simulated, Path]:
    """Arrange the candidates of the newest judged day by rule sets, by each of their rules alone, and by variants.

    Args:
        settings: Of the deployment.
        wanted: Names of rule sets; none: all.
        say: Told what goes on.

    Returns:
        What came of it, and where its page is.

    Raises:
        RulesError: the rules can't be used as they are, or have no such set.
        MissingPartition: nothing was judged yet, or its candidates are gone.
    """
    rules, lake = read_rules(settings.rules), Lake(settings.lake)
    chosen = _chosen(rules, wanted)
    judged = lake.days("evaluation_report")
    if not judged:
        raise MissingPartition("evaluation_report: nothing was judged yet: run `rec-assets bootstrap` first")
    day = judged[-1] - dt.timedelta(days=settings.horizon_days)
    state = _state(lake, day)
    books = {NONE: compile_rules(rules, NONE, state)}
    variants: dict[str, CompiledRules] = {}
    curves: dict[str, dict[tuple[int, float], str]] = {}
    for name in chosen:
        books[name] = compile_rules(rules, name, state)
        for rule in rules.sets[name]:
            alone = f"{name}: {rule.name}"
            if len(rules.sets[name]) > 1:
                books[alone] = compile_rules(rules, name, state, only=rule.name)
            if rule.kind == "favor":
                varied = trade_offs(compile_rules(rules, name, state, only=rule.name))
                curves[alone] = {point: f"{alone} {point}" for point in varied}
                variants |= {curves[alone][point]: book for point, book in varied.items()}
    say(f"as of {day}, by {len(books) + len(variants)} rulebooks; held against the purchases up to {judged[-1]}")

    spark = spark_resource(settings).spark_session
    after = [day + dt.timedelta(days=number) for number in range(1, settings.horizon_days + 1)]
    outcome = net_purchases(lake.spark(spark, "cleaned_interactions", after), judged[-1])
    sample = sample_customers(outcome, settings.judged_customers)
    if not sample.buyers:
        raise RulesError(
            f"nobody bought anything from {after[0]} to {after[-1]}: there is nothing to hold lists against"
        )
    candidates = sample.of(lake.spark(spark, "candidates", [day]))
    for book in {each.rests: each for each in books.values() if each.rests}.values():
        candidates = with_frequency_cap(candidates, book, lake, day)
    candidates = candidates.persist()
    version = lake.head("hybrid_scores", day, rows=1)["ranker_version"][0].as_py()
    ranker = ranker_from(lake.pandas("ranker", [version]))
    history = candidates.where("own_orders > 0").select("customer_id", "product_id", "customer_orders").toPandas()
    slices = make_slices(sample.bought.toPandas(), history, history.groupby("customer_id")["customer_orders"].first())
    lists = lists_by_rules(candidates, ranker, books, variants, settings.shared_disk / STAGING)
    price = pd.Series(state.price, index=state.product_ids)
    found = measure(lists, [*books, *variants], slices, price, len(state), seed=settings.recipe.seed)
    simulated = Simulated(
        as_of=day,
        until=judged[-1],
        customers=slices[0].truth["customer_id"].nunique(),
        table=found.loc[[*books]],
        curves={
            rule: pd.DataFrame(
                [
                    {"places": places, "most_loss": loss, **{name: found.at[label, name] for name in DRAWN}}
                    for (places, loss), label in points.items()
                ]
            )
            for rule, points in curves.items()
        },
    )
    path = settings.reports / "rules.html"
    write_whole(path, simulation_page(simulated))
    return simulated, path


def _chosen(rules: Rules, wanted: list[str]) -> list[str]:
    own = [name for name in rules.sets if name != NONE]
    if not own:
        raise RulesError("there are no rules: set REC_RULES to a YAML file (docs/rules.md)")
    for name in wanted:
        if name not in own:
            raise RulesError(f"there is no rule set {name!r}; there are {', '.join(own)}")
    return wanted or own


def _state(lake: Lake, day: dt.date) -> ProductSnapshot:
    return snapshot_without_models(day, lake.pandas("products"), lake.pandas("product_statistics", [day]))
