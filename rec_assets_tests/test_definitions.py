"""The graph as it is meant to be, written out, so that no change to it goes unseen."""

from __future__ import annotations

from pathlib import Path

import pytest
from dagster import DefaultScheduleStatus, DefaultSensorStatus, Definitions, SensorDefinition
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from rec_assets.definitions import build_definitions
from rec_assets.settings import Settings
from rec_assets_tests.shops import write_giftware_shop

GROUPS = {
    "ingestion": {"raw_purchase_logs", "raw_product_catalog", "raw_feedback_events"},
    "interactions": {"cleaned_interactions", "rejected_purchases", "products"},
    "models": {
        "product_statistics", "als_model", "co_purchase_graph", "product_embeddings", "candidates", "ranker",
    },
    "recommendations": {"hybrid_scores", "similar_products"},
    "evaluation": {"evaluation_report", "live_accuracy"},
    "release": {"challenger", "release_gate", "champion", "serving_index"},
    "experiments": {"business_kpis", "experiment_exposures", "experiment_report"},
    "tuning": {"tuned_recipe"},
}  # fmt: skip

PARENTS = {
    "raw_purchase_logs": set(),
    "raw_product_catalog": set(),
    "raw_feedback_events": set(),
    "cleaned_interactions": {"raw_purchase_logs", "raw_product_catalog", "raw_feedback_events"},
    "rejected_purchases": {"raw_purchase_logs", "raw_product_catalog"},
    "products": {"cleaned_interactions", "raw_product_catalog"},
    "product_statistics": {"cleaned_interactions"},
    "als_model": {"cleaned_interactions"},
    "co_purchase_graph": {"cleaned_interactions"},
    "product_embeddings": {"products"},
    "candidates": {
        "cleaned_interactions", "als_model", "co_purchase_graph", "product_statistics", "products",
        "product_embeddings",
    },
    "ranker": {"candidates", "cleaned_interactions"},
    "hybrid_scores": {"candidates", "ranker", "products", "product_statistics"},
    "similar_products": {
        "als_model", "co_purchase_graph", "product_statistics", "products", "product_embeddings",
    },
    "evaluation_report": {
        "hybrid_scores", "candidates", "product_statistics", "cleaned_interactions", "products",
        "product_embeddings",
    },
    "live_accuracy": {"hybrid_scores", "als_model", "cleaned_interactions"},
    "challenger": {
        "evaluation_report", "cleaned_interactions", "als_model", "co_purchase_graph", "ranker", "product_statistics",
        "products", "product_embeddings",
    },
    "release_gate": {
        "challenger", "cleaned_interactions", "als_model", "co_purchase_graph", "ranker", "products",
        "product_embeddings",
    },
    "champion": {"release_gate"},
    "serving_index": {
        "champion", "cleaned_interactions", "als_model", "co_purchase_graph", "ranker", "product_statistics",
        "hybrid_scores", "products", "product_embeddings",
    },
    "business_kpis": {"cleaned_interactions", "raw_feedback_events", "products"},
    "experiment_exposures": set(),
    "experiment_report": {"experiment_exposures", "raw_feedback_events", "cleaned_interactions"},
    "tuned_recipe": {"cleaned_interactions", "products", "product_embeddings"},
}  # fmt: skip

WITHOUT_DAYS = {"raw_product_catalog", "products", "product_embeddings", "tuned_recipe"}

JOBS = {
    "catalog": {"raw_product_catalog"},
    "ingest": {
        "raw_purchase_logs",
        "raw_feedback_events",
        "experiment_exposures",
        "cleaned_interactions",
        "rejected_purchases",
    },
    "refresh_products": {"products", "product_embeddings"},
    "learn": {"product_statistics", "als_model", "co_purchase_graph", "candidates"},
    "find": {"product_statistics", "candidates"},
    "train": {"als_model", "co_purchase_graph", "ranker"},
    "score": {"product_statistics", "candidates", "hybrid_scores", "similar_products"},
    "watch": {"live_accuracy"},
    "evaluate": {"evaluation_report"},
    "release": {"product_statistics", "challenger", "release_gate", "champion"},
    "publish": {"product_statistics", "serving_index"},
    "report": {"business_kpis", "experiment_report"},
    "refresh": set(),
    "retrain": set(),
    "rollback": set(),
    "housekeeping": set(),
    "tune": {"tuned_recipe"},
}

