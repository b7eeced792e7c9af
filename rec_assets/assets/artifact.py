"""The artifact of a release: an index of plain arrays, written to a folder, and its way into the MLflow registry."""

import datetime as dt
import hashlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame as SparkFrame

import rec_assets
from rec_assets.assets.models_of_day import Models, snapshot_of
from rec_assets.recsys.data.histories import HISTORY_COLUMNS
from rec_assets.recsys.data.interactions import history_lines
from rec_assets.recsys.ranking.hybrid import LISTS
from rec_assets.recsys.ranking.scoring import by_customers
from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.spark.arrow_rows import collect
from rec_assets.resources.lake import Lake
from rec_assets.resources.releases import Release, Releases
from rec_assets.resources.tracking import TrackingResource
from rec_assets.serving.index import NUMBERED, Index, StoredHistories, StoredList, numbered
from rec_assets.serving.recommender import Recommender

MODELS = ("als_model", "co_purchase_graph", "ranker")
TIMED_CUSTOMERS = 60

WriteIndex = Callable[[Path], None]


@dataclass(frozen=True)
class Proposal:
    """What is proposed for release, before it is registered.

    Attributes:
        tags: Of the version in the registry: days, recipe, fingerprints, where it comes from.
        inputs: Table → day → fingerprint and landed files of all that the models were made from.
    """

    tags: Mapping[str, str]
    inputs: Mapping[str, Mapping[str, Any]]


def propose(
    lake: Lake, as_of: dt.date, trained: dt.date, recipe: Recipe, window: list[dt.date], run_id: str
) -> Proposal:
    """Describe the models of a day.

    Args:
        lake: Holds them.
        as_of: Day of the proposal.
        trained: Day of the models.
        recipe: They were made by.
        window: Days of interactions that they learned from.
        run_id: Dagster run that proposes them.
    """
    models = {table: _partitions(lake, table, [trained]) for table in MODELS}
    content = hashlib.sha256(f"{sorted(models.items())} {recipe.model_dump_json()}".encode()).hexdigest()
    return Proposal(
        tags={
            "as_of": as_of.isoformat(),
            "als_version": trained.isoformat(),
            "graph_version": trained.isoformat(),
            "ranker_version": trained.isoformat(),
            "recipe": recipe.model_dump_json(),
            "content": content,
            "data_fingerprint": lake.fingerprint("cleaned_interactions", window),
            "dagster_run_id": run_id,
            "git_commit": _git_commit(),
        },
        inputs={
            **models,
            **{table: _partitions(lake, table, window) for table in ("cleaned_interactions", "raw_purchase_logs")},
        },
    )


def index_writer(
    as_of: dt.date,
    models: Models,
    recipe: Recipe,
    about: Mapping[str, str],
    *,
    cleaned_interactions: SparkFrame,
    product_statistics: pd.DataFrame,
    products: pd.DataFrame,
    product_embeddings: pd.DataFrame,
    scores: pa.Table | None = None,
    staging: Path,
) -> WriteIndex:
    """A function that writes the index of these models, with all that is known on a day, into a folder.

    Given the day's `hybrid_scores`, the index holds these lists, too: whoever did nothing since is answered with them.
    Below `staging`, which Spark's tasks have to see, histories lie on their way.
    """
    state = snapshot_of(
        as_of, products=products, product_statistics=product_statistics, als_model=models.als_model,
        co_purchase_graph=models.co_purchase_graph, product_embeddings=product_embeddings,
    )  # fmt: skip
    interactions = history_lines(cleaned_interactions, as_of).select(*HISTORY_COLUMNS)
    lines = by_customers(interactions, partial(numbered, product_ids=pd.Index(state.product_ids)), NUMBERED)

    def write(folder: Path) -> None:
        histories = StoredHistories.of_numbered(collect(lines.to_spark(), staging))
        lists = {} if scores is None else {
            name: StoredList.of_entries(scores.filter(pc.equal(scores["list"], name)), state) for name in LISTS
        }  # fmt: skip
        Index(state, models.ranker, recipe, histories, lists, dict(about)).save(folder)

    return write


def register(tracking: TrackingResource, releases: Releases, proposal: Proposal, write: WriteIndex) -> Release:
    """Log the artifact and register it, as a version with the proposal's tags and the alias `challenger`."""
    from rec_assets.serving import pyfunc

    mlflow = tracking.mlflow
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        write(index)
        size = sum(path.stat().st_size for path in index.rglob("*") if path.is_file()) / 1e6
        measured = {"artifact_mb": f"{size:.1f}", "latency_ms": f"{_latency_ms(index):.0f}"}
        mlflow.log_dict(dict(proposal.inputs), "inputs.json")
        logged = mlflow.pyfunc.log_model(
            name=releases.model.rpartition(".")[2],  # without the catalog and schema that Unity Catalog wants
            python_model=pyfunc.__file__,
            artifacts={"index": index.as_posix()},
            code_paths=[str(Path(rec_assets.__file__).parent)],
            pip_requirements=_serving_requirements(),
            signature=pyfunc.SIGNATURE,
            registered_model_name=releases.model,
            metadata=dict(proposal.tags),
        )
    return releases.propose(int(logged.registered_model_version), {**proposal.tags, **measured})


def _latency_ms(index: Path) -> float:
    """95th percentile of the time that one customer's recommendations take, over customers from the whole range."""
    recommender = Recommender.load(index)
    customers = recommender.index.histories.customers
    count = len(customers)
    times = []
    for position in np.linspace(0, count - 1, min(TIMED_CUSTOMERS, count)).astype(int):
        started = time.perf_counter()
        recommender.recommend(customers[position].decode(), 1)
        times.append(1000 * (time.perf_counter() - started))
    return float(np.percentile(times, 95)) if times else 0.0


def _partitions(lake: Lake, table: str, days: list[dt.date]) -> dict[str, Any]:
    """Day → fingerprint and, of raw lines, the landed files."""
    found = {}
    for day in days:
        manifest = lake.manifest(table, day)
        if manifest is not None:
            files = {"files": manifest.sources} if manifest.sources else {}
            found[str(day)] = {"fingerprint": manifest.fingerprint, **files}
    return found


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
