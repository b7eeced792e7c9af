"""The release gate on a real registry: a worse challenger is rejected, and a better one is promoted."""

from __future__ import annotations

import datetime as dt
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from dagster import DagsterInstance, Definitions, ExecuteInProcessResult, Failure

from rec_assets.assets.release import challenger_models_day
from rec_assets.definitions import build_definitions
from rec_assets.recsys.ranking.features import FEATURES
from rec_assets.recsys.ranking.ranker import TrainingSample, fit_ranker
from rec_assets.recsys.recipe import RankerRecipe
from rec_assets.resources.lake import Lake
from rec_assets.resources.releases import PROMOTED, REJECTED, Releases
from rec_assets.serving.index_files.folder import ServingFolder
from rec_assets.serving.index_files.index import Index
from rec_assets.serving.recommender import Recommender
from rec_assets.settings import Settings
from rec_assets_tests.conftest import SMALL, BootstrappedShop

MODELS = ("als_model", "co_purchase_graph", "ranker")
HORIZON = dt.timedelta(days=14)

REMOVED_FEATURE = "feature_of_yesterday"

Frames = dict[str, pd.DataFrame]


def worsened(models: Frames) -> Frames:
    """The same models with shuffled product factors and a ranker that is trained on random labels."""
    rng = np.random.default_rng(5)
    als, sample = models["als_model"], pd.DataFrame(rng.random((2000, len(FEATURES))), columns=list(FEATURES))
    ranker = fit_ranker(
        TrainingSample.from_frame(sample.assign(bought=rng.random(2000) < 0.1)), RankerRecipe(rounds=20), seed=1
    )
    recipe = models["ranker"]["recipe"]
    return {
        **models,
        "als_model": als.assign(factors=als["factors"].to_numpy()[rng.permutation(len(als))]),
        "ranker": pd.DataFrame({"model": [ranker.dump()], "features": [list(ranker.features)], "recipe": recipe}),
    }


def with_old_features(models: Frames) -> Frames:
    """The same models as from older code, which lacked today's last feature and had one that was removed."""
    features = [*FEATURES[:-1], REMOVED_FEATURE]
    return {**models, "ranker": models["ranker"].assign(features=[features])}


class Bench:
    """A copy of the bootstrapped shop with a champion and challenger that the test writes.

    The challenger's models are a horizon older than the newest day; the champion's are some days older.
    """

    def __init__(self, shop: BootstrappedShop, home: Path, **more: str) -> None:
        shutil.copytree(shop.home, home)
        shutil.rmtree(home / "mlflow")
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {
                **SMALL,
                "REC_GATE_DAYS": "14",
                "REC_GATE__MAX_CHURN": "1",
                "REC_GATE__MIN_COVERAGE": "0",
                **more,
            }.items():
                patch.setenv(name, value)
            patch.setenv("REC_GATE__MAX_LATENCY_MS", "60000")  # a busy machine must not fail the test
            self.settings = Settings(home=home, source=str(shop.source))
            self.definitions: Definitions = build_definitions(self.settings)
        self.lake = Lake(self.settings.lake)
        self.releases = Releases(self.settings.mlflow_uri, self.settings.registered_model)
        self.newest = max(self.lake.table("hybrid_scores").days)
        self.trained, self.before = self.newest - HORIZON, self.newest - HORIZON - dt.timedelta(days=6)
        self.good = {table: self.lake.table(table).pandas([self.trained]).drop(columns="date") for table in MODELS}

    def put(self, champion: Frames, challenger: Frames) -> None:
        """Write models to the lake, and register the champion."""
        for day, models in ((self.before, champion), (self.trained, challenger)):
            for table, frame in models.items():
                self.lake.write(table, frame, day)
        self.releases.client.create_registered_model(self.releases.model)
        version = int(self.releases.client.create_model_version(self.releases.model, source="/nowhere").version)
        made = dict.fromkeys(("as_of", "als_as_of", "graph_as_of", "ranker_as_of"), str(self.before))
        recipe = self.settings.recipe.model_dump_json()
        self.releases.set_challenger(version, {**made, "recipe": recipe, "content": "test"})
        self.releases.set_decision(version, PROMOTED, {})

    def release(self) -> ExecuteInProcessResult:
        """Run the job `release`."""
        with DagsterInstance.ephemeral() as instance:
            return self.definitions.resolve_job_def("release").execute_in_process(
                instance=instance, partition_key=str(self.newest), raise_on_error=False
            )


@pytest.fixture
def bench(shop: BootstrappedShop, tmp_path: Path) -> Bench:
    return Bench(shop, tmp_path / "home")


