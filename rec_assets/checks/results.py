"""Checks on the groups `recommendations`, `evaluation`, `business` and `experiments`: lists, metrics and KPIs."""

import datetime as dt
from collections.abc import Sequence

import dagster as dg
import pandas as pd
from pyspark.sql import DataFrame as SparkFrame

from rec_assets.assets.active_rules import active_rules, add_frequency_capped
from rec_assets.assets.model_loading import load_ranker
from rec_assets.checks.days import checked_days, newest_day
from rec_assets.recsys.evaluation.evaluate import ALL_PURCHASES, baseline_verdict
from rec_assets.recsys.evaluation.kpis import KPIS
from rec_assets.recsys.evaluation.live import control_band
from rec_assets.recsys.ranking.lists import LISTS
from rec_assets.resources.lake import Lake
from rec_assets.resources.product_snapshots import load_product_snapshot
from rec_assets.resources.releases import Releases
from rec_assets.resources.spark import SparkResource
from rec_assets.settings import Settings


def result_checks(settings: Settings) -> list[dg.AssetChecksDefinition]:
    """The checks of these groups."""

    @dg.asset_check(
        asset="hybrid_scores", blocking=True,
        description="Every customer with candidates has two lists, as long as the rules allow. No list has a product "
        "twice, or an excluded or hidden product; `discover` has no product that the customer bought in the lookback.",
    )  # fmt: skip
    def lists_are_complete(
        context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake], spark: SparkResource
    ) -> dg.AssetCheckResult:
        day, session = newest_day(context, lake), spark.spark_session
        lists, pairs = (lake.table(table).spark(session, [day]) for table in ("hybrid_scores", "candidates"))
        products = lake.table("products").pandas(columns=["product_id", "excluded"])
        snapshot = load_product_snapshot(lake.table("product_snapshot"), day, settings.staging)
        rules = active_rules(settings, snapshot)
        hidden = [*products.loc[products["excluded"], "product_id"], *rules.product_ids[~rules.visible]]
        if rules.frequency_cap is not None:
            pairs = add_frequency_capped(pairs, rules, lake, day).where(f"not {rules.frequency_cap_column}")
        customers, problems = find_list_problems(lists, pairs, hidden, settings.recipe.list_size)
        # Another check verifies that there are candidates.
        expected = lake.table("candidates").rows([day]) > 0
        if _rules_version(lake, day) != rules.version:  # the rules have changed since
            problems = {name: count for name, count in problems.items() if "twice" in name}
        faults = [f"{count} {problem}" for problem, count in problems.items() if count]
        return dg.AssetCheckResult(
            passed=not faults and (customers > 0 or not expected),
            description="; ".join(faults) or f"{customers} customers with two full lists",
            metadata=problems,
        )

    @dg.asset_check(asset="similar_products", description="No product is similar to itself or to an excluded product.")
    def similar_products_differ(
        context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]
    ) -> dg.AssetCheckResult:
        day, columns = newest_day(context, lake), ["product_id", "similar_product_id"]
        rows = lake.table("similar_products").pandas([day], columns=columns)
        products = lake.table("products").pandas(columns=["product_id", "excluded"])
        loops = int((rows["product_id"] == rows["similar_product_id"]).sum())
        banned = int(rows["similar_product_id"].isin(products.loc[products["excluded"], "product_id"]).sum())
        return dg.AssetCheckResult(
            passed=loops == 0 and banned == 0,
            description=f"{len(rows)} pairs, {loops} of a product with itself, {banned} with an excluded product",
        )

    @dg.asset_check(
        asset="evaluation_report", blocking=True,
        description="NDCG@10 of the hybrid on all purchases is not below that of the best baseline, by the paired "
        "confidence interval. Blocks the first release. Only warns if a release is active, or if rules or the fixed "
        "blend made the lists. Passes if no customer can be evaluated.",
    )  # fmt: skip
    def hybrid_beats_the_baselines(
        context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake], releases: dg.ResourceParam[Releases]
    ) -> dg.AssetCheckResult:
        day = newest_day(context, lake)
        report = lake.table("evaluation_report").pandas([day])
        lists_day = day - dt.timedelta(days=settings.horizon_days)
        is_difference = report["baseline"].notna()
        result = baseline_verdict(report[~is_difference], report[is_difference], ALL_PURCHASES)
        if result is None:
            return dg.AssetCheckResult(
                passed=True,
                description=f"no customer with a history on {lists_day} has purchases up to {day}: nothing to evaluate",
            )
        # Merchandising rules may cost accuracy, and the fixed blend was not trained for it.
        is_trained = not _rules_version(lake, lists_day) and _has_trained_ranker(lake, lists_day)
        # The lists are of one horizon ago. Once there is a release, the gate decides about newer models.
        has_release = releases.active(day - dt.timedelta(days=1)) is not None
        return dg.AssetCheckResult(
            passed=result.outcome != "behind",
            severity=dg.AssetCheckSeverity.ERROR if is_trained and not has_release else dg.AssetCheckSeverity.WARN,
            description=f"NDCG@10: hybrid {result.value:.4f}; "
            f"best baseline {result.baseline} {result.baseline_value:.4f}; "
            f"difference {result.difference:+.4f} [{result.ci_low:+.4f}, {result.ci_high:+.4f}]",
            metadata={"hybrid": result.value, "best_baseline": result.baseline_value},
        )

    @dg.asset_check(asset="live_accuracy", description="The hit rate is in the control band of the earlier days.")
    def hit_rate_is_in_control_band(
        context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]
    ) -> dg.AssetCheckResult:
        day, table = newest_day(context, lake), lake.table("live_accuracy")
        rates = table.pandas(table.days).set_index("date")["hit_rate"].sort_index()
        band, rate = control_band(rates[rates.index < day]), float(rates[day])
        return dg.AssetCheckResult(
            passed=band is None or band.contains(rate) or rate != rate,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{day}: {rate:.3f}; "
            + (f"control band {band.low:.3f} to {band.high:.3f}" if band else "too few days for a control band"),
        )

    @dg.asset_check(asset="business_kpis", description="No KPI is negative, no share above 1 (except the return rate).")
    def kpis_are_plausible(context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
        wrong = []
        for day in checked_days(context, lake):
            for name, value in lake.table("business_kpis").pandas([day]).set_index("kpi")["value"].dropna().items():
                is_return_rate = str(name).startswith("return_rate")  # returns may be of earlier purchases
                if value < 0 or (KPIS[str(name)].unit == "share" and value > 1 and not is_return_rate):
                    wrong.append(f"{day}: {name} {value:.3f}")
        return dg.AssetCheckResult(
            passed=not wrong,
            severity=dg.AssetCheckSeverity.WARN,
            description="; ".join(wrong[:5]) or "all KPIs are plausible",
        )

    @dg.asset_check(asset="experiment_report", description="No experiment is invalid, no variant worse than control.")
    def experiments_are_valid(
        context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]
    ) -> dg.AssetCheckResult:
        rows = lake.table("experiment_report").pandas([newest_day(context, lake)])
        rows = rows.drop_duplicates(["experiment", "variant"])
        bad = rows[rows["verdict"].isin(["invalid", "worse"])]
        return dg.AssetCheckResult(
            passed=bad.empty,
            severity=dg.AssetCheckSeverity.WARN,
            description="; ".join(f"{row.experiment}, {row.variant}: {row.message}" for row in bad.itertuples())
            or f"{len(rows)} comparisons, none invalid or worse",
        )

    return [lists_are_complete, similar_products_differ, hybrid_beats_the_baselines, hit_rate_is_in_control_band,
            kpis_are_plausible, experiments_are_valid]  # fmt: skip


def _rules_version(lake: Lake, day: dt.date) -> str:
    """The version of the merchandising rules that made the lists of a day; "" without rules."""
    return next(iter(lake.table("hybrid_scores").head(day, rows=1)["rules_version"].to_pylist()), "")


def _has_trained_ranker(lake: Lake, day: dt.date) -> bool:
    """Whether a trained ranker made the lists of a day, and not the fixed blend."""
    head = lake.table("hybrid_scores").head(day, rows=1).to_pylist()
    as_of = head[0]["ranker_as_of"] if head else None
    return as_of is None or load_ranker(lake.table("ranker").pandas([as_of])).is_trained


def find_list_problems(
    lists: SparkFrame, pairs: SparkFrame, hidden: Sequence[str], size: int
) -> tuple[int, dict[str, int]]:
    """The number of customers with candidates, and the number of faults of each kind; all counted in Spark.

    Args:
        lists: hybrid_scores of a day.
        pairs: candidates of that day, without frequency-capped ones.
        hidden: product_ids that rules or the catalog exclude.
        size: Length of a list. A shorter list is complete if the customer has no more candidates.
    """
    from pyspark.sql import functions as F

    bought = F.col("repeat_order_lines") > 0
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
