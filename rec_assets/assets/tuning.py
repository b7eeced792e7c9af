"""Asset group `tuning`: a search for better hyper-parameters on past days."""

import contextlib
import datetime as dt
import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
from pydantic import Field

import rec_assets.recsys
from rec_assets.assets.plots import as_markdown, bars
from rec_assets.assets.tuning_trials import end_runs_of, trial_evaluator, trials_figure
from rec_assets.recsys.evaluation.backtest import Backtest
from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.tuning.search_space import PARTS, Range, space_around
from rec_assets.recsys.tuning.study import open_study
from rec_assets.resources.lake import Lake
from rec_assets.resources.recipes import Recipes, TunedRecipe
from rec_assets.resources.spark import SparkResource
from rec_assets.resources.tracking import TrackingResource
from rec_assets.settings import Settings
from rec_assets.sources.spec import DataSource

GROUP = "tuning"
OWNERS = ["team:recommendations"]


class TuningConfig(dg.Config):
    """Run configuration of the search."""

    trials: int = Field(20, ge=1, description="Total number of trials, including those of a killed run.")
    windows: int = Field(2, ge=1, description="Number of past horizons, one after another, that evaluate a recipe.")
    timeout_minutes: float | None = Field(None, gt=0, description="No trial starts after this time.")
    parts: list[str] = Field(list(PARTS), description="Parts of the recipe to search. `ranker` alone is fastest.")


def tuning_assets(settings: Settings, source: DataSource) -> list[dg.AssetsDefinition]:
    """The assets of the group."""

    @dg.asset(
        group_name=GROUP, owners=OWNERS, code_version="1", kinds={"optuna", "mlflow"}, deps=["cleaned_interactions"]
    )  # fmt: skip
    def tuned_recipe(
        context: dg.AssetExecutionContext, config: TuningConfig, lake: dg.ResourceParam[Lake], spark: SparkResource,
        tracking: TrackingResource, recipes: dg.ResourceParam[Recipes], products: pd.DataFrame,
        product_embeddings: pd.DataFrame,
    ) -> pd.DataFrame:  # fmt: skip
        """The active recipe after an Optuna search on past days, which replaces it only by a better one."""
        days, as_of_days = tuning_days(lake.table("cleaned_interactions").days, config.windows, settings)
        base = recipes.active(days[-1])
        space = space_around(base, parts=config.parts, fixed=settings.recipe.chosen_fields())
        name = _study_name(lake, source, settings, days, as_of_days, base, space)
        mlflow = tracking.mlflow
        with _lock(settings.tuning) as scratch:
            tuning = open_study(settings.tuning / "study.db", name, base=base, space=space, seed=base.seed)
            dead_trials = tuning.recover()
            end_runs_of(mlflow, dead_trials)
            context.log.info(
                f"study {name}: {tuning.finished} of {config.trials} trials done, {len(dead_trials)} were killed; "
                f"evaluated on the {settings.horizon_days} days after each of {', '.join(map(str, as_of_days))}"
            )
            backtest = Backtest(
                lake.table("cleaned_interactions").spark(spark.spark_session, days), products, product_embeddings,
                settings.lookback_days, settings.horizon_days, source.purchases.columns.rating is not None,
                folder=scratch,
            )  # fmt: skip
            evaluated = tuning.search(
                trial_evaluator(context, mlflow, backtest, as_of_days, tuning),
                trials=config.trials,
                timeout_seconds=config.timeout_minutes and config.timeout_minutes * 60,
            )
            best, current = tuning.best, tuning.base_trial
            assert best.value is not None and current.value is not None
            is_better = best.value > current.value
            if is_better:
                provenance = {
                    "study": name, "trial": best.number, "value": best.value, "base_value": current.value,
                    "metric": "mean ndcg@10", "windows": [str(day) for day in as_of_days],
                    "horizon_days": settings.horizon_days, "as_of": str(days[-1]), "trials": tuning.finished,
                    "mlflow_run": tracking.run_id,
                }  # fmt: skip
                earlier = recipes.tuned()  # of other parts; the trials had its values, too
                fields = {**(earlier.fields if earlier else {}), **best.params}
                recipes.adopt(TunedRecipe(fields, provenance))

        mlflow.log_params({"study": name, "trials": config.trials, "windows": ", ".join(map(str, as_of_days))})
        mlflow.log_metrics(
            {"best_ndcg_10": best.value, "current_ndcg_10": current.value, "trials_done": tuning.finished}
        )
        figures = {"history": trials_figure(tuning)}
        if len(importance := tuning.importance()):
            figures["importance"] = bars(importance, "Importance of hyper-parameters", "share")
        for file, figure in figures.items():
            mlflow.log_figure(figure, f"tuning_{file}.png")
        context.add_output_metadata(
            {
                **{file: as_markdown(figure) for file, figure in figures.items()},
                "outcome": f"trial {best.number} is better than the active recipe and replaces it"
                if is_better
                else "no trial is better than the active recipe",
                "origin": recipes.origin(days[-1]),
                "best_ndcg_10": best.value,
                "current_ndcg_10": current.value,
                "changes": dg.MetadataValue.md(_changes(base, best.params).to_markdown()),
                "trials_in_this_run": evaluated,
                "trials_in_total": tuning.finished,
                "study": name,
                "windows": ", ".join(map(str, as_of_days)),
                "mlflow_run": tracking.link,
            }
        )
        return _recipe_row(recipes, days[-1])

    return [tuned_recipe]