def decision_of(bench: Bench) -> tuple[pd.Series, str]:
    rules = bench.lake.table("release_gate").pandas([bench.newest]).set_index("name")
    return rules.loc["quality"], bench.releases.get(2).decision


def test_a_worse_challenger_is_rejected_and_the_champion_is_published(bench: Bench) -> None:
    bench.put(champion=bench.good, challenger=worsened(bench.good))
    result = bench.release()
    quality, decision = decision_of(bench)
    assert result.success, "a rejection is a result"
    assert (bool(quality["passed"]), decision) == (False, REJECTED)
    assert quality["value"] < quality["limit"] < 0
    champion = bench.releases.active()
    assert champion is not None and champion.version == 1
    assert "NDCG@10" in bench.releases.get(2).tags["reasons"]
    page = (bench.settings.reports / f"date={bench.newest}" / "release.html").read_text()
    assert "Version 2 was rejected; the champion stays." in page
    metadata = {
        event.asset_key.path[-1]: {name: each.value for name, each in event.materialization.metadata.items()}
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }
    assert metadata["release_gate"]["decision"] == REJECTED and "NDCG@10" in str(metadata["release_gate"]["reasons"])
    assert metadata["champion"]["version"] == 1 and metadata["champion"]["decision"] == "version 2 was rejected"
    assert bench.releases.decision_summary(bench.newest).endswith("; version 1 stays")
    with DagsterInstance.ephemeral() as instance:
        for job in ("score_customers", "publish_index"):
            bench.definitions.resolve_job_def(job).execute_in_process(
                instance=instance, partition_key=str(bench.newest)
            )
    published = ServingFolder(bench.settings.serving).current()
    assert published is not None and published.version == 1


@pytest.mark.slow
def test_a_release_keeps_working_with_code_that_computes_other_features(bench: Bench) -> None:
    """In the gate, in the day's lists, in the serving index and as a pyfunc model."""
    bench.put(champion=with_old_features(bench.good), challenger=with_old_features(worsened(bench.good)))
    result = bench.release()
    assert result.success and decision_of(bench)[1] == REJECTED
    with DagsterInstance.ephemeral() as instance:
        made = {
            job: bench.definitions.resolve_job_def(job).execute_in_process(
                instance=instance, partition_key=str(bench.newest)
            )
            for job in ("score_customers", "publish_index")
        }
    (lists,) = made["score_customers"].asset_materializations_for_node("hybrid_scores")
    (gate,) = result.asset_materializations_for_node("release_gate")
    (index,) = made["publish_index"].asset_materializations_for_node("serving_index")
    for event in (gate, lists, index):
        assert REMOVED_FEATURE in str(event.metadata["warning"].value)
    published = ServingFolder(bench.settings.serving).current()
    assert published is not None and published.version == 1
    listed = bench.lake.table("hybrid_scores").pandas([bench.newest]).query("list == 'all' and rank <= 5")
    customer = listed["customer_id"].iloc[0]
    answered = Recommender.load(published.path).recommend(customer, 5)
    assert answered["product_id"].tolist() == listed[listed["customer_id"] == customer]["product_id"].tolist()
    assert answered["reason"].str.len().min() > 0
    mlflow.set_tracking_uri(bench.settings.mlflow_uri)
    model = mlflow.pyfunc.load_model(f"models:/{bench.releases.model}/2")
    assert len(model.predict(pd.DataFrame({"customer_id": [customer], "k": [5], "list": ["all"]}))) == 5


@pytest.mark.slow
def test_a_rejected_first_release_fails_with_what_to_do(shop: BootstrappedShop, tmp_path: Path) -> None:
    bench = Bench(shop, tmp_path / "home", REC_GATE__MAX_ARTIFACT_MB="0.001")
    result = bench.release()
    assert not result.success
    (failed,) = (event for event in result.all_events if event.is_step_failure)
    assert failed.step_key == "champion"
    failure = failed.step_failure_data.user_failure_data
    assert failure is not None and failure.description is not None
    assert failure.description.startswith("version 1 was rejected: ") and "REC_GATE__" in failure.description
    assert bench.releases.active() is None and bench.releases.get(1).decision == REJECTED


@pytest.mark.slow
def test_the_gate_evaluates_a_sample_of_the_customers(shop: BootstrappedShop, tmp_path: Path) -> None:
    bench = Bench(shop, tmp_path / "home", REC_EVALUATION_CUSTOMERS="20")
    bench.put(champion=bench.good, challenger=worsened(bench.good))
    assert bench.release().success
    quality, _ = decision_of(bench)
    evaluated = re.match(r"NDCG@10 of (\d+) customers", quality["message"])
    assert evaluated is not None and 3 < int(evaluated[1]) < 35  # of the shop's 60


