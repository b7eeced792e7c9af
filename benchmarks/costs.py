"""`python -m benchmarks.costs`: core-hours of each step per line, customer and product, for a shop of any size.

`speed` measures the steps of one as-of day on the demo and on ten times its households. The difference, divided by the
additional lines or customers, excludes the constant time of a step. The number of products is the same in both, so
their cost includes it.

Steps of constant size are excluded (the samples of the ranker and the report), and steps that `speed` does not run at
both sizes: the gate comparison, live accuracy and the serving index.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import click
import pandas as pd

RESULTS = Path(__file__).with_name("results") / "costs.csv"

Steps = Mapping[tuple[str, str], float]
"""Seconds by run and step."""

OF_DAY, OF_WINDOW, CUSTOMER, PAIR, PRODUCT = (
    "line of the day", "line of the window", "customer", "customer × product", "product",
)  # fmt: skip

GROWS_WITH = {
    ("ingest", "raw_purchase_logs"): OF_DAY,
    ("ingest", "clean_purchases"): OF_DAY,
    ("update_products", "products"): OF_WINDOW,
    ("train_models", "customer_histories"): OF_WINDOW,
    ("train_models", "product_statistics"): OF_WINDOW,
    ("train_models", "als_model"): OF_WINDOW,
    ("train_models", "co_purchase_graph"): OF_WINDOW,
    ("score_customers", "candidates"): PAIR,
    ("score_customers", "candidates_pairs_are_unique"): CUSTOMER,
    ("score_customers", "hybrid_scores"): CUSTOMER,
    ("score_customers", "hybrid_scores_lists_are_complete"): CUSTOMER,
    ("train_models", "product_snapshot"): PRODUCT,
    ("score_customers", "similar_products"): PRODUCT,
}
"""By job and step. Candidates count as if all their time were spent on pairs of customer and product, the upper limit;
similar products as if there were more categories, not larger ones."""

ALSO_WITHOUT_TRAINING = {"customer_histories", "product_statistics", "product_snapshot"}
"""Steps of `train_models` that `score_customers` takes on other days."""

ONE_PROCESS = {"product_snapshot"}
"""Steps without Spark."""


def write(demo: Steps, ten_times: Steps, demo_units: Mapping[str, int], ten_times_units: Mapping[str, int]) -> None:
    """Write results/costs.csv.

    Args:
        demo, ten_times: Seconds of one as-of day of each shop.
        demo_units, ten_times_units: Their lines, customers and products.
    """
    rows = []
    for (run, step), unit in GROWS_WITH.items():
        cores = 1 if step in ONE_PROCESS else os.cpu_count() or 1
        small, large = _count(unit, demo_units), _count(unit, ten_times_units)
        small_seconds, large_seconds = demo[run, step], ten_times[run, step]
        more_seconds = large_seconds - small_seconds
        seconds = small_seconds / small if unit == PRODUCT else more_seconds / (large - small)
        rows.append(
            {
                "run": run, "step": step, "grows_with": unit, "demo_units": small, "demo_seconds": small_seconds,
                "ten_times_units": large, "ten_times_seconds": large_seconds,
                "core_us_a_unit": round(cores * seconds * 1e6, 4),
            }
        )  # fmt: skip
    pd.DataFrame(rows).to_csv(RESULTS, index=False)


def _count(unit: str, units: Mapping[str, int]) -> int:
    return units["customer"] * units["product"] if unit == PAIR else units[unit.split()[0]]


def estimate(costs: pd.DataFrame, units: Mapping[str, float]) -> pd.DataFrame:
    """run, step, grows_with, units, core_hours, for a shop with these numbers of units."""
    estimates = costs[["run", "step", "grows_with"]].copy()
    estimates["units"] = costs["grows_with"].map(units)
    estimates["core_hours"] = estimates["units"] * costs["core_us_a_unit"] / 3.6e9
    return estimates


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--lines", type=float, default=1e8, help="Purchase lines a day.")
@click.option("--days", type=float, default=365, help="Days of the lookback.")
@click.option("--customers", type=float, default=1e8, help="Customers with a purchase in the lookback.")
@click.option("--products", type=float, default=1e7, help="Products.")
def main(lines: float, days: float, customers: float, products: float) -> None:
    """Print the core-hours of each step of a day for a shop of any size, from results/costs.csv of `bench-speed`."""
    units = {OF_DAY: lines, OF_WINDOW: lines * days, CUSTOMER: customers, PAIR: customers * products, PRODUCT: products}
    table = estimate(pd.read_csv(RESULTS), units)
    click.echo(table.to_markdown(index=False, floatfmt=",.1f", intfmt=","))
    trains = (table["run"] == "train_models") & ~table["step"].isin(ALSO_WITHOUT_TRAINING)
    for name, rows in (("any day", ~trains), ("and a day of training", trains)):
        click.echo(f"\n{name}: {table.loc[rows, 'core_hours'].sum():,.0f} core-hours")


if __name__ == "__main__":
    main()
