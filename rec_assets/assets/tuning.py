"""Group `tuning`: the recipe to train with, searched for on past days."""

import contextlib
import datetime as dt
import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    Config,
    Failure,
    MetadataValue,
    ResourceParam,
    asset,
)
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial, Trial, TrialState
from pydantic import Field

import rec_assets.recsys
from rec_assets.assets.plots import as_markdown, bars
from rec_assets.recsys.evaluation.backtest import Backtest, NothingToEvaluate
from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.tuning.search_space import PARTS, space_around
from rec_assets.recsys.tuning.study import RecipeStudy, open_study
from rec_assets.resources.lake import Lake
from rec_assets.resources.recipes import Recipes, TunedRecipe
from rec_assets.resources.spark import SparkResource
from rec_assets.resources.tracking import TrackingResource
from rec_assets.settings import Settings
from rec_assets.sources.spec import Source

GROUP = "tuning"
OWNERS = ["team:recommendations"]


class TuningConfig(Config):
    """How long and where to search."""

    trials: int = Field(20, ge=1, description="Trials wanted in all, those of a run that was killed included.")
    windows: int = Field(2, ge=1, description="Past horizons, one after another, that each recipe is judged on.")
    timeout_minutes: float | None = Field(None, gt=0, description="No trial is started later than this.")
    parts: list[str] = Field(list(PARTS), description="Parts of the recipe to search; `ranker` alone goes fastest.")


def tuning_assets(settings: Settings, source: Source) -> list[AssetsDefinition]:
    """The assets of the group."""

    @asset(
        group_name=GROUP, owners=OWNERS, code_version="1", kinds={"optuna", "mlflow"}, deps=["cleaned_interactions"]
    )  # fmt: skip
    def tuned_recipe(
        context: AssetExecutionContext,
        config: TuningConfig,
        lake: ResourceParam[Lake],
        spark: SparkResource,
        tracking: TrackingResource,
        recipes: ResourceParam[Recipes],
        products: pd.DataFrame,
        product_embeddings: pd.DataFrame,
    ) -> pd.DataFrame:
        """The recipe in force after an Optuna search on past days; changed only by one that was better there."""
        days, windows = tuning_days(lake.days("cleaned_interactions"), config.windows, settings)
        explicit = source.purchases.columns.rating is not None
        base = recipes.to_train()
        space = space_around(base, parts=config.parts, fixed=settings.recipe.chosen_fields())
        comparable = {
            "source": source.name,
            "windows": [str(day) for day in windows],
            "horizon_days": settings.horizon_days,
            "lookback_days": settings.lookback_days,
            "data": [
                lake.fingerprint("cleaned_interactions", days),
                lake.fingerprint("products"),
                lake.fingerprint("product_embeddings"),
            ],
            "space": {name: repr(bounds) for name, bounds in space.items()},
            "fixed": {name: value for name, value in base.fields().items() if name not in space},
            "code": _science(),
        }
        digest = hashlib.sha256(json.dumps(comparable, sort_keys=True).encode()).hexdigest()
        mlflow = tracking.mlflow
        with _only_one(settings.tuning) as scratch:
            tuning = open_study(
                settings.tuning / "study.db", f"{source.name}-{windows[0]}-{digest[:10]}",
                base=base, space=space, seed=base.seed,
            )  # fmt: skip
            dead = tuning.recover()
            _end_dead_runs(mlflow, dead)
            name = tuning.study.study_name
            context.log.info(
                f"study {name}: {tuning.studied} of {config.trials} trials done, {len(dead)} had died; judged on the "
                f"{settings.horizon_days} days after each of {', '.join(map(str, windows))}"
            )
            past = Backtest(
                lake.spark(spark.spark_session, "cleaned_interactions", days), products, product_embeddings,
                settings.lookback_days, settings.horizon_days, explicit, folder=scratch,
            )  # fmt: skip
            judged = tuning.search(
                _judge(context, mlflow, past, windows, tuning),
                trials=config.trials,
                timeout_seconds=config.timeout_minutes and config.timeout_minutes * 60,
            )
            best, in_use = tuning.best, tuning.base_trial
            assert best.value is not None and in_use.value is not None
            better = best.value > in_use.value
            if better:
                provenance = {
                    "study": name,
                    "trial": best.number,
                    "value": best.value,
                    "base_value": in_use.value,
                    "metric": "mean ndcg@10",
                    "windows": [str(day) for day in windows],
                    "horizon_days": settings.horizon_days,
                    "as_of": str(days[-1]),
                    "trials": tuning.studied,
                    "mlflow_run": tracking.run_id,
                }
                recipes.adopt(TunedRecipe(best.params, provenance))

        mlflow.log_params({"study": name, "trials": config.trials, "windows": ", ".join(map(str, windows))})
        mlflow.log_metrics({"best_ndcg_10": best.value, "in_use_ndcg_10": in_use.value, "trials_done": tuning.studied})
        figures = {"tuning_history": _history(tuning)}
        if len(importance := tuning.importance()):
            figures["tuning_importance"] = bars(importance, "What made trials differ", "share")
        for file, figure in figures.items():
            mlflow.log_figure(figure, f"{file}.png")
        context.add_output_metadata(
            {
                **{file.removeprefix("tuning_"): as_markdown(figure) for file, figure in figures.items()},
                "outcome": f"trial {best.number} is better than the recipe in use: adopted"
                if better
                else "no trial is better than the recipe in use: it stays",
                "origin": recipes.origin(),
                "best_ndcg_10": best.value,
                "in_use_ndcg_10": in_use.value,
                "changes": MetadataValue.md(_changes(base, best.params).to_markdown()),
                "trials_judged_now": judged,
                "trials_in_all": tuning.studied,
                "study": name,
                "windows": ", ".join(map(str, windows)),
                "mlflow_run": tracking.link,
            }
        )
        return _in_force(recipes)

    return [tuned_recipe]


