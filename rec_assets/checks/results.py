"""Checks on what may be shown, and released, and on what is told of it: the groups from `recommendations` on."""

import datetime as dt
from collections.abc import Sequence

import pandas as pd
from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    ResourceParam,
    asset_check,
)
from pyspark.sql import DataFrame as SparkFrame

from rec_assets.assets.models_of_day import ranker_from
from rec_assets.assets.rules import default_rules, with_frequency_cap
from rec_assets.checks.days import as_of, checked_days
from rec_assets.recsys.evaluation.evaluate import ALL
from rec_assets.recsys.evaluation.kpis import KPIS
from rec_assets.recsys.evaluation.live import control_band
from rec_assets.recsys.evaluation.verdict import verdict
from rec_assets.recsys.ranking.hybrid import LISTS
from rec_assets.resources.lake import Lake
from rec_assets.resources.releases import Releases
from rec_assets.resources.spark import SparkResource
from rec_assets.settings import Settings


def result_checks(settings: Settings) -> list[AssetChecksDefinition]:
    """The checks of both groups."""

    @asset_check(
        asset="hybrid_scores", blocking=True,
        description="Every customer with candidates has two lists, as full as the rules allow: no product twice, none "
        "excluded or hidden by a rule, nothing bought before in `discover`.",
    )  # fmt: skip
    def lists_are_complete(
        context: AssetCheckExecutionContext, lake: ResourceParam[Lake], spark: SparkResource
    ) -> AssetCheckResult:
        day, session = as_of(context, lake), spark.spark_session
        lists, pairs = (lake.spark(session, table, [day]) for table in ("hybrid_scores", "candidates"))
        products = lake.pandas("products")
        book = default_rules(settings, day, products, lake.pandas("product_statistics", [day]))
        hidden = [*products.loc[products["excluded"], "product_id"], *book.product_ids[~book.shown]]
        if book.frequency_cap is not None:
            pairs = with_frequency_cap(pairs, book, lake, day).where(f"not {book.rests}")
        customers, problems = list_problems(lists, pairs, hidden, settings.recipe.list_size)
        # Whether there may be no candidates is said by the check of these.
        expected = lake.rows("candidates", [day]) > 0
        if _made_by(lake, day) != book.version:  # the rules have changed since
            problems = {name: count for name, count in problems.items() if "twice" in name}
        found = [f"{count} {problem}" for problem, count in problems.items() if count]
        return AssetCheckResult(
            passed=not found and (customers > 0 or not expected),
            description="; ".join(found) or f"{customers} customers with two full lists",
            metadata=problems,
        )

    @asset_check(asset="similar_products", description="No product is similar to itself, none excluded.")
    def similar_products_differ(context: AssetCheckExecutionContext, lake: ResourceParam[Lake]) -> AssetCheckResult:
        rows = lake.pandas("similar_products", [as_of(context, lake)], columns=["product_id", "similar_product_id"])
        products = lake.pandas("products", columns=["product_id", "excluded"])
        loops = int((rows["product_id"] == rows["similar_product_id"]).sum())
        banned = int(rows["similar_product_id"].isin(products.loc[products["excluded"], "product_id"]).sum())
        return AssetCheckResult(
            passed=loops == 0 and banned == 0,
            description=f"{len(rows)} pairs, {loops} with itself, {banned} with an excluded product",
        )

    @asset_check(
        asset="evaluation_report", blocking=True,
        description="NDCG@10 of the hybrid over all purchases is not below the best baseline's, by paired interval; "
        "blocks the first release, and only warns where a release is in force, or the lists are by rules or by the "
        "fixed blend. It says nothing where nobody can be judged.",
    )  # fmt: skip
    def hybrid_beats_the_baselines(
        context: AssetCheckExecutionContext, lake: ResourceParam[Lake], releases: ResourceParam[Releases]
    ) -> AssetCheckResult:
        day = as_of(context, lake)
        report = lake.pandas("evaluation_report", [day])
        judged = day - dt.timedelta(days=settings.horizon_days)
        is_difference = report["baseline"].notna()
        found = verdict(report[~is_difference], report[is_difference], ALL)
        if found is None:
            return AssetCheckResult(
                passed=True,
                description=f"nobody with a history on {judged} bought anything up to {day}: nothing to judge by",
            )
        # What a merchandiser wants may cost accuracy; a blend that nothing was learned for promises none.
        promises = not _made_by(lake, judged) and _was_learned(lake, judged)
        # It speaks of the lists of a horizon ago; whether newer models replace theirs is the gate's decision.
        in_force = releases.in_force(day - dt.timedelta(days=1)) is not None
        return AssetCheckResult(
            passed=found.outcome != "behind",
            severity=AssetCheckSeverity.ERROR if promises and not in_force else AssetCheckSeverity.WARN,
            description=f"NDCG@10: hybrid {found.value:.4f}; best baseline {found.baseline} {found.baseline_value:.4f}"
            f"; difference {found.difference:+.4f} [{found.ci_low:+.4f}, {found.ci_high:+.4f}]",
            metadata={"hybrid": found.value, "best_baseline": found.baseline_value},
        )

    @asset_check(asset="live_accuracy", description="The hit rate lies in the control band of the days before.")
    def hit_rate_is_usual(context: AssetCheckExecutionContext, lake: ResourceParam[Lake]) -> AssetCheckResult:
        day = as_of(context, lake)
        rates = lake.pandas("live_accuracy", lake.days("live_accuracy")).set_index("date")["hit_rate"].sort_index()
        band, rate = control_band(rates[rates.index < day]), float(rates[day])
        return AssetCheckResult(
            passed=band is None or band.holds(rate) or rate != rate,
            severity=AssetCheckSeverity.WARN,
            description=f"{day}: {rate:.3f}; "
            + (f"usual is {band.low:.3f} to {band.high:.3f}" if band else "too few days before to say what is usual"),
        )

    @asset_check(asset="business_kpis", description="No figure is negative, and no share but of returns above 1.")
    def figures_are_possible(context: AssetCheckExecutionContext, lake: ResourceParam[Lake]) -> AssetCheckResult:
        wrong = []
        for day in checked_days(context, lake):
            for name, value in lake.pandas("business_kpis", [day]).set_index("kpi")["value"].dropna().items():
                of_flows = str(name).startswith("return_rate")  # what comes back was bought earlier
                if value < 0 or (KPIS[str(name)].unit == "share" and value > 1 and not of_flows):
                    wrong.append(f"{day}: {name} {value:.3f}")
        return AssetCheckResult(
            passed=not wrong,
            severity=AssetCheckSeverity.WARN,
            description="; ".join(wrong[:5]) or "every figure is possible",
        )

    @asset_check(asset="experiment_report", description="No experiment is invalid, and none of its variants worse.")
    def experiments_are_sound(context: AssetCheckExecutionContext, lake: ResourceParam[Lake]) -> AssetCheckResult:
        rows = lake.pandas("experiment_report", [as_of(context, lake)]).drop_duplicates(["experiment", "variant"])
        bad = rows[rows["verdict"].isin(["invalid", "worse"])]
        return AssetCheckResult(
            passed=bad.empty,
            severity=AssetCheckSeverity.WARN,
            description="; ".join(f"{each.experiment}, {each.variant}: {each.says}" for each in bad.itertuples())
            or f"{len(rows)} comparisons, none invalid or worse",
        )

    return [
        lists_are_complete,
        similar_products_differ,
        hybrid_beats_the_baselines,
        hit_rate_is_usual,
        figures_are_possible,
        experiments_are_sound,
    ]


