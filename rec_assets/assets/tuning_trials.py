"""Trials of the asset `tuned_recipe`: evaluation on past days, each as a nested MLflow run."""

import datetime as dt
import time
from collections.abc import Callable
from typing import Any

import dagster as dg
import pandas as pd
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial, Trial, TrialState

from rec_assets.recsys.evaluation.backtest import Backtest, NothingToEvaluate
from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.tuning.study import RecipeStudy

_MLFLOW_RUNS = "mlflow_runs"


def trial_evaluator(
    context: dg.AssetExecutionContext, mlflow: Any, backtest: Backtest, as_of_days: list[dt.date], tuning: RecipeStudy
) -> Callable[[Trial, Recipe], float | None]:
    """A function that evaluates the recipe of a trial: mean NDCG@10 after these days, or None if pruned."""
    parent = mlflow.active_run().info.run_id

    def evaluate(trial: Trial, recipe: Recipe) -> float | None:
        label = f"trial {trial.number}" + (" (the active recipe)" if tuning.is_base(trial) else "")
        started, ndcg, novel = time.monotonic(), [], []
        tags = {"study": tuning.study.study_name, "trial": str(trial.number)}
        with mlflow.start_run(run_name=f"trial {trial.number}", nested=True, tags=tags) as run:
            trial.set_user_attr(_MLFLOW_RUNS, [run.info.run_id, parent])
            mlflow.log_params(trial.params)
            for step, day in enumerate(as_of_days):
                try:
                    result = backtest.evaluate(day, recipe)
                except NothingToEvaluate as error:
                    raise dg.Failure(f"{error}: there is nothing to tune by; use fewer `windows`") from None
                ndcg.append(result.ndcg)
                novel.append(result.novel_ndcg)
                mlflow.log_metrics({f"ndcg_10_of_{day}": ndcg[-1], f"novel_ndcg_10_of_{day}": novel[-1]})
                trial.report(_mean(ndcg), step)
                if step + 1 < len(as_of_days) and trial.should_prune() and not tuning.is_base(trial):
                    mlflow.set_tag("pruned", f"after {day}")
                    context.log.info(f"{label}: pruned after {day}, NDCG@10 {_mean(ndcg):.4f}")
                    return None
            seconds = time.monotonic() - started
            means = {"ndcg_10": _mean(ndcg), "novel_ndcg_10": _mean(novel), "seconds": seconds}
            mlflow.log_metrics(means)
        for key, value in means.items():
            trial.set_user_attr(key, value)
        value, novelty = means["ndcg_10"], means["novel_ndcg_10"]
        context.log.info(f"{label}: NDCG@10 {value:.4f}, novel {novelty:.4f}, in {seconds:.0f} s")
        return value

    return evaluate


def _mean(values: list[float]) -> float:
    return float(pd.Series(values).mean())


def end_runs_of(mlflow: Any, dead_trials: list[FrozenTrial]) -> None:
    """End the MLflow runs of a killed process as KILLED: those of its trials, and their parent."""
    client = mlflow.MlflowClient()
    for run in (run for trial in dead_trials for run in trial.user_attrs.get(_MLFLOW_RUNS, ())):
        if client.get_run(run).info.status == "RUNNING" and run != mlflow.active_run().info.run_id:
            client.set_terminated(run, status="KILLED")


def trials_figure(tuning: RecipeStudy) -> Figure:
    """The value of each trial, the best value so far, and the active recipe."""
    complete = tuning.study.get_trials(states=(TrialState.COMPLETE,))
    pruned = tuning.study.get_trials(states=(TrialState.PRUNED,))
    values = pd.Series({trial.number: trial.value for trial in complete}, dtype=float).sort_index()
    figure = Figure(figsize=(9, 3))
    axes = figure.subplots()
    axes.plot(values.index, values, "o", color="#3b6ea5", label="trial")
    axes.step(values.index, values.cummax(), where="post", color="#3b6ea5", linewidth=1, label="best so far")
    if pruned:
        last = [trial.intermediate_values[max(trial.intermediate_values)] for trial in pruned]
        axes.plot([trial.number for trial in pruned], last, "x", color="#999999", label="pruned")
    axes.axhline(tuning.base_trial.value or 0.0, color="#c0504d", linestyle="--", linewidth=1, label="active recipe")
    axes.set_title("NDCG@10 on past windows by trial", loc="left")
    axes.set_xlabel("trial")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
