"""The code location written out, so that a test fails for every change: assets, jobs, sensors, schedules, checks."""

from __future__ import annotations

import datetime as dt
import inspect
from pathlib import Path

import pytest
from dagster import (
    AssetKey,
    DefaultScheduleStatus,
    DefaultSensorStatus,
    Definitions,
    OpDefinition,
    SensorDefinition,
    TableSchema,
)
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from rec_assets.definitions import build_definitions
from rec_assets.settings import Settings
from rec_assets_tests.conftest import BootstrappedShop, dagster_instance
from rec_assets_tests.shops import write_giftware_shop

GROUPS = {
    "ingestion": {"raw_purchase_logs", "raw_product_catalog", "catalog_ids", "raw_feedback_events"},
    "interactions": {"cleaned_interactions", "rejected_purchases", "products"},
    "customers": {"customer_histories"},
    "models": {
        "product_statistics", "recipe", "als_model", "co_purchase_graph", "product_embeddings", "similar_texts",
        "product_snapshot", "candidates", "ranker",
    },
    "recommendations": {"hybrid_scores", "similar_products"},
    "evaluation": {"evaluation_report", "live_accuracy"},
    "release": {"challenger", "release_gate", "champion", "serving_index"},
    "business": {"business_kpis"},
    "experiments": {"experiment_exposures", "experiment_report"},
    "tuning": {"tuned_recipe"},
}  # fmt: skip

PARENTS = {
    "raw_purchase_logs": set(),
    "raw_product_catalog": set(),
    "catalog_ids": {"raw_product_catalog"},
    "raw_feedback_events": set(),
    "cleaned_interactions": {"raw_purchase_logs", "catalog_ids", "raw_feedback_events"},
    "rejected_purchases": {"raw_purchase_logs", "catalog_ids"},
    "products": {"cleaned_interactions", "raw_product_catalog"},
    "customer_histories": {"cleaned_interactions"},
    "product_statistics": {"customer_histories"},
    "recipe": {"customer_histories"},
    "als_model": {"customer_histories", "recipe"},
    "co_purchase_graph": {"customer_histories", "recipe"},
    "product_embeddings": {"products"},
    "similar_texts": {"products", "product_embeddings"},
    "product_snapshot": {
        "products", "product_embeddings", "similar_texts", "product_statistics", "als_model", "co_purchase_graph",
    },
    "candidates": {"product_snapshot", "customer_histories", "recipe"},
    "ranker": {"candidates", "cleaned_interactions", "recipe"},
    "hybrid_scores": {"candidates", "ranker", "product_snapshot"},
    "similar_products": {"product_snapshot", "co_purchase_graph"},
    "evaluation_report": {"hybrid_scores", "candidates", "product_snapshot", "cleaned_interactions"},
    "live_accuracy": {"hybrid_scores", "product_snapshot", "cleaned_interactions"},
    "challenger": {
        "evaluation_report", "customer_histories", "als_model", "co_purchase_graph", "ranker", "product_snapshot",
    },
    "release_gate": {"challenger", "cleaned_interactions", "customer_histories", "product_snapshot"},
    "champion": {"release_gate"},
    "serving_index": {"champion", "customer_histories", "hybrid_scores", "product_snapshot"},
    "business_kpis": {"cleaned_interactions", "raw_feedback_events", "products"},
    "experiment_exposures": set(),
    "experiment_report": {"experiment_exposures", "raw_feedback_events", "cleaned_interactions"},
    "tuned_recipe": {"cleaned_interactions", "products", "product_embeddings"},
}  # fmt: skip

WITHOUT_DAYS = {"raw_product_catalog", "catalog_ids", "products", "product_embeddings", "similar_texts", "tuned_recipe"}

JOBS = {
    "ingest_catalog": {"raw_product_catalog", "catalog_ids"},
    "ingest": {
        "raw_purchase_logs",
        "raw_feedback_events",
        "experiment_exposures",
        "cleaned_interactions",
        "rejected_purchases",
    },
    "update_products": {"products", "product_embeddings", "similar_texts"},
    "train_retrieval": {
        "customer_histories",
        "product_statistics",
        "recipe",
        "als_model",
        "co_purchase_graph",
        "product_snapshot",
        "candidates",
    },
    "generate_candidates": {"customer_histories", "product_statistics", "product_snapshot", "candidates"},
    "train_models": {
        "customer_histories",
        "product_statistics",
        "recipe",
        "als_model",
        "co_purchase_graph",
        "product_snapshot",
        "ranker",
    },
    "score_customers": {
        "customer_histories",
        "product_statistics",
        "product_snapshot",
        "candidates",
        "hybrid_scores",
        "similar_products",
    },
    "measure_live_accuracy": {"live_accuracy"},
    "evaluate": {"evaluation_report"},
    "release": {"challenger", "release_gate", "champion"},
    "publish_index": {"serving_index"},
    "report_kpis": {"business_kpis", "experiment_report"},
    "daily_update": set(),
    "retrain": set(),
    "rollback": set(),
    "housekeeping": set(),
    "check_landing": set(),
    "tune": {"tuned_recipe"},
}

