"""The jobs: named selections of assets, each run in one process with one Spark session."""

from __future__ import annotations

from dagster import AssetSelection, JobDefinition, define_asset_job, in_process_executor
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

INGEST = ("raw_purchase_logs", "cleaned_interactions", "rejected_purchases")
CATALOGUE = ("raw_product_catalogue",)
PRODUCTS = ("products", "product_embeddings")
TRAIN = ("product_statistics", "als_model", "co_purchase_graph", "candidates")
BLEND = ("ranker",)
SCORE = ("hybrid_scores", "similar_products")
EVALUATE = ("evaluation_report",)
RELEASE = ("champion",)
TUNE = ("tuned_recipe",)


def build_jobs() -> list[UnresolvedAssetJobDefinition | JobDefinition]:
    """Jobs for the UI and for `bootstrap`; those of partitioned assets take a day."""

    def job(name: str, description: str, *groups: tuple[str, ...]) -> UnresolvedAssetJobDefinition:
        assets = [asset for group in groups for asset in group]
        return define_asset_job(
            name,
            selection=AssetSelection.assets(*assets),
            description=description,
            executor_def=in_process_executor,
        )

    return [
        job("catalogue", "Read the newest catalogue feed.", CATALOGUE),
        job("ingest", "Read and clean what landed, for a day or a range of days.", INGEST),
        job("refresh_products", "Refresh products and embed texts never seen before.", PRODUCTS),
        job("learn", "Learn what is known on a day and find its candidates.", TRAIN),
        job("train", "`learn`, and train the ranker on the candidates of a horizon ago.", TRAIN, BLEND),
        job("score", "Rank a day's candidates with the newest models into everybody's lists.", SCORE),
        job("evaluate", "Judge the lists of a horizon ago, and release what passes.", EVALUATE, RELEASE),
        job("tune", "Search past days for a better recipe to train with; a killed run's trials are kept.", TUNE),
    ]
