"""The job `tune` on a tiny shop: which days it evaluates, what it stores, and how it resumes."""

from __future__ import annotations

import datetime as dt
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import optuna
import pandas as pd
import pyarrow as pa
import pytest
from dagster import DagsterInstance, ExecuteInProcessResult, Failure
from mlflow.entities import Run
from optuna.trial import TrialState

from rec_assets.assets.tuning import tuning_days
from rec_assets.definitions import build_definitions
from rec_assets.recsys.data.cleaning import CLEANED_SCHEMA
from rec_assets.recsys.evaluation.backtest import Backtest, BacktestResult
from rec_assets.recsys.recipe import AlsRecipe, CandidateRecipe, CoPurchaseRecipe, RankerRecipe, Recipe
from rec_assets.recsys.tuning.search_space import Range, space_around, suggest
from rec_assets.recsys.tuning.study import RecipeStudy, open_study
from rec_assets.resources.lake import Lake
from rec_assets.resources.recipes import Recipes, TunedRecipe
from rec_assets.settings import Settings
from rec_assets_tests.shops import write_giftware_shop
from rec_assets_tests.two_tastes import FIRST, cleaned_lines, embeddings, products

pytestmark = pytest.mark.integration

DAYS, HORIZON, GATE = 40, 6, 4
NEWEST = FIRST + dt.timedelta(days=DAYS - 1)
WINDOWS = [FIRST + dt.timedelta(days=29), FIRST + dt.timedelta(days=23)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """MLflow's database, shared by the tests because creating it takes seconds."""
    before = mlflow.get_tracking_uri()
    yield tmp_path_factory.mktemp("mlflow")
    mlflow.set_tracking_uri(before)


@pytest.fixture
def settings(tmp_path: Path, store: Path) -> Settings:
    settings = Settings(
        home=tmp_path / "home",
        source=str(write_giftware_shop(tmp_path)),  # required, but not read
        horizon_days=HORIZON,
        gate_days=GATE,
        lookback_days=20,
        spark_master="local[1]",
        spark_driver_memory="1g",
        spark_shuffle_partitions=1,
        mlflow_tracking_uri=f"sqlite:///{store / 'mlflow.db'}",
        mlflow_experiment=tmp_path.name,
        # Set by the user, so not searched.
        recipe=Recipe(
            als=AlsRecipe(rank=4, iterations=2, min_buyers=1),
            co_purchase=CoPurchaseRecipe(min_support=2),
            candidates=CandidateRecipe(text=5),
            ranker=RankerRecipe(rounds=20, min_child_weight=1),
        ),
    )
    lake = Lake(settings.lake)
    lines = cleaned_lines(DAYS)
    for day in (FIRST + dt.timedelta(days=number) for number in range(DAYS)):
        day_lines = lines[lines["date"] == day].drop(columns="date")
        lake.write("cleaned_interactions", pa.Table.from_pandas(day_lines, CLEANED_SCHEMA, preserve_index=False), day)
    lake.write("products", products())
    lake.write("product_embeddings", embeddings())
    return settings


def _tune(settings: Settings, **config: Any) -> ExecuteInProcessResult:
    job = build_definitions(settings).resolve_job_def("tune")
    with DagsterInstance.ephemeral() as instance:
        return job.execute_in_process(
            instance=instance,
            run_config={"ops": {"tuned_recipe": {"config": {"parts": ["ranker"], **config}}}},
            raise_on_error=True,
        )


def _metadata(result: ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node("tuned_recipe")
    return {name: value.value for name, value in event.metadata.items()}


def _study(settings: Settings) -> RecipeStudy:
    (found,) = optuna.get_all_study_summaries(f"sqlite:///{settings.tuning / 'study.db'}")
    base = Recipes.from_settings(settings).active(NEWEST)
    space = _ranker_space(settings)
    return open_study(settings.tuning / "study.db", found.study_name, base=base, space=space, seed=base.seed)


def _ranker_space(settings: Settings) -> dict[str, Range]:
    return space_around(settings.recipe, parts=["ranker"], fixed=settings.recipe.chosen_fields())


def _runs(settings: Settings) -> list[Run]:
    client = mlflow.MlflowClient(settings.mlflow_uri)
    experiment = client.get_experiment_by_name(settings.mlflow_experiment)
    assert experiment is not None
    return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])