@pytest.mark.slow
def test_a_better_challenger_is_promoted_and_published(shop: BootstrappedShop, tmp_path: Path) -> None:
    newest = max(shop.lake.table("hybrid_scores").days)
    days = f"start: {newest + dt.timedelta(days=2)}, end: {newest + dt.timedelta(days=9)}"
    variants = "a: {share: 0.3, model: 1}, b: {share: 0.3, model: 2}, c: {share: 0.3, model: 9}"
    experiments = tmp_path / "experiments.yaml"
    experiments.write_text(f"experiments:\n  - {{name: old-and-new, {days}, variants: {{{variants}}}}}\n")
    bench = Bench(shop, tmp_path / "home", REC_EXPERIMENTS=str(experiments))
    bench.put(champion=worsened(bench.good), challenger=bench.good)
    result = bench.release()
    quality, decision = decision_of(bench)
    assert result.success
    assert (bool(quality["passed"]), decision) == (True, PROMOTED)
    assert quality["value"] > 0, "the lower end of the interval is above the champion"
    champion = bench.releases.active()
    assert champion is not None and (champion.version, champion.ranker_as_of) == (2, bench.trained)
    with DagsterInstance.ephemeral() as instance:

        def run(job: str) -> bool:
            definition, day = bench.definitions.resolve_job_def(job), str(bench.newest)
            return definition.execute_in_process(instance=instance, partition_key=day, raise_on_error=False).success

        assert not run("publish_index"), "the day's lists are the old champion's"
        assert run("score_customers") and run("publish_index")
        serving = ServingFolder(bench.settings.serving)
        current, others = serving.current(), serving.pointers().experiment_indexes
        assert current is not None and current.version == 2
        # Each model of an experiment has an index; a missing model does not block the others.
        assert {name: (each.version, each.as_of) for name, each in others.items()} == {
            "1": (1, newest),
            "2": (2, newest),
        }
        assert others["2"] == current and Index.load(others["1"].path).metadata["version"] == "1"
        experiments.write_text("experiments: [")
        assert run("publish_index"), "a broken experiments file does not block the champion's index"


@pytest.mark.slow
def test_models_that_were_rolled_back_are_not_promoted_again(bench: Bench) -> None:
    bench.put(champion=bench.good, challenger=bench.good)
    assert bench.release().success
    assert bench.releases.roll_back().version == 1
    assert bench.release().success
    rules = bench.lake.table("release_gate").pandas([bench.newest]).set_index("name")
    assert rules.index[~rules["passed"]].tolist() == ["not rolled back"]
    assert bench.releases.active().version == 1  # type: ignore[union-attr]
    assert bench.releases.roll_back(to=2).version == 2, "a version that is named can be activated again"


@pytest.mark.parametrize(
    ("trained", "champion", "expected"),
    [
        ([10, 20], None, 20),
        ([10, 20], 9, 20),
        ([10, 14], 9, "no models were trained as of 2024-01-17 to 2024-01-23"),
        ([17], 9, 17),
        ([16], 9, "no models were trained as of 2024-01-17 to 2024-01-23"),
        ([20], 20, "no models newer than the champion's"),
        ([24], 9, "no models were trained as of"),
    ],
    ids=[
        "the first release", "the newest", "too old", "just in time", "a day too old", "the champion's", "too new",
    ],
)  # fmt: skip
def test_the_challenger_has_models_whose_later_purchases_the_gate_sees(
    tmp_path: Path, trained: list[int], champion: int | None, expected: int | str
) -> None:
    lake, day = Lake(tmp_path / "lake"), dt.date(2024, 1, 30)
    for number in trained:
        lake.write("ranker", pd.DataFrame({"model": [b""]}), dt.date(2024, 1, number))

    class Registry(Releases):
        def active(self, day: dt.date | None = None) -> Any:
            return None if champion is None else SimpleNamespace(ranker_as_of=dt.date(2024, 1, champion))

    def find() -> dt.date:
        days = {"gate_days": 7, "model_reuse_days": 7} if champion else {"gate_days": 7, "model_reuse_days": 14}
        return challenger_models_day(lake, Registry("", ""), day, **days)

    if isinstance(expected, int):
        assert find() == dt.date(2024, 1, expected)
        return
    with pytest.raises(Failure, match=expected):
        find()