SENSORS = {
    "purchase_logs_landed": "ingest",
    "purchase_logs_overdue": "check_landing",
    "catalog_landed": "daily_update",
    "retraining_needed": "retrain",
    "alert_on_run_failure": None,
    "alert_on_check_failure": None,
    "alert_on_rejection": None,
}

SCHEDULES = {"nightly_update": "daily_update", "scheduled_retraining": "retrain", "daily_housekeeping": "housekeeping"}

BLOCKING_CHECKS = {
    "cleaned_interactions": {"no_line_is_lost", "lines_are_unique"},
    "products": {"products_are_unique"},
    "product_embeddings": {"embeddings_are_unit_vectors", "every_text_is_embedded"},
    "als_model": {"factors_are_finite"},
    "candidates": {"pairs_are_unique"},
    "hybrid_scores": {"lists_are_complete"},
    "evaluation_report": {"hybrid_beats_the_baselines"},
}

WARNING_CHECKS = {
    "raw_purchase_logs": {"raw_is_fresh", "purchases_land_on_time", "raw_volume_is_usual"},
    "rejected_purchases": {"few_lines_are_rejected"},
    "co_purchase_graph": {"graph_is_valid"},
    "similar_products": {"similar_products_differ"},
    "live_accuracy": {"hit_rate_is_in_control_band"},
    "business_kpis": {"kpis_are_plausible"},
    "experiment_report": {"experiments_are_valid"},
}


LOOKBACK, HORIZON, GATE, REUSE = 40, 6, 4, 3
_LOOKBACK, _LABELS, _HORIZON_AGO = (1 - LOOKBACK, 0), (1 - HORIZON, 0), (-HORIZON, -HORIZON)
_MODELS, _CHALLENGERS = (1 - REUSE, 0), (1 - GATE - REUSE, 0)
_GATE_MODELS = dict.fromkeys(("als_model", "co_purchase_graph", "ranker"), _CHALLENGERS)
_GATE_STATE = dict.fromkeys(("product_snapshot", "customer_histories"), (1 - GATE - REUSE, -GATE))

WINDOWS = {
    "customer_histories": {"cleaned_interactions": _LOOKBACK},
    **{name: {"recipe": _LOOKBACK} for name in ("als_model", "co_purchase_graph", "candidates")},
    "product_snapshot": {"als_model": _MODELS, "co_purchase_graph": _MODELS},
    "similar_products": {"co_purchase_graph": _MODELS},
    "ranker": {"candidates": _HORIZON_AGO, "cleaned_interactions": _LABELS, "recipe": _LOOKBACK},
    "hybrid_scores": {"ranker": _MODELS},
    "evaluation_report": {
        "hybrid_scores": _HORIZON_AGO, "candidates": _HORIZON_AGO, "product_snapshot": _HORIZON_AGO,
        "cleaned_interactions": _LABELS,
    },
    "live_accuracy": {"hybrid_scores": (-REUSE, -1)},
    "challenger": {**_GATE_STATE, **_GATE_MODELS},
    "release_gate": {**_GATE_STATE, "cleaned_interactions": _CHALLENGERS},
    "business_kpis": {"cleaned_interactions": _LOOKBACK, "raw_feedback_events": (-34, 0)},
    "experiment_report": {
        "cleaned_interactions": (-180, 0), "raw_feedback_events": (-124, 0), "experiment_exposures": (-124, 0),
    },
}  # fmt: skip
"""Asset → parent → first and last day that it reads, relative to its own day. It reads others on the same day."""


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> Definitions:
    folder = tmp_path_factory.mktemp("shop")
    return build_definitions(Settings(home=folder / "home", source=str(write_giftware_shop(folder))))


@pytest.fixture(scope="module")
def graph(definitions: Definitions) -> AssetGraph:
    return definitions.resolve_asset_graph()


def test_assets_are_in_these_groups(graph: AssetGraph) -> None:
    found: dict[str, set[str]] = {}
    for key in graph.get_all_asset_keys():
        found.setdefault(graph.get(key).group_name, set()).add(key.to_user_string())
    assert found == GROUPS


def test_assets_depend_on_these_assets(graph: AssetGraph) -> None:
    found = {
        key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }
    assert found == PARENTS


def test_all_assets_but_these_have_daily_partitions(graph: AssetGraph) -> None:
    keys = graph.get_all_asset_keys()
    assert {key.to_user_string() for key in keys if graph.get(key).partitions_def is None} == WITHOUT_DAYS
    assert len({graph.get(key).partitions_def for key in keys}) == 2


