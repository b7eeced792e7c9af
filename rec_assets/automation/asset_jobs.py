"""The jobs of the assets: named selections, each run in one process with one Spark session.

Dagster: `define_asset_job` does all the work. This module only lists what to select.
"""

from __future__ import annotations

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from rec_assets.settings import Settings

JOBS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ingest_catalog": ("Read the newest catalog file.", ("raw_product_catalog", "catalog_ids")),
    "ingest": (
        "Read and clean the landed files of a day or of a range of days.",
        ("raw_purchase_logs", "raw_feedback_events", "experiment_exposures", "cleaned_interactions",
         "rejected_purchases"),
    ),
    "update_products": (
        "Update the products, embed new texts and look up their neighbors.",
        ("products", "product_embeddings", "similar_texts"),
    ),
    "train_retrieval": (
        "Choose the recipe for a shop, train the retrieval models of a day, and generate its candidates with them.",
        ("customer_histories", "product_statistics", "recipe", "als_model", "co_purchase_graph", "product_snapshot",
         "candidates"),
    ),
    "generate_candidates": (
        "Generate the candidates of a day with the active models.",
        ("customer_histories", "product_statistics", "product_snapshot", "candidates"),
    ),
    "train_models": (
        "Choose the recipe for a shop, train the models of a day, and update its product snapshot, with which the "
        "release gate compares models. The ranker trains on the candidates of one horizon ago.",
        ("customer_histories", "product_statistics", "recipe", "als_model", "co_purchase_graph", "product_snapshot",
         "ranker"),
    ),
    "score_customers": (
        "Generate the candidates of a day with the active models and rank them into each customer's lists.",
        ("customer_histories", "product_statistics", "product_snapshot", "candidates", "hybrid_scores",
         "similar_products"),
    ),
    "measure_live_accuracy": (
        "Measure which recommendations of the newest earlier lists were bought on the day.",
        ("live_accuracy",),
    ),
    "evaluate": ("Compare the lists of one horizon ago with the baselines.", ("evaluation_report",)),
    "release": (
        "Register the newest eligible models as challenger, compare it with the champion, and promote it if it passes "
        "the release gate.",
        ("challenger", "release_gate", "champion"),
    ),
    "publish_index": (
        "Publish the champion and the product snapshot of a day to the API.",
        ("serving_index",),
    ),
    "report_kpis": (
        "Compute the business KPIs and the experiment report of a day or of a range of days.",
        ("business_kpis", "experiment_report"),
    ),
    "tune": ("Search for a better recipe with backtests. A killed run keeps its trials.", ("tuned_recipe",)),
}  # fmt: skip
"""Name → description, and the assets to materialize."""

EXPORT = "export"
"""The job that exports the lists to a SQL table, if the settings name a database."""

CHECK_LANDING = "check_landing"
"""The job that runs one asset check alone."""


def build_asset_jobs(settings: Settings) -> list[UnresolvedAssetJobDefinition | dg.JobDefinition]:
    """The jobs for the UI and for the plans of `plan.py`. Jobs of partitioned assets need a day."""
    check = dg.AssetCheckKey(dg.AssetKey("raw_purchase_logs"), "purchases_land_on_time")
    selections: list[tuple[str, str, dg.AssetSelection]] = [
        *((name, text, dg.AssetSelection.assets(*assets)) for name, (text, assets) in JOBS.items()),
        *(
            [(EXPORT, "Write the lists of a day to the SQL table.", dg.AssetSelection.assets("recommendations_export"))]
            if settings.export.url
            else []
        ),
        (CHECK_LANDING, "Check whether a day is overdue.", dg.AssetSelection.checks(check)),
    ]
    return [
        dg.define_asset_job(name, selection, description=text, executor_def=dg.in_process_executor)
        for name, text, selection in selections
    ]
