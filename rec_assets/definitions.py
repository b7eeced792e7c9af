"""The code location: `build_definitions` assembles all definitions for one data source and one set of settings."""

from __future__ import annotations

import dagster as dg

from rec_assets.assets.business import business_assets
from rec_assets.assets.customers import customer_assets
from rec_assets.assets.databricks_assets import run_on_databricks
from rec_assets.assets.evaluation import evaluation_assets
from rec_assets.assets.experiments import experiment_assets
from rec_assets.assets.export import export_assets
from rec_assets.assets.ingestion import ingestion_assets, upstream_specs
from rec_assets.assets.interactions import interaction_assets
from rec_assets.assets.model_loading import ActiveModels
from rec_assets.assets.models import model_assets
from rec_assets.assets.recommendations import recommendation_assets
from rec_assets.assets.release import release_assets
from rec_assets.assets.tuning import tuning_assets
from rec_assets.automation.alert_sensors import build_alert_sensors
from rec_assets.automation.asset_jobs import build_asset_jobs
from rec_assets.automation.console_logger import console_logger
from rec_assets.automation.housekeeping import build_housekeeping
from rec_assets.automation.plan_jobs import build_plan_jobs, build_schedules
from rec_assets.automation.rollback import build_rollback_job
from rec_assets.automation.sensors import build_sensors
from rec_assets.checks import all_checks
from rec_assets.partitions import DayPartitions
from rec_assets.resources.encoder import EncoderResource
from rec_assets.resources.lake import open_lake
from rec_assets.resources.lake_io import LakeIOManager
from rec_assets.resources.recipes import Recipes
from rec_assets.resources.releases import Releases
from rec_assets.resources.spark import spark_resource
from rec_assets.resources.tracking import TrackingResource
from rec_assets.serving.index_files.folder import ServingFolder
from rec_assets.settings import Settings, get_settings
from rec_assets.sources.spec import DataSource, load_data_source


def build_definitions(settings: Settings) -> dg.Definitions:
    """Build the assets, checks, jobs, schedules, sensors and resources.

    Raises:
        SourceError: the YAML file of the data source is invalid, or its first day is unknown.
        DatabricksUnusable: the settings name a Databricks workspace, but dagster-databricks is not installed.
    """
    source = load_data_source(settings.source, settings.root)
    days = DayPartitions(settings, source.start(), source.last_day)
    spark, lake = spark_resource(settings), open_lake(settings.lake)
    releases = Releases(settings.mlflow_uri, settings.registered_model)
    plan_jobs = build_plan_jobs(settings, source, lambda: definitions)
    housekeeping, housekeeping_schedule = build_housekeeping(settings, source)
    assets, checks = _all_assets(settings, source, days), all_checks(settings, source)
    if settings.databricks:
        assets, checks = run_on_databricks(settings, assets, checks)
    definitions = dg.Definitions(
        assets=[*assets, *upstream_specs(source)],
        asset_checks=checks,
        jobs=[*build_asset_jobs(settings), *plan_jobs, build_rollback_job(settings), housekeeping],
        schedules=[*build_schedules(settings, source, plan_jobs), housekeeping_schedule],
        sensors=[*build_sensors(settings, source, days), *build_alert_sensors(settings)],
        executor=dg.in_process_executor,
        loggers={"console": console_logger},
        resources={
            "io_manager": LakeIOManager(root=str(settings.lake), disk=str(settings.staging), spark=spark),
            "lake": lake,
            "active_models": ActiveModels(lake, releases, settings.model_reuse_days),
            "recipes": Recipes.from_settings(settings),
            "releases": releases,
            "serving": ServingFolder(settings.serving),
            "spark": spark,
            "encoder": EncoderResource(model=settings.encoder),
            "tracking": TrackingResource(
                uri=settings.mlflow_uri, artifacts=str(settings.root / "mlflow" / "artifacts"),
                experiment=settings.mlflow_experiment, ui_url=settings.mlflow_ui_base_url,
            ),
        },
    )  # fmt: skip
    return definitions


def _all_assets(settings: Settings, source: DataSource, days: DayPartitions) -> list[dg.AssetsDefinition]:
    """All assets."""
    return [
        *ingestion_assets(settings, source, days),
        *interaction_assets(settings, source, days),
        *customer_assets(settings, days),
        *model_assets(settings, source, days),
        *recommendation_assets(settings, days),
        *export_assets(settings, days),
        *evaluation_assets(settings, source, days),
        *release_assets(settings, source, days),
        *business_assets(settings, days),
        *experiment_assets(settings, days),
        *tuning_assets(settings, source),
    ]


defs = build_definitions(get_settings())