def _fake_ndcg(monkeypatch: pytest.MonkeyPatch, ndcg: Any) -> list[tuple[dt.date, Recipe]]:
    """Evaluate recipes by a formula instead of Spark; returns the evaluated days and recipes."""
    evaluated: list[tuple[dt.date, Recipe]] = []

    def evaluate(self: Backtest, day: dt.date, recipe: Recipe) -> BacktestResult:
        evaluated.append((day, recipe))
        table = pd.DataFrame({"ndcg@10": [ndcg(recipe)]})
        return BacktestResult(day, pd.DataFrame(), {"all": table, "novel": table / 10})

    monkeypatch.setattr(Backtest, "evaluate", evaluate)
    return evaluated


@pytest.mark.long
def test_a_tiny_shop_is_tuned_from_the_lake_to_a_recipe(settings: Settings) -> None:
    result = _tune(settings, trials=3)
    found, study = _metadata(result), _study(settings)
    trials = study.study.trials
    assert len(trials) == 3 and {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert trials[0].params == {name: settings.recipe.fields()[name] for name in _ranker_space(settings)}
    assert "ranker.rounds" not in trials[0].params  # set by the user
    assert found["best_ndcg_10"] == max(trial.value for trial in trials if trial.state == TrialState.COMPLETE)
    assert found["best_ndcg_10"] >= found["current_ndcg_10"] == trials[0].value > 0.2
    assert found["history"].startswith("![plot](data:image/png;base64,")

    parent, *nested = _runs(settings)
    assert [run.data.tags["mlflow.parentRunId"] for run in nested] == [parent.info.run_id] * 3
    assert {run.info.status for run in (parent, *nested)} == {"FINISHED"}
    first = nested[0]
    assert first.data.params["ranker.learning_rate"] == str(settings.recipe.ranker.learning_rate)
    per_window = [first.data.metrics[f"ndcg_10_of_{day}"] for day in WINDOWS]
    assert first.data.metrics["ndcg_10"] == pytest.approx(sum(per_window) / 2) == trials[0].value
    assert first.data.metrics["seconds"] > 0 and 0 < first.data.metrics["novel_ndcg_10"] < 1
    artifacts = mlflow.MlflowClient(settings.mlflow_uri).list_artifacts(parent.info.run_id)
    assert [file.path for file in artifacts] == ["tuning_history.png"]


def test_a_better_recipe_is_adopted_with_its_provenance_and_becomes_the_new_base(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated = _fake_ndcg(monkeypatch, lambda recipe: 1 / (1 + abs(recipe.ranker.l2 - 50)))
    found = _metadata(_tune(settings, trials=8))
    recipes, study = Recipes.from_settings(settings), _study(settings)
    content = json.loads(recipes.file.read_text())
    best = study.best
    assert content["recipe"] == best.params and best.number != 0
    expected = {"study": study.study.study_name, "trial": best.number, "value": best.value, "trials": 8}
    assert content["provenance"].items() >= expected.items()
    assert content["provenance"]["windows"] == [str(day) for day in WINDOWS]
    assert content["provenance"]["as_of"] == str(NEWEST - dt.timedelta(days=GATE))
    assert found["origin"] == recipes.origin(NEWEST) == f"tuned: study {study.study.study_name}, trial {best.number}"
    assert {"history", "importance"} <= found.keys()
    row = Lake(settings.lake).table("tuned_recipe").pandas().iloc[0]
    assert (row["study"], row["trial"]) == (study.study.study_name, best.number)
    assert Recipe.model_validate_json(row["recipe"]) == recipes.active(NEWEST)

    # It is active now: the study continues, and a trial that is not better changes nothing.
    before, changed = recipes.file.read_text(), Lake(settings.lake).table("tuned_recipe").version
    evaluated.clear()
    found = _metadata(_tune(settings, trials=8))
    assert evaluated == [] and found["current_ndcg_10"] == found["best_ndcg_10"] == best.value
    assert recipes.file.read_text() == before
    assert Lake(settings.lake).table("tuned_recipe").version == changed
    _tune(settings, trials=9)
    assert len({recipe.model_dump_json() for _, recipe in evaluated}) == 1


def test_tuning_a_part_keeps_what_was_tuned_before(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = Recipes.from_settings(settings)
    recipes.adopt(TunedRecipe({"als.alpha": 9.0, "ranker.l2": 1.0}, {"study": "earlier", "trial": 3}))
    evaluated = _fake_ndcg(monkeypatch, lambda recipe: 1 / (1 + abs(recipe.ranker.l2 - 50)))
    _tune(settings, trials=8)
    assert {recipe.als.alpha for _, recipe in evaluated} == {9.0}
    assert recipes.active(NEWEST).als.alpha == 9 and recipes.active(NEWEST).ranker.l2 > 1


def test_without_a_better_trial_the_settings_stay_and_gate_days_are_not_used(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated = _fake_ndcg(monkeypatch, lambda recipe: 0.5)
    found = _metadata(_tune(settings, trials=4))
    assert found["outcome"] == "no trial is better than the active recipe"
    assert not Recipes.from_settings(settings).file.exists() and found["origin"] == "defaults and settings"
    assert {day for day, _ in evaluated} == set(WINDOWS)
    assert max(WINDOWS) + dt.timedelta(days=HORIZON) == NEWEST - dt.timedelta(days=GATE)
    assert pd.isna(Lake(settings.lake).table("tuned_recipe").pandas().iloc[0]["study"])


def test_a_killed_run_resumes_with_the_remaining_trials(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated = _fake_ndcg(monkeypatch, lambda recipe: recipe.ranker.subsample)
    _tune(settings, trials=1)
    # The state that a process leaves when it is killed in its second trial.
    study = _study(settings)
    client = mlflow.MlflowClient(settings.mlflow_uri)
    parent = client.create_run(_runs(settings)[0].info.experiment_id)
    nested = client.create_run(parent.info.experiment_id, tags={"mlflow.parentRunId": parent.info.run_id})
    trial = study.study.ask()
    suggest(trial, study.base, study.space)
    trial.set_user_attr("mlflow_runs", [nested.info.run_id, parent.info.run_id])
    (settings.tuning / ".scratch" / "candidates-2024-01-30").mkdir(parents=True)
    evaluated.clear()

    found = _metadata(_tune(settings, trials=3))
    assert not (settings.tuning / ".scratch").exists()
    states = [each.state for each in study.study.trials]
    assert states[:3] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    assert study.study.trials[2].params == trial.params
    assert (found["trials_in_this_run"], found["trials_in_total"]) == (2, 3)
    assert settings.recipe not in [recipe for _, recipe in evaluated]
    assert {client.get_run(run.info.run_id).info.status for run in (parent, nested)} == {"KILLED"}


def test_a_second_run_at_the_same_time_fails(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated = _fake_ndcg(monkeypatch, lambda recipe: 0.5)
    settings.tuning.mkdir()
    with (settings.tuning / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Failure, match="another run is tuning in"):
            _tune(settings, trials=1)
    assert evaluated == [] and not (settings.tuning / "study.db").exists()


def test_changed_data_starts_a_new_study(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_ndcg(monkeypatch, lambda recipe: 0.5)
    first = _metadata(_tune(settings, trials=1))["study"]
    assert _metadata(_tune(settings, trials=1))["study"] == first
    lake = Lake(settings.lake)
    lake.write(
        "cleaned_interactions",
        lake.table("cleaned_interactions").read([WINDOWS[0]]).drop(["date"]).slice(1),
        WINDOWS[0],
    )
    assert _metadata(_tune(settings, trials=1))["study"] != first


def test_recipes_that_are_clearly_worse_on_the_first_window_are_pruned(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated = _fake_ndcg(monkeypatch, lambda recipe: 1 - recipe.ranker.column_sample)
    _tune(settings, trials=12)
    study = _study(settings)
    pruned = study.study.get_trials(states=(TrialState.PRUNED,))
    assert pruned and len(evaluated) == 2 * 12 - len(pruned)
    tagged = [run for run in _runs(settings) if "pruned" in run.data.tags]
    assert len(tagged) == len(pruned) and {run.info.status for run in tagged} == {"FINISHED"}


def test_tuning_days_and_windows_are_computed() -> None:
    settings = Settings.model_construct(gate_days=7, horizon_days=28, lookback_days=100)
    existing = [dt.date(2017, 1, 1) + dt.timedelta(days=number) for number in range(365)]
    days, windows = tuning_days(existing, 2, settings)
    assert windows == [dt.date(2017, 11, 26), dt.date(2017, 10, 29)]
    assert (days[0], days[-1]) == (dt.date(2017, 10, 1) - dt.timedelta(days=99), dt.date(2017, 12, 24))
    enough = 7 + 3 * 28 + 1
    assert tuning_days(existing[:enough], 2, settings)[0][0] == existing[0]
    with pytest.raises(Failure, match=f"needs {enough} days .* the lake has {enough - 1}: ingest more days"):
        tuning_days(existing[: enough - 1], 2, settings)
    with pytest.raises(Failure, match="the lake has 0"):
        tuning_days([], 2, settings)