def _made_by(lake: Lake, day: dt.date) -> str:
    """The version of the rules that a day's lists were made by; "" of none."""
    head = lake.head("hybrid_scores", day, rows=1)
    return next(iter(head["rules_version"].to_pylist()), "") if "rules_version" in head.column_names else ""


def _was_learned(lake: Lake, day: dt.date) -> bool:
    """Whether the ranker of a day's lists had anything to learn from."""
    head = lake.head("hybrid_scores", day, rows=1).to_pylist()
    version = head[0]["ranker_version"] if head else None
    return version is None or ranker_from(lake.pandas("ranker", [version])).is_learned


def list_problems(lists: SparkFrame, pairs: SparkFrame, hidden: Sequence[str], size: int) -> tuple[int, dict[str, int]]:
    """Customers with candidates, and how often lists have which fault; all counted in Spark.

    Args:
        lists: hybrid_scores of a day.
        pairs: candidates of that day, but for those that rest.
        hidden: product_ids of what may not be shown.
        size: Length of a list. One is full when it is that long, or as long as the customer's candidates allow.
    """
    from pyspark.sql import functions as F

    bought = F.col("own_orders") > 0
    banned = lists.sparkSession.createDataFrame(pd.DataFrame({"product_id": hidden}), "product_id string")
    possible = (
        pairs.join(F.broadcast(banned), "product_id", "left_anti")
        .groupBy("customer_id")
        .agg(F.count("*").alias("possible_all"), F.count(F.when(~bought, 1)).alias("possible_discover"))
    )
    made = lists.groupBy("customer_id").agg(
        *(F.count(F.when(F.col("list") == name, 1)).alias(f"made_{name}") for name in LISTS),
        *(
            (F.count("*") - F.countDistinct("list", column)).alias(f"{column}_again")
            for column in ("product_id", "rank")
        ),
    )
    both = possible.join(made, "customer_id", "full_outer").fillna(0)
    counts = both.agg(
        F.count("*").alias("customers"),
        *(
            F.sum((F.col(f"made_{name}") < F.least(F.col(f"possible_{name}"), F.lit(size))).cast("long")).alias(name)
            for name in LISTS
        ),
        *(F.sum(f"{column}_again").alias(column) for column in ("product_id", "rank")),
    ).collect()[0]
    discover = lists.where(F.col("list") == "discover").join(pairs.where(bought), ["customer_id", "product_id"])
    return counts["customers"], {
        **{f"{name} lists too short": counts[name] or 0 for name in LISTS},
        "products twice in a list": counts["product_id"] or 0,
        "ranks twice in a list": counts["rank"] or 0,
        "excluded or hidden products shown": lists.join(F.broadcast(banned), "product_id").count(),
        "bought products in discover": discover.count(),
    }
