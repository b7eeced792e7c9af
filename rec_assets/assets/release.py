"""Group `release`: what passed its checks, published to the MLflow registry.

The blocking checks on `evaluation_report` and `hybrid_scores` stand before this: where they fail, nothing is published
and the champion stays.
"""

import subprocess
import tempfile
from pathlib import Path

import pandas as pd
from dagster import AssetExecutionContext, AssetIn, AssetsDefinition, ResourceParam, asset
from pyspark.sql import DataFrame as SparkFrame

import rec_assets
from rec_assets.assets.models import as_of
from rec_assets.assets.state import state_of
from rec_assets.partitions import Days
from rec_assets.recsys.hybrid import popular_lists
from rec_assets.recsys.interactions import net_purchases
from rec_assets.recsys.ranker import Ranker
from rec_assets.resources.lake import Lake
from rec_assets.resources.lake_io import NEWEST
from rec_assets.resources.tracking import TrackingResource
from rec_assets.serving.recommender import save_index
from rec_assets.settings import Settings

GROUP = "release"
OWNERS = ["team:recommendations"]


def release_assets(settings: Settings, days: Days) -> list[AssetsDefinition]:
    """The assets of the group."""
    newest = AssetIn(partition_mapping=days.newest, metadata=NEWEST)

    @asset(
        group_name=GROUP, owners=OWNERS, partitions_def=days.partitions, code_version="1", kinds={"mlflow"},
        deps=["evaluation_report", "hybrid_scores"],
        ins={
            "cleaned_interactions": AssetIn(partition_mapping=days.lookback),
            "als_model": newest, "co_purchase_graph": newest, "ranker": newest,
        },
    )  # fmt: skip
    def champion(
        context: AssetExecutionContext,
        tracking: TrackingResource,
        lake: ResourceParam[Lake],
        cleaned_interactions: SparkFrame,
        als_model: pd.DataFrame,
        co_purchase_graph: pd.DataFrame,
        product_statistics: pd.DataFrame,
        products: pd.DataFrame,
        product_embeddings: pd.DataFrame,
        ranker: pd.DataFrame,
    ) -> pd.DataFrame:
        """The released recommender: one MLflow pyfunc of plain arrays, registered, with the alias `champion`."""
        from mlflow import MlflowClient
        from mlflow.models import infer_signature

        from rec_assets.serving import pyfunc

        day = as_of(context)
        state = state_of(
            day, products=products, product_statistics=product_statistics, als_model=als_model,
            co_purchase_graph=co_purchase_graph, product_embeddings=product_embeddings,
        )  # fmt: skip
        purchases = net_purchases(cleaned_interactions, day)
        window = days.lookback_days(day)
        release = {
            "as_of": day.isoformat(),
            "als_version": str(als_model["date"].iloc[0]),
            "ranker_version": str(ranker["date"].iloc[0]),
            "data_fingerprint": lake.fingerprint("cleaned_interactions", window),
            "dagster_run_id": context.run_id,
            "git_commit": _git_commit(),
        }
        mlflow = tracking.mlflow
        with tempfile.TemporaryDirectory() as folder:
            index = Path(folder) / "index"
            save_index(
                index,
                state=state,
                ranker=Ranker.load(ranker["model"].iloc[0], tuple(ranker["features"].iloc[0])),
                recipe=settings.recipe,
                histories=purchases.select("customer_id", "product_id", "order_id", "age_days", "rating").toPandas(),
                popular=popular_lists(
                    product_statistics,
                    products.set_index("product_id")["category"],
                    settings.recipe.list_size,
                ),
                about=release,
            )
            logged = mlflow.pyfunc.log_model(
                name=settings.registered_model,
                python_model=pyfunc.__file__,
                artifacts={"index": index.as_posix()},
                code_paths=[str(Path(rec_assets.__file__).parent)],
                pip_requirements=_serving_requirements(),
                signature=infer_signature(pyfunc.INPUT_EXAMPLE),
                registered_model_name=settings.registered_model,
                metadata=release,
            )
        version = str(logged.registered_model_version)
        client = MlflowClient()
        for key, value in release.items():
            client.set_model_version_tag(settings.registered_model, version, key, value)
        for alias in ("challenger", "champion"):
            client.set_registered_model_alias(settings.registered_model, alias, version)
        context.add_output_metadata({"version": version, **release, "mlflow_run": tracking.link})
        return pd.DataFrame([{"version": version, **release}])

    return [champion]


def _git_commit() -> str:
    """The commit of the code that runs; "" outside a checkout."""
    folder = Path(rec_assets.__file__).parent
    try:
        return subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _serving_requirements() -> list[str]:
    """What the released model needs, at the versions it was made with."""
    from importlib.metadata import version

    return [f"{name}=={version(name)}" for name in _SERVING]


_SERVING = ("mlflow", "numpy", "pandas", "scipy", "pyarrow", "xgboost-cpu", "pydantic")
