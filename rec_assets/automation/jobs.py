"""The jobs: named selections of assets, each run in one process with one Spark session."""

from __future__ import annotations

from dagster import AssetSelection, JobDefinition, define_asset_job, in_process_executor
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

JOBS: dict[str, tuple[str, tuple[str, ...]]] = {
    "catalog": ("Read the newest catalog feed.", ("raw_product_catalog",)),
    "ingest": (
        "Read and clean what landed, for a day or a range of days.",
        (
            "raw_purchase_logs",
            "raw_feedback_events",
            "experiment_exposures",
            "cleaned_interactions",
            "rejected_purchases",
        ),
    ),
    "refresh_products": (
        "Refresh products and embed texts never seen before.",
        ("products", "product_embeddings"),
    ),
    "learn": (
        "Learn what is known on a day and find its candidates.",
        ("product_statistics", "als_model", "co_purchase_graph", "candidates"),
    ),
    "find": ("Find a day's candidates with the models in force.", ("product_statistics", "candidates")),
    "train": (
        "Train the models of a day; the ranker learns from the candidates of a horizon ago.",
        ("als_model", "co_purchase_graph", "ranker"),
    ),
    "score": (
        "Find a day's candidates and rank them with the models in force into everybody's lists.",
        ("product_statistics", "candidates", "hybrid_scores", "similar_products"),
    ),
    "watch": ("Measure how much of what was shown yesterday was bought today.", ("live_accuracy",)),
    "evaluate": ("Judge the lists of a horizon ago beside the baselines.", ("evaluation_report",)),
    "release": (
        "Propose the newest models that can be judged, judge them beside the champion, promote them if they pass.",
        ("product_statistics", "challenger", "release_gate", "champion"),
    ),
    "publish": ("Give the API the champion with all that is known on a day.", ("product_statistics", "serving_index")),
    "report": (
        "Work out the shop's key figures of a day, or of a range of days, and what the experiments say.",
        ("business_kpis", "experiment_report"),
    ),
    "tune": ("Search past days for a better recipe to train with; a killed run's trials are kept.", ("tuned_recipe",)),
}
"""Name → what it does, and which assets it makes."""


def build_jobs() -> list[UnresolvedAssetJobDefinition | JobDefinition]:
    """Jobs for the UI and for the plans in `plan.py`; those of partitioned assets take a day."""
    return [
        define_asset_job(
            name,
            selection=AssetSelection.assets(*assets),
            description=description,
            executor_def=in_process_executor,
        )
        for name, (description, assets) in JOBS.items()
    ]
