"""Settings: typed, with defaults and descriptions. Set them as environment variables `REC_…` or in `.env`.

`REC_LOOKBACK_DAYS=180` sets `lookback_days`; `REC_RECIPE__ALS__RANK=32` sets a nested field. `Settings` combines the
fields of the modules here, one module per theme. The format of a shop's files is not a setting: describe it in the YAML
file of the data source (`sources/spec.py`).
"""

from rec_assets.settings.api import ApiSettings
from rec_assets.settings.environment import InvalidSettings, get_settings, unknown_variables
from rec_assets.settings.folders import CatalogSchema, parse_lake
from rec_assets.settings.models import FeedbackSettings, RetrainingSettings
from rec_assets.settings.retention import RetentionSettings
from rec_assets.settings.settings import Settings
from rec_assets.settings.spark import DatabricksSettings

__all__ = [
           "ApiSettings",
           "CatalogSchema",
           "DatabricksSettings",
           "FeedbackSettings",
           "InvalidSettings",
           "RetentionSettings",
           "RetrainingSettings",
           "Settings",
           "get_settings",
           "parse_lake",
           "unknown_variables",
]  # fmt: skip
