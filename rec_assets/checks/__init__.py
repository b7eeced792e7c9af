"""Is it right? Asset checks, one module a group; those that guard what comes next are blocking."""

from dagster import AssetChecksDefinition

from rec_assets.checks.data import data_checks
from rec_assets.checks.models import model_checks
from rec_assets.checks.results import result_checks
from rec_assets.settings import Settings
from rec_assets.sources.spec import Source


def all_checks(settings: Settings, source: Source) -> list[AssetChecksDefinition]:
    """Every check."""
    return [*data_checks(source), *model_checks(), *result_checks(settings)]