def tuning_days(there: list[dt.date], windows: int, settings: Settings) -> tuple[list[dt.date], list[dt.date]]:
    """The days that tuning may know, and the as-of days that it judges recipes on, newest first.

    The newest `gate_days` are left out: by them challengers are judged, on days that nothing was tuned on.

    Args:
        there: Days of cleaned_interactions in the lake.
        windows: As-of days wanted; the horizon after one ends where that after the next begins.
        settings: gate_days, horizon and lookback.

    Raises:
        Failure: there are too few days.
    """
    horizon = dt.timedelta(days=settings.horizon_days)
    needed = settings.gate_days + (windows + 1) * settings.horizon_days + 1
    if not there or (found := (there[-1] - there[0]).days + 1) < needed:
        raise Failure(
            f"tuning on {windows} windows takes {needed} days of cleaned_interactions ({settings.gate_days} for the "
            f"gate, {windows + 1} horizons of {settings.horizon_days} and a day to look back on), and the lake has "
            f"{found if there else 0}: ingest more days, or take fewer windows"
        )
    newest = there[-1] - dt.timedelta(days=settings.gate_days)
    judged = [newest - (k + 1) * horizon for k in range(windows)]
    oldest = max(there[0], judged[-1] - horizon - dt.timedelta(days=settings.lookback_days - 1))
    return [oldest + dt.timedelta(days=i) for i in range((newest - oldest).days + 1)], judged


def _judge(  # type: ignore[no-untyped-def] # mlflow's module, as dagster-mlflow wraps it
    context: AssetExecutionContext, mlflow, past: Backtest, windows: list[dt.date], tuning: RecipeStudy
):
    """A function that judges a trial, each as an MLflow run within that of the Dagster run."""
    parent = mlflow.active_run().info.run_id

    def judge(trial: Trial, recipe: Recipe) -> float | None:
        label = f"trial {trial.number}" + (" (the recipe in use)" if tuning.is_base(trial) else "")
        started, ndcg, novel = time.monotonic(), [], []
        tags = {"study": tuning.study.study_name, "trial": str(trial.number)}
        with mlflow.start_run(run_name=f"trial {trial.number}", nested=True, tags=tags) as run:
            trial.set_user_attr(_MLFLOW_RUNS, [run.info.run_id, parent])
            mlflow.log_params(trial.params)
            for step, day in enumerate(windows):
                try:
                    found = past.walk_forward(day, recipe)
                except NothingToEvaluate as error:
                    raise Failure(f"{error}: there is nothing to tune by; name fewer `windows`") from None
                ndcg.append(found.ndcg)
                novel.append(found.novel_ndcg)
                mlflow.log_metrics({f"ndcg_10_of_{day}": ndcg[-1], f"novel_ndcg_10_of_{day}": novel[-1]})
                trial.report(_mean(ndcg), step)
                if step + 1 < len(windows) and trial.should_prune() and not tuning.is_base(trial):
                    mlflow.set_tag("pruned", f"after {day}")
                    context.log.info(f"{label}: given up after {day}, NDCG@10 {_mean(ndcg):.4f}")
                    return None
            seconds = time.monotonic() - started
            means = {"ndcg_10": _mean(ndcg), "novel_ndcg_10": _mean(novel), "seconds": seconds}
            mlflow.log_metrics(means)
        for key, value in means.items():
            trial.set_user_attr(key, value)
        context.log.info(
            f"{label}: NDCG@10 {means['ndcg_10']:.4f}, novel {means['novel_ndcg_10']:.4f}, in {seconds:.0f} s"
        )
        return means["ndcg_10"]

    return judge


