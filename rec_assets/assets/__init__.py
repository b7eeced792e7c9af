"""Assets: one module per asset group, and helper modules. An asset reads inputs, calls `recsys`, and adds metadata."""

import dagster as dg

from rec_assets.assets.business import business_assets
from rec_assets.assets.evaluation import evaluation_assets
from rec_assets.assets.experiments import experiment_assets
from rec_assets.assets.ingestion import ingestion_assets
from rec_assets.assets.interactions import interaction_assets
from rec_assets.assets.models import model_assets
from rec_assets.assets.recommendations import recommendation_assets
from rec_assets.assets.release import release_assets
from rec_assets.assets.tuning import tuning_assets
from rec_assets.partitions import DayPartitions
from rec_assets.settings import Settings
from rec_assets.sources.spec import DataSource


def all_assets(settings: Settings, source: DataSource, days: DayPartitions) -> list[dg.AssetsDefinition]:
    """All assets."""
    return [
        *ingestion_assets(settings, source, days),
        *interaction_assets(settings, source, days),
        *model_assets(settings, source, days),
        *recommendation_assets(settings, days),
        *evaluation_assets(settings, source, days),
        *release_assets(settings, source, days),
        *business_assets(settings, days),
        *experiment_assets(settings, days),
        *tuning_assets(settings, source),
    ]