SENSORS = {
    "landing": "ingest",
    "new_catalog": "refresh",
    "models_grown_old": "retrain",
    "alert_on_run_failure": None,
    "alert_on_check_failure": None,
    "alert_on_rejection": None,
}

SCHEDULES = {"nightly": "refresh", "weekly": "retrain", "housekeeping_daily": "housekeeping"}

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
    "raw_purchase_logs": {"raw_is_fresh", "raw_volume_is_usual"},
    "rejected_purchases": {"few_lines_are_refused"},
    "co_purchase_graph": {"graph_is_sound"},
    "similar_products": {"similar_products_differ"},
    "live_accuracy": {"hit_rate_is_usual"},
    "business_kpis": {"figures_are_possible"},
    "experiment_report": {"experiments_are_sound"},
}


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> Definitions:
    folder = tmp_path_factory.mktemp("shop")
    return build_definitions(Settings(home=folder / "home", source=str(write_giftware_shop(folder))))


@pytest.fixture(scope="module")
def graph(definitions: Definitions) -> AssetGraph:
    return definitions.resolve_asset_graph()


def test_assets_stand_in_these_groups(graph: AssetGraph) -> None:
    found: dict[str, set[str]] = {}
    for key in graph.get_all_asset_keys():
        found.setdefault(graph.get(key).group_name, set()).add(key.to_user_string())
    assert found == GROUPS


def test_assets_are_made_from_these(graph: AssetGraph) -> None:
    found = {
        key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }
    assert found == PARENTS


def test_all_assets_but_these_have_a_partition_a_day(graph: AssetGraph) -> None:
    keys = graph.get_all_asset_keys()
    assert {key.to_user_string() for key in keys if graph.get(key).partitions_def is None} == WITHOUT_DAYS
    assert len({graph.get(key).partitions_def for key in keys}) == 2


@pytest.mark.parametrize("asset", sorted(PARENTS))
def test_an_asset_says_what_it_is_whose_it_is_and_of_what_kind(graph: AssetGraph, asset: str) -> None:
    (node,) = (graph.get(key) for key in graph.get_all_asset_keys() if key.to_user_string() == asset)
    assert node.description and node.description.strip().endswith(".")
    assert node.owners and node.kinds and node.group_name != "default"


def test_jobs_make_these_assets(definitions: Definitions) -> None:
    found = {
        job.name: {key.to_user_string() for key in job.asset_layer.selected_asset_keys}
        for job in definitions.resolve_all_job_defs()
        if not job.name.startswith("__")
    }
    assert found == JOBS


def test_sensors_and_schedules_start_these_jobs_and_are_off_until_turned_on(definitions: Definitions) -> None:
    def targets(each: SensorDefinition) -> str | None:
        return each.targets[0].job_name if each.targets else None

    sensors = {each.name: each for each in definitions.sensors or []}
    schedules = {each.name: each for each in definitions.schedules or []}
    assert {name: targets(each) for name, each in sensors.items()} == SENSORS
    assert {name: each.job_name for name, each in schedules.items()} == SCHEDULES
    assert {each.default_status for each in sensors.values()} == {DefaultSensorStatus.STOPPED}
    assert {each.default_status for each in schedules.values()} == {DefaultScheduleStatus.STOPPED}


def test_these_checks_block_what_comes_next_and_these_only_warn(graph: AssetGraph) -> None:
    found: dict[bool, dict[str, set[str]]] = {True: {}, False: {}}
    for key in graph.asset_check_keys:
        by_asset = found[graph.get_check_spec(key).blocking]
        by_asset.setdefault(key.asset_key.to_user_string(), set()).add(key.name)
    assert found == {True: BLOCKING_CHECKS, False: WARNING_CHECKS}


def test_the_definitions_load_as_a_server_loads_them(tmp_path: Path) -> None:
    source = str(write_giftware_shop(tmp_path))
    Definitions.validate_loadable(build_definitions(Settings(home=tmp_path / "home", source=source)))