def test_assets_read_these_days_of_their_parents(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path / "home", source=str(write_giftware_shop(tmp_path)),
        lookback_days=LOOKBACK, horizon_days=HORIZON, gate_days=GATE, model_reuse_days=REUSE,
    )  # fmt: skip
    graph = build_definitions(settings).resolve_asset_graph()
    as_of, found = dt.date(2011, 9, 1), {}
    for key in graph.get_all_asset_keys() - {AssetKey(name) for name in WITHOUT_DAYS}:
        ages: dict[str, list[int]] = {}
        for parent, day in graph.get_parents_partitions(key, as_of.isoformat()).parent_partitions:
            if day is not None:
                ages.setdefault(parent.to_user_string(), []).append((dt.date.fromisoformat(day) - as_of).days)
        windows = {parent: (min(days), max(days)) for parent, days in ages.items()}
        found[key.to_user_string()] = {parent: window for parent, window in windows.items() if window != (0, 0)}
    assert {asset: windows for asset, windows in found.items() if windows} == WINDOWS
    assert max(last for windows in WINDOWS.values() for _, last in windows.values()) == 0, "nothing reads a later day"


def _has_sentence(description: str | None) -> bool:
    return bool(description) and str(description).strip().endswith(".")


@pytest.mark.parametrize("asset", sorted(PARENTS))
def test_an_asset_has_a_description_owners_kinds_and_a_group(graph: AssetGraph, asset: str) -> None:
    node = graph.get(AssetKey(asset))
    assert _has_sentence(node.description)
    assert node.owners and node.kinds and node.group_name != "default"


def test_every_table_column_in_the_ui_has_a_description(shop: BootstrappedShop) -> None:
    missing = []
    with dagster_instance(shop.home) as instance:
        for asset in sorted(PARENTS):
            event = instance.get_latest_materialization_event(AssetKey(asset))
            if event is None or event.asset_materialization is None:  # a bootstrap doesn't tune
                continue
            schema = event.asset_materialization.metadata["dagster/column_schema"].value
            assert isinstance(schema, TableSchema) and schema.columns
            missing += [f"{asset}.{column.name}" for column in schema.columns if not _has_sentence(column.description)]
    assert missing == []


def test_every_check_job_sensor_schedule_and_resource_has_a_description(
    definitions: Definitions, graph: AssetGraph
) -> None:
    jobs = [job for job in definitions.resolve_all_job_defs() if not job.name.startswith("__")]
    described = {
        **{f"check {key.name}": graph.get_check_spec(key).description for key in graph.asset_check_keys},
        **{f"job {job.name}": job.description for job in jobs},
        **{f"op {node.name}": node.description for job in jobs for node in job.nodes if isinstance(node, OpDefinition)},
        **{f"sensor {sensor.name}": sensor.description for sensor in definitions.sensors or []},
        **{f"schedule {schedule.name}": schedule.description for schedule in definitions.schedules or []},
        # A resource that is no ConfigurableResource is shown without a description, so its class needs the docstring.
        **{f"resource {name}": inspect.getdoc(type(value)) for name, value in (definitions.resources or {}).items()},
    }
    assert [name for name, description in described.items() if not _has_sentence(description)] == []


def test_jobs_materialize_these_assets(definitions: Definitions) -> None:
    found = {
        job.name: {key.to_user_string() for key in job.asset_layer.selected_asset_keys}
        for job in definitions.resolve_all_job_defs()
        if not job.name.startswith("__")
    }
    assert found == JOBS


def test_sensors_and_schedules_start_these_jobs_and_are_off_by_default(definitions: Definitions) -> None:
    def target(sensor: SensorDefinition) -> str | None:
        return sensor.targets[0].job_name if sensor.targets else None

    sensors = {sensor.name: sensor for sensor in definitions.sensors or []}
    schedules = {schedule.name: schedule for schedule in definitions.schedules or []}
    assert {name: target(sensor) for name, sensor in sensors.items()} == SENSORS
    assert {name: schedule.job_name for name, schedule in schedules.items()} == SCHEDULES
    assert {sensor.default_status for sensor in sensors.values()} == {DefaultSensorStatus.STOPPED}
    assert {schedule.default_status for schedule in schedules.values()} == {DefaultScheduleStatus.STOPPED}


def test_these_checks_block_and_these_only_warn(graph: AssetGraph) -> None:
    found: dict[bool, dict[str, set[str]]] = {True: {}, False: {}}
    for key in graph.asset_check_keys:
        by_asset = found[graph.get_check_spec(key).blocking]
        by_asset.setdefault(key.asset_key.to_user_string(), set()).add(key.name)
    assert found == {True: BLOCKING_CHECKS, False: WARNING_CHECKS}


def test_the_definitions_are_loadable(tmp_path: Path) -> None:
    source = str(write_giftware_shop(tmp_path))
    Definitions.validate_loadable(build_definitions(Settings(home=tmp_path / "home", source=source)))