def tuning_days(existing: list[dt.date], windows: int, settings: Settings) -> tuple[list[dt.date], list[dt.date]]:
    """The days that tuning reads, and the as-of days on which it evaluates recipes, newest first.

    The newest `gate_days` are excluded: they evaluate challengers, so nothing is tuned on them.

    Args:
        existing: Days of cleaned_interactions in the lake.
        windows: Number of as-of days. The horizon after one ends where the horizon after the next begins.
        settings: gate_days, horizon_days and lookback_days.

    Raises:
        Failure: there are too few days.
    """
    horizon = dt.timedelta(days=settings.horizon_days)
    needed = settings.gate_days + (windows + 1) * settings.horizon_days + 1
    if not existing or (count := (existing[-1] - existing[0]).days + 1) < needed:
        raise dg.Failure(
            f"tuning on {windows} windows needs {needed} days of cleaned_interactions ({settings.gate_days} for the "
            f"gate, {windows + 1} horizons of {settings.horizon_days} and a day of lookback), and the lake has "
            f"{count if existing else 0}: ingest more days, or use fewer windows"
        )
    newest = existing[-1] - dt.timedelta(days=settings.gate_days)
    as_of_days = [newest - (k + 1) * horizon for k in range(windows)]
    oldest = max(existing[0], as_of_days[-1] - horizon - dt.timedelta(days=settings.lookback_days - 1))
    return [oldest + dt.timedelta(days=i) for i in range((newest - oldest).days + 1)], as_of_days


def _study_name(
    lake: Lake, source: DataSource, settings: Settings, days: list[dt.date], as_of_days: list[dt.date], base: Recipe,
    space: Mapping[str, Range],
) -> str:  # fmt: skip
    """A name with a digest of everything that makes the values of trials comparable."""
    comparable = {
        "source": source.name,
        "windows": [str(day) for day in as_of_days],
        "horizon_days": settings.horizon_days,
        "lookback_days": settings.lookback_days,
        "data": [
            lake.table("cleaned_interactions").fingerprint(days),
            lake.table("products").fingerprint(),
            lake.table("product_embeddings").fingerprint(),
        ],
        "space": {name: repr(bounds) for name, bounds in space.items()},
        "fixed": {name: value for name, value in base.fields().items() if name not in space},
        "code": _code_digest(),
    }  # fmt: skip
    digest = hashlib.sha256(json.dumps(comparable, sort_keys=True).encode()).hexdigest()
    return f"{source.name}-{as_of_days[0]}-{digest[:10]}"


def _code_digest() -> str:
    """SHA-256 over the code of `recsys`: values from different code are not comparable."""
    folder = Path(rec_assets.recsys.__path__[0])
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _recipe_row(recipes: Recipes, day: dt.date) -> pd.DataFrame:
    """One row: the active recipe and its origin. The row is the same as before if tuning changed nothing."""
    tuned = recipes.tuned()
    provenance: Mapping[str, Any] = tuned.provenance if tuned else {}
    stored = {name: provenance.get(name) for name in ("study", "trial", "value", "base_value", "as_of")}
    row = {"origin": recipes.origin(day), **stored, "recipe": recipes.active(day).model_dump_json()}
    types = {"trial": "Int64", "value": "float64", "base_value": "float64"}
    return pd.DataFrame([row]).astype({**types, "study": "string", "as_of": "string"})


def _changes(base: Recipe, params: Mapping[str, Any]) -> pd.DataFrame:
    """The hyper-parameters that the best trial changes, compared with the active recipe."""
    values = base.fields()
    rows = {name: (values[name], value) for name, value in params.items() if value != values[name]}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["active", "best"]).rename_axis("hyper-parameter")


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[Path]:
    """Hold the lock of the studies. Without it, the trials of a live process would count as killed.

    Yields:
        An empty scratch folder for large files, which is deleted afterward.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise dg.Failure(f"another run is tuning in {folder}: wait for it, or stop it") from None
        scratch = folder / ".scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
