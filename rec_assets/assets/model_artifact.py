"""The model artifact of a release: a serving index, logged to MLflow and registered as a model version."""

import datetime as dt
import hashlib
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

import rec_assets
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.ranking.lists import LISTS
from rec_assets.recsys.ranking.ranker import Ranker
from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows, collect
from rec_assets.recsys.spark.customers import map_customers
from rec_assets.resources.data_versions import Materialization
from rec_assets.resources.lake import Day, Lake
from rec_assets.resources.releases import AS_OF_NAMES, Release, Releases
from rec_assets.resources.tracking import TrackingResource
from rec_assets.serving.index_files.index import Index
from rec_assets.serving.index_files.stored import (
    NUMBERED_SCHEMA,
    SERVED_COLUMNS,
    StoredHistories,
    StoredList,
    ids_of,
    number_lines,
)
from rec_assets.serving.recommender import Recommender

TIMED_CUSTOMERS = 60

WriteIndex = Callable[[Path], None]
"""Writes a serving index to a new folder."""

_SERVING_PACKAGES = ("mlflow", "numpy", "pandas", "scipy", "pyarrow", "xgboost-cpu", "pydantic")


@dataclass(frozen=True)
class ReleaseProposal:
    """Description of a release before it is registered.

    Attributes:
        tags: Tags of the model version: as-of days, recipe, fingerprints, origin.
        inputs: Table → day → fingerprint and landed files of everything that the models were made from.
    """

    tags: Mapping[str, str]
    inputs: Mapping[str, Mapping[str, Any]]


def describe_release(
    lake: Lake, as_of: dt.date, training_day: dt.date, recipe: Recipe, window: list[dt.date],
    landed: Mapping[Day, Materialization], run_id: str,
) -> ReleaseProposal:  # fmt: skip
    """Describe the models of a day as a release.

    Args:
        lake: Lake at the versions that the release is made from.
        as_of: As-of day of the release.
        training_day: As-of day of the models.
        recipe: Recipe of the models.
        window: Days of interactions that the models were trained on.
        landed: Materializations of `raw_purchase_logs`, which name the landed files.
        run_id: Dagster run that registers the release.
    """
    models = {table: _partitions(lake, table, [training_day]) for table in AS_OF_NAMES}
    fingerprints = {table: part[str(training_day)]["fingerprint"] for table, part in models.items()}
    content = hashlib.sha256(f"{sorted(models.items())} {recipe.model_dump_json()}".encode()).hexdigest()
    tags = {
        "as_of": as_of.isoformat(), "index_as_of": training_day.isoformat(),
        **dict.fromkeys(AS_OF_NAMES.values(), training_day.isoformat()),
        "recipe": recipe.model_dump_json(), "content": content,
        "data_fingerprint": lake.table("cleaned_interactions").fingerprint(window), "dagster_run_id": run_id,
        "git_commit": _git_commit(), "table_versions": json.dumps(lake.versions),
        "model_fingerprints": json.dumps(fingerprints),
    }  # fmt: skip
    daily = {table: _partitions(lake, table, window) for table in ("cleaned_interactions", "raw_purchase_logs")}
    for day, about in daily["raw_purchase_logs"].items():
        if (record := landed.get(dt.date.fromisoformat(day))) and record.files:
            about["files"] = record.files
    return ReleaseProposal(tags, {**models, **daily})


def index_writer(
    snapshot: ProductSnapshot, ranker: Ranker, recipe: Recipe, about: Mapping[str, str], *,
    histories: LazyArrowRows, scores: pa.Table | None = None, staging: Path,
) -> WriteIndex:  # fmt: skip
    """A function that writes the serving index of a product snapshot and a ranker, with the histories of that day.

    With the day's `hybrid_scores`, the index also contains these lists. The API uses them for customers without newer
    events. `about` is stored with the index: version, as-of day, time zone. Spark's tasks write the histories to
    `staging`, which they must see.
    """
    product_ids, variant_ids = (pd.Index(ids) for ids in ids_of(snapshot))
    number = partial(number_lines, product_ids=product_ids, variant_ids=variant_ids)
    lines = map_customers(histories.select(*SERVED_COLUMNS), number, NUMBERED_SCHEMA)

    def write(folder: Path) -> None:
        stored = StoredHistories.from_numbered(collect(lines, staging))
        lists = {} if scores is None else {
            name: StoredList.from_scores(scores.filter(pc.equal(scores["list"], name)), snapshot) for name in LISTS
        }  # fmt: skip
        Index(snapshot, ranker, recipe, stored, lists, dict(about)).save(folder)

    return write


def register_model(
    tracking: TrackingResource, releases: Releases, proposal: ReleaseProposal, write: WriteIndex
) -> Release:
    """Log the artifact to MLflow and register it with the proposal's tags and the alias `challenger`."""
    from rec_assets.serving import pyfunc

    mlflow = tracking.mlflow
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        write(index)
        size = sum(path.stat().st_size for path in index.rglob("*") if path.is_file()) / 1e6
        measured = {"artifact_mb": f"{size:.1f}", "latency_ms": f"{_latency_ms(index):.0f}"}
        mlflow.log_dict(dict(proposal.inputs), "inputs.json")
        logged = mlflow.pyfunc.log_model(
            name=releases.model.rpartition(".")[2],  # without the catalog and schema of Unity Catalog
            python_model=pyfunc.__file__,
            artifacts={"index": index.as_posix()},
            code_paths=[str(Path(rec_assets.__file__).parent)],
            pip_requirements=[f"{name}=={package_version(name)}" for name in _SERVING_PACKAGES],
            signature=pyfunc.SIGNATURE,
            registered_model_name=releases.model,
            metadata=dict(proposal.tags),
        )
    return releases.set_challenger(int(logged.registered_model_version), {**proposal.tags, **measured})


def _latency_ms(index: Path) -> float:
    """95th percentile of the time of one recommendation request, over customers from the whole range."""
    recommender = Recommender.load(index)
    customers = recommender.index.histories.customers
    count, times = len(customers), []
    for position in np.linspace(0, count - 1, min(TIMED_CUSTOMERS, count)).astype(int):
        started = time.perf_counter()
        recommender.recommend(customers[position].decode(), 1)
        times.append(1000 * (time.perf_counter() - started))
    return float(np.percentile(times, 95)) if times else 0.0


def _partitions(lake: Lake, table: str, days: list[dt.date]) -> dict[str, Any]:
    """Day → fingerprint, of the days that exist."""
    partitions = lake.table(table).partitions
    return {str(day): {"fingerprint": partitions[day].fingerprint} for day in days if day in partitions}


def _git_commit() -> str:
    """The Git commit of the running code; "" outside a checkout."""
    folder = Path(rec_assets.__file__).parent
    command = ["git", "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
