"""`Settings`: all themes together, with the checks and values that need several of them."""

from __future__ import annotations

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from rec_assets.recsys.experiments.experiments_file import COVARIATE_DAYS, MAX_EXPERIMENT_DAYS
from rec_assets.settings.api import ApiSettings
from rec_assets.settings.automation import AutomationSettings
from rec_assets.settings.export import ExportSettings
from rec_assets.settings.folders import FolderSettings
from rec_assets.settings.models import ModelSettings
from rec_assets.settings.services import ServiceSettings
from rec_assets.settings.spark import SparkSettings
from rec_assets.sqlite import sqlite_url


class Settings(AutomationSettings, ServiceSettings, SparkSettings, ModelSettings, FolderSettings):
    """Settings of one deployment."""

    model_config = SettingsConfigDict(
        env_prefix="REC_",
        env_nested_delimiter="__",
        env_file=".env",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,  # URLs contain secrets
    )

    api: ApiSettings = Field(ApiSettings(), description="Settings of the real-time API.")
    export: ExportSettings = Field(ExportSettings(), description="Settings of the export to a SQL table.")

    @model_validator(mode="after")
    def _check_shared_registry(self) -> Settings:
        if self.databricks and not self.mlflow_tracking_uri:
            raise ValueError(
                "REC_DATABRICKS__… needs REC_MLFLOW_TRACKING_URI, a server that Databricks can reach too: `databricks` "
                "is the workspace's own"
            )
        return self

    @model_validator(mode="after")
    def _check_retention(self) -> Settings:
        for table, least in self.min_retention_days.items():
            days = getattr(self.retention, table)
            if table in self.retention.model_fields_set and days is not None and days < least:
                raise ValueError(
                    f"REC_RETENTION__{table.upper()}={days} would delete days that the next runs need: set at least "
                    f"{least} (computed from lookback_days, horizon_days, model_reuse_days and gate_days), or `none`"
                )
        return self

    @property
    def min_retention_days(self) -> dict[str, int]:
        """Days of each table that the next runs may read or recompute.

        The newest report evaluates the lists of a horizon ago. Their ranker was trained on the candidates of a horizon
        before that, made from a lookback of purchases. A challenger that waits for its gate adds `gate_days`.
        """
        back = 2 * self.horizon_days + self.gate_days
        experiment_days = MAX_EXPERIMENT_DAYS + self.api.event_retention_days + COVARIATE_DAYS
        daily = ("raw_purchase_logs", "cleaned_interactions", "rejected_purchases", "raw_feedback_events",
                 "experiment_exposures")  # fmt: skip
        models = ("product_statistics", "als_model", "co_purchase_graph", "ranker")
        return {
            **dict.fromkeys(daily, max(back + self.lookback_days, experiment_days if self.experiments else 0)),
            **dict.fromkeys(models, back + self.model_reuse_days),
            **dict.fromkeys(("customer_histories", "product_snapshot"), back + self.model_reuse_days),
            "recipe": back + self.lookback_days,
            "candidates": back + 1,
            "hybrid_scores": back + 1,
            "similar_products": self.horizon_days + 1,
            "evaluation_report": self.gate_days + 1,
            "champion": self.gate_days + 1,
        }

    @property
    def retention_days(self) -> dict[str, int | None]:
        """Days of each table that housekeeping keeps; None: all. A default below the minimum is raised to it."""
        least = self.min_retention_days
        return {
            table: None if days is None else max(days, least[table])
            for table, days in self.retention.model_dump().items()
        }

    @property
    def online_url(self) -> str:
        """Database URL of the online state."""
        url = self.api.database_url
        return url.get_secret_value() if url else sqlite_url(self.online_file)

    @property
    def mlflow_uri(self) -> str:
        """URI of MLflow's tracking store and model registry."""
        return self.mlflow_tracking_uri or sqlite_url(self.root / "mlflow" / "mlflow.db")
