"""Every setting, typed, with its default and meaning. Set one as an environment variable `REC_…` or in `.env`.

`REC_LOOKBACK_DAYS=180` sets `lookback_days`; `REC_RECIPE__ALS__RANK=32` sets a hyper-parameter. How a shop's files
look is not a setting: it stands in the source's YAML file (`sources/spec.py`).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.release.limits import GateLimits


class Retraining(BaseModel):
    """When new models should be trained."""

    model_config = ConfigDict(frozen=True)

    new_share: float = Field(
        0.05, gt=0, description="New purchase lines, as a share of those the last models learned from."
    )
    unknown_products: float = Field(
        0.4, gt=0, le=1, description="Share of a week's purchase lines whose product the model has no factors of."
    )
    unknown_customers: float = Field(
        0.4, gt=0, le=1, description="Share of a week's purchase lines whose customer had no list."
    )


class Settings(BaseSettings):
    """Settings of one deployment."""

    model_config = SettingsConfigDict(
        env_prefix="REC_", env_nested_delimiter="__", env_file=".env", extra="ignore", frozen=True
    )

    home: Path = Field(Path("data"), description="Folder of all state; deleting it is a clean start.")
    source: str = Field(
        "complete_journey", description="Path of the source's YAML file, or the name of a built-in source."
    )
    lookback_days: int = Field(365, ge=1, description="Days of purchases that the models learn from.")
    horizon_days: int = Field(28, ge=1, description="Days after an as-of day that label and judge its lists.")
    reuse_days: int = Field(7, ge=1, description="Age in days up to which a model scores without being retrained.")
    gate_days: int = Field(7, ge=1, description="Days after training by which a challenger is judged.")
    gate: GateLimits = Field(GateLimits(), description="What a challenger must keep to be promoted.")
    retraining: Retraining = Field(Retraining(), description="When the sensor asks for new models.")
    nightly_cron: str = Field("30 3 * * *", description="When `refresh` runs each night, as a cron line.")
    weekly_cron: str = Field("30 5 * * 0", description="When `retrain` runs each week, as a cron line.")
    schedule_time_zone: str | None = Field(None, description="IANA zone of these times; default: the source's.")
    sensor_seconds: int = Field(30, ge=1, description="Seconds between two looks of a sensor.")
    landing_settle_seconds: float = Field(
        60, ge=0, description="Age in seconds from which a file counts as whole, if no success marker says so."
    )
    recipe: Recipe = Field(Recipe(), description="Hyper-parameters of the models.")

    spark_master: str = Field("local[*]", description="Spark master URL.")
    spark_driver_memory: str = Field("4g", description="Heap of the Spark driver (locally, of all of Spark).")
    spark_shuffle_partitions: int = Field(4, ge=1, description="Tasks after a shuffle; two per core serve well.")
    encoder: str = Field(
        "packaged-minilm",
        description="Text encoder: the packaged all-MiniLM-L6-v2, or a sentence-transformers path or model name.",
    )
    mlflow_tracking_uri: str | None = Field(None, description="MLflow server; default: SQLite under REC_HOME.")
    mlflow_experiment: str = Field("rec_assets", description="MLflow experiment of all runs.")
    registered_model: str = Field("product-recommender", description="Name in the MLflow model registry.")
    ui_port: int = Field(3000, description="Port of the Dagster web UI.")
    mlflow_port: int = Field(5000, description="Port of the MLflow UI that `rec-assets ui` starts.")

    @property
    def root(self) -> Path:
        """Absolute `home`."""
        return self.home.expanduser().resolve()

    @property
    def lake(self) -> Path:
        """Folder of the lake's tables."""
        return self.root / "lake"

    @property
    def reports(self) -> Path:
        """Folder of the HTML reports."""
        return self.root / "reports"

    @property
    def serving(self) -> Path:
        """Folder of what the API serves."""
        return self.root / "serving"

    @property
    def dagster_home(self) -> Path:
        """DAGSTER_HOME."""
        return self.root / "dagster"

    @property
    def mlflow_uri(self) -> str:
        """Where MLflow keeps runs and the registry."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.root / 'mlflow' / 'mlflow.db'}"


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()
