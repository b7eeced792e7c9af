"""Asset checks on the content of tables. A blocking check stops the assets downstream.

Dagster: its check factories (`build_last_update_freshness_checks`, `build_metadata_bounds_checks`) compare with the
clock and with fixed bounds. These checks work for data that ends in the past, and compare with earlier days.
"""

import dagster as dg

from rec_assets.checks.data import data_checks
from rec_assets.checks.models import model_checks
from rec_assets.checks.results import result_checks
from rec_assets.settings import Settings
from rec_assets.sources.spec import DataSource


def all_checks(settings: Settings, source: DataSource) -> list[dg.AssetChecksDefinition]:
    """All asset checks."""
    return [*data_checks(source), *model_checks(), *result_checks(settings)]
