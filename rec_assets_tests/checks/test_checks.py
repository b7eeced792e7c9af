"""Every check passes on a valid lake, and fails with a reason on a lake that breaks its condition."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetSelection,
    DagsterInstance,
    Definitions,
    define_asset_job,
)

from rec_assets.definitions import build_definitions
from rec_assets.resources.lake import Lake
from rec_assets.resources.releases import Releases
from rec_assets.settings import Settings
from rec_assets_tests.conftest import SMALL, BootstrappedShop

Broken = Callable[[pd.DataFrame], pd.DataFrame]


def _first_row_twice(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame, frame.head(1)], ignore_index=True)


def _without_first_row(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.iloc[1:]


def _one_row(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.head(1)


def _nothing(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.head(0)


def _hundredfold(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame] * 100, ignore_index=True)


def _long_vectors(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(vector=[vector * 2 for vector in frame["vector"]])


def _not_a_number(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(factors=[frame["factors"].iloc[0] * np.float32("nan"), *frame["factors"].iloc[1:]])


def _own_neighbor(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(neighbor_id=frame["product_id"])


def _similar_to_itself(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(similar_product_id=frame["product_id"])


def _same_product_twice(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(product_id=frame.groupby(["customer_id", "list"])["product_id"].transform("first"))


def _low_hit_rate(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(hit_rate=0.05)


def _baselines_far_ahead(frame: pd.DataFrame) -> pd.DataFrame:
    paired = frame["baseline"].notna()
    worse = frame[["value", "ci_low", "ci_high"]].where(~paired, -0.1)
    return frame.assign(**{name: worse[name] for name in worse})


def _no_customers(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(customers=0, value=np.nan, ci_low=np.nan, ci_high=np.nan)


def _share_above_one(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(value=frame["value"].where(frame["kpi"] != "churn_risk", 1.5))


def _invalid_experiment(frame: pd.DataFrame) -> pd.DataFrame:
    row = {"experiment": "tea", "variant": "new", "verdict": "invalid", "message": "shares are off"}
    return pd.concat([frame, pd.DataFrame([row])], ignore_index=True)


CASES: list[tuple[str, str, Broken, str]] = [
    ("raw_volume_is_usual", "raw_purchase_logs", _hundredfold, "lines; median of this weekday"),
    ("no_line_is_lost", "cleaned_interactions", _without_first_row, "does not hold on"),
    ("lines_are_unique", "cleaned_interactions", _first_row_twice, "1 repeated"),
    ("few_lines_are_rejected", "rejected_purchases", _hundredfold, "lines rejected"),
    ("products_are_unique", "products", _first_row_twice, "1 repeated"),
    ("embeddings_are_unit_vectors", "product_embeddings", _long_vectors, "not of length 1"),
    ("every_text_is_embedded", "product_embeddings", _without_first_row, "1 without vector"),
    ("factors_are_finite", "als_model", _not_a_number, "factor vectors"),
    ("factors_are_finite", "als_model", _one_row, "1 factor vectors for customer"),
    ("graph_is_valid", "co_purchase_graph", _own_neighbor, "loops"),
    ("pairs_are_unique", "candidates", _first_row_twice, "1 repeated"),
    ("pairs_are_unique", "candidates", _nothing, "0 pairs"),
    ("lists_are_complete", "hybrid_scores", _without_first_row, "1 all lists too short"),
    ("lists_are_complete", "hybrid_scores", _same_product_twice, "products twice in a list"),
    ("similar_products_differ", "similar_products", _similar_to_itself, "of a product with itself"),
    ("hybrid_beats_the_baselines", "evaluation_report", _baselines_far_ahead, "difference -0.1000"),
    ("hit_rate_is_in_control_band", "live_accuracy", _low_hit_rate, "0.050; control band"),
    ("kpis_are_plausible", "business_kpis", _share_above_one, "churn_risk 1.500"),
    ("experiments_are_valid", "experiment_report", _invalid_experiment, "tea, new: shares are off"),
]


@pytest.fixture(scope="module")
def home(shop: BootstrappedShop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copied = tmp_path_factory.mktemp("checks") / "home"
    shutil.copytree(shop.home, copied)
    lake = Lake(copied / "lake")
    newest = max(lake.table("hybrid_scores").days)
    for age, rate in enumerate([0.31, 0.30, 0.32, 0.31, 0.30, 0.31, 0.32, 0.30]):
        lake.write("live_accuracy", pd.DataFrame({"hit_rate": [rate]}), newest - dt.timedelta(days=age))
    return copied


@pytest.fixture(scope="module")
def definitions(shop: BootstrappedShop, home: Path) -> Definitions:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setenv(name, value)
        return build_definitions(Settings(home=home, source=str(shop.source)))


@pytest.fixture(scope="module")
def evaluate(definitions: Definitions) -> Iterator[Callable[[str], dict[str, AssetCheckEvaluation]]]:
    """Run the checks of an asset alone, as from the UI; returns their results by name."""
    with DagsterInstance.ephemeral() as instance:

        def run(asset: str) -> dict[str, AssetCheckEvaluation]:
            job = define_asset_job("checks", selection=AssetSelection.checks_for_assets(asset))
            defs = Definitions(
                assets=definitions.assets, asset_checks=definitions.asset_checks, resources=definitions.resources,
                jobs=[job], executor=definitions.executor,
            )  # fmt: skip
            result = defs.resolve_job_def("checks").execute_in_process(instance=instance, raise_on_error=False)
            return {check.check_name: check for check in result.get_asset_check_evaluations()}

        yield run


@pytest.fixture
def breaking(home: Path) -> Iterator[Callable[[str, Broken], None]]:
    """Break the newest partition of a table; it is fixed after the test."""
    lake, original = Lake(home / "lake"), {}

    def break_(table: str, broken: Broken) -> None:
        day = max(lake.table(table).days, default=None)
        rows = lake.table(table).pandas([day] if day else None).drop(columns="date" if day else [])
        before = lake.table(table).read([day] if day else None).drop_columns(["date"] if day else [])
        original[table] = (before, day)
        after = pa.Table.from_pandas(broken(rows), preserve_index=False)
        kinds = [before.schema.field(f.name) if pa.types.is_null(f.type) else f for f in after.schema]
        lake.write(table, after.cast(pa.schema(kinds)), day)

    yield break_
    for table, (rows, day) in original.items():
        lake.write(table, rows, day)


def test_all_checks_pass_on_a_valid_lake_also_when_run_alone(
    definitions: Definitions, evaluate: Callable[[str], dict[str, AssetCheckEvaluation]]
) -> None:
    graph = definitions.resolve_asset_graph()
    assets = sorted({key.asset_key.to_user_string() for key in graph.asset_check_keys})
    found = {name: check for asset in assets for name, check in evaluate(asset).items()}
    assert set(found) == {key.name for key in graph.asset_check_keys}
    assert {name: check.description for name, check in found.items() if not check.passed} == {}


@pytest.mark.parametrize(("check", "table", "broken", "message"), CASES)
def test_a_check_fails_with_a_reason(
    check: str, table: str, broken: Broken, message: str,
    evaluate: Callable[[str], dict[str, AssetCheckEvaluation]], breaking: Callable[[str, Broken], None],
) -> None:  # fmt: skip
    breaking(table, broken)
    found = evaluate(table)[check]
    assert not found.passed
    assert message in (found.description or "")


def test_lists_below_the_baselines_block_only_the_first_release(
    home: Path, evaluate: Callable[[str], dict[str, AssetCheckEvaluation]], breaking: Callable[[str, Broken], None]
) -> None:
    breaking("evaluation_report", _baselines_far_ahead)
    assert evaluate("evaluation_report")["hybrid_beats_the_baselines"].severity == AssetCheckSeverity.ERROR
    releases = Releases(Settings(home=home).mlflow_uri, "product-recommender")
    (release,), day_before = releases.versions(), max(Lake(home / "lake").table("champion").days) - dt.timedelta(days=1)
    releases.set_tags(release.version, {"as_of": day_before})
    try:
        found = evaluate("evaluation_report")["hybrid_beats_the_baselines"]
    finally:
        releases.set_tags(release.version, {"as_of": release.as_of})
    assert (found.passed, found.severity) == (False, AssetCheckSeverity.WARN)


@pytest.mark.parametrize(
    ("check", "table", "emptied", "message"),
    [
        ("factors_are_finite", "als_model", _nothing, "0 factor vectors for nothing"),
        ("graph_is_valid", "co_purchase_graph", _nothing, "0 edges"),
        ("similar_products_differ", "similar_products", _nothing, "0 pairs"),
        ("hybrid_beats_the_baselines", "evaluation_report", _no_customers, "no customer with a history"),
    ],
)
def test_tables_that_may_be_empty_pass(
    check: str, table: str, emptied: Broken, message: str,
    evaluate: Callable[[str], dict[str, AssetCheckEvaluation]], breaking: Callable[[str, Broken], None],
) -> None:  # fmt: skip
    breaking(table, emptied)
    found = evaluate(table)[check]
    assert found.passed
    assert message in (found.description or "")


def test_lists_of_the_fixed_blend_below_the_baselines_only_warn(
    home: Path, evaluate: Callable[[str], dict[str, AssetCheckEvaluation]], breaking: Callable[[str, Broken], None]
) -> None:
    lake = Lake(home / "lake")
    breaking("evaluation_report", _baselines_far_ahead)
    assert evaluate("evaluation_report")["hybrid_beats_the_baselines"].severity == AssetCheckSeverity.ERROR
    lists_day = max(lake.table("evaluation_report").days) - dt.timedelta(days=int(SMALL["REC_HORIZON_DAYS"]))
    version = lake.table("hybrid_scores").head(lists_day, rows=1)["ranker_as_of"][0].as_py()
    trained = lake.table("ranker").read([version]).drop_columns(["date"])
    lake.write("ranker", trained.to_pandas().assign(model=b""), version)
    try:
        found = evaluate("evaluation_report")["hybrid_beats_the_baselines"]
    finally:
        lake.write("ranker", trained, version)
    assert not found.passed and found.severity == AssetCheckSeverity.WARN


def test_repeated_lines_are_found_in_several_passes_despite_hash_collisions(
    evaluate: Callable[[str], dict[str, AssetCheckEvaluation]], breaking: Callable[[str, Broken], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("rec_assets.checks.data.LINES_PER_PASS", 100)
    hash_array = pd.util.hash_array
    monkeypatch.setattr(pd.util, "hash_array", lambda ids, **how: hash_array(ids, **how) // 2**54)
    valid = evaluate("cleaned_interactions")["lines_are_unique"]
    assert valid.passed
    breaking("cleaned_interactions", _first_row_twice)
    assert "1 repeated" in (evaluate("cleaned_interactions")["lines_are_unique"].description or "")


def test_raw_is_not_fresh_if_a_landed_day_was_not_read(
    home: Path, evaluate: Callable[[str], dict[str, AssetCheckEvaluation]]
) -> None:
    lake = Lake(home / "lake")
    newest = max(lake.table("raw_purchase_logs").days)
    was = lake.table("raw_purchase_logs").partitions[newest]
    lake.delete("raw_purchase_logs", [newest])
    try:
        found = evaluate("raw_purchase_logs")["raw_is_fresh"]
    finally:
        lake.commit("raw_purchase_logs", {newest: was})
    assert not found.passed
    assert f"newest day landed: {newest}" in (found.description or "")


def test_every_check_has_a_case(definitions: Definitions) -> None:
    covered = {case[0] for case in CASES} | {
        "raw_is_fresh",
        "purchases_land_on_time",
    }  # of the latter in test_rhythm.py
    assert covered == {key.name for key in definitions.resolve_asset_graph().asset_check_keys}
