"""Checks on the groups `recommendations`, `evaluation` and `release`: what may be shown, and released."""

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    ResourceParam,
    asset_check,
)

from rec_assets.assets.evaluation import HYBRID
from rec_assets.checks.days import as_of
from rec_assets.recsys.evaluation.judge import ALL, HEADLINE_K, HEADLINE_METRIC
from rec_assets.recsys.evaluation.live import control_band
from rec_assets.resources.lake import Lake
from rec_assets.settings import Settings


def result_checks(settings: Settings) -> list[AssetChecksDefinition]:
    """The checks of both groups."""

    @asset_check(
        asset="hybrid_scores", blocking=True,
        description="Every customer with candidates has two full lists: no product twice, none excluded, nothing "
        "bought before in `discover`.",
    )  # fmt: skip
    def lists_are_complete(context: AssetCheckExecutionContext, lake: ResourceParam[Lake]) -> AssetCheckResult:
        day = as_of(context, lake)
        lists = lake.pandas("hybrid_scores", [day], columns=["customer_id", "list", "rank", "product_id"])
        pairs = lake.pandas("candidates", [day], columns=["customer_id", "product_id", "own_orders"])
        products = lake.pandas("products", columns=["product_id", "excluded"])
        bought = pairs[pairs["own_orders"] > 0]
        # A list is full when it is as long as asked for, or as the customer's candidates allow.
        possible = {
            "all": pairs.groupby("customer_id").size(),
            "discover": pairs[~(pairs["own_orders"] > 0)].groupby("customer_id").size(),
        }
        short = {}
        for name, count in possible.items():
            length = lists[lists["list"] == name].groupby("customer_id").size().reindex(count.index).fillna(0)
            short[name] = int((length < count.clip(upper=settings.recipe.list_size)).sum())
        discover = lists[lists["list"] == "discover"].merge(bought, on=["customer_id", "product_id"])
        problems = {
            **{f"{name} lists too short": count for name, count in short.items()},
            "products twice in a list": int(lists.duplicated(["customer_id", "list", "product_id"]).sum()),
            "ranks twice in a list": int(lists.duplicated(["customer_id", "list", "rank"]).sum()),
            "excluded products shown": int(
                lists["product_id"].isin(products.loc[products["excluded"], "product_id"]).sum()
            ),
            "bought products in discover": len(discover),
        }
        found = [f"{count} {problem}" for problem, count in problems.items() if count]
        return AssetCheckResult(
            passed=not found and len(lists) > 0,
            description="; ".join(found) or f"{lists['customer_id'].nunique()} customers with two full lists",
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
        description="NDCG@10 of the hybrid over all purchases is not below the best baseline's, by paired interval.",
    )  # fmt: skip
    def hybrid_beats_the_baselines(context: AssetCheckExecutionContext, lake: ResourceParam[Lake]) -> AssetCheckResult:
        report = lake.pandas("evaluation_report", [as_of(context, lake)])
        scores = report[
            (report["slice"] == ALL) & (report["metric"] == HEADLINE_METRIC) & (report["k"] == HEADLINE_K)
        ].set_index("model")["value"]
        hybrid, baselines = scores[HYBRID], scores.drop(HYBRID)
        best = str(baselines.idxmax())
        difference = report[(report["slice"] == ALL) & (report["baseline"] == best)].iloc[0]
        return AssetCheckResult(
            passed=bool(difference["ci_high"] >= 0),
            description=f"NDCG@10: hybrid {hybrid:.4f}; best baseline {best} {baselines[best]:.4f}; difference "
            f"{difference['value']:+.4f} [{difference['ci_low']:+.4f}, {difference['ci_high']:+.4f}]",
            metadata={"hybrid": float(hybrid), "best_baseline": float(baselines[best])},
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

    @asset_check(asset="release_gate", blocking=True, description="The challenger holds every rule of the gate.")
    def challenger_passes(context: AssetCheckExecutionContext, lake: ResourceParam[Lake]) -> AssetCheckResult:
        rules = lake.pandas("release_gate", [as_of(context, lake)])
        broken = rules.loc[~rules["passed"], "says"].tolist()
        return AssetCheckResult(
            passed=not broken,
            description=f"version {rules['version'].iloc[0]}: " + ("; ".join(broken) or "every rule holds"),
        )

    return [
        lists_are_complete,
        similar_products_differ,
        hybrid_beats_the_baselines,
        hit_rate_is_usual,
        challenger_passes,
    ]