_MLFLOW_RUNS = "mlflow_runs"


def _mean(values: list[float]) -> float:
    return float(pd.Series(values).mean())


def _end_dead_runs(mlflow: Any, dead: list[FrozenTrial]) -> None:
    """The MLflow runs of a process that died say so: the trial's, and the one it was nested in."""
    client = mlflow.MlflowClient()
    for run in (run for trial in dead for run in trial.user_attrs.get(_MLFLOW_RUNS, ())):
        if client.get_run(run).info.status == "RUNNING" and run != mlflow.active_run().info.run_id:
            client.set_terminated(run, status="KILLED")


def _science() -> str:
    """SHA-256 over the code of `recsys`: values found by other code are not comparable."""
    folder = Path(rec_assets.recsys.__path__[0])
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _in_force(recipes: Recipes) -> pd.DataFrame:
    """One row: the recipe to train with, and where it comes from. The same as before where tuning changed nothing."""
    tuned = recipes.tuned()
    provenance: Mapping[str, Any] = tuned.provenance if tuned else {}
    row = {
        "origin": recipes.origin(),
        "study": provenance.get("study"),
        "trial": provenance.get("trial"),
        "value": provenance.get("value"),
        "base_value": provenance.get("base_value"),
        "as_of": provenance.get("as_of"),
        "recipe": recipes.to_train().model_dump_json(),
    }
    types = {"trial": "Int64", "value": "float64", "base_value": "float64"}
    return pd.DataFrame([row]).astype({**types, "study": "string", "as_of": "string"})


def _changes(base: Recipe, params: Mapping[str, Any]) -> pd.DataFrame:
    """What the best recipe changes, beside what is in use."""
    values = base.fields()
    rows = {name: (values[name], value) for name, value in params.items() if value != values[name]}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["in use", "best"]).rename_axis("hyper-parameter")


def _history(tuning: RecipeStudy) -> Figure:
    """Each trial's value, the best so far, and the recipe in use."""
    complete = tuning.study.get_trials(states=(TrialState.COMPLETE,))
    pruned = tuning.study.get_trials(states=(TrialState.PRUNED,))
    values = pd.Series({trial.number: trial.value for trial in complete}, dtype=float).sort_index()
    figure = Figure(figsize=(9, 3))
    axes = figure.subplots()
    axes.plot(values.index, values, "o", color="#3b6ea5", label="trial")
    axes.step(values.index, values.cummax(), where="post", color="#3b6ea5", linewidth=1, label="best so far")
    if pruned:
        last = [trial.intermediate_values[max(trial.intermediate_values)] for trial in pruned]
        axes.plot([trial.number for trial in pruned], last, "x", color="#999999", label="given up early")
    axes.axhline(tuning.base_trial.value or 0.0, color="#c0504d", linestyle="--", linewidth=1, label="recipe in use")
    axes.set_title("NDCG@10 on past windows, by trial", loc="left")
    axes.set_xlabel("trial")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[Path]:
    """Hold the lock of the studies: else the trials of a process that lives would be taken for a dead one's.

    Yields:
        A folder for what is large, empty: what a killed process left in it is gone, and so is it afterward.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Failure(f"another run is tuning in {folder}: wait for it, or stop it") from None
        scratch = folder / ".scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
