"""Every setting, typed, with its default and meaning. Set one as an environment variable `REC_…` or in `.env`.

`REC_LOOKBACK_DAYS=180` sets `lookback_days`; `REC_RECIPE__ALS__RANK=32` sets a hyper-parameter. How a shop's files
look is not a setting: it stands in the source's YAML file (`sources/spec.py`).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from rec_assets.recsys.recipe import Recipe


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
    gate_days: int = Field(7, ge=1, description="Days after training by which a challenger is judged.")
    reuse_days: int = Field(7, ge=1, description="Age in days up to which a model scores without being retrained.")
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
    def tuning(self) -> Path:
        """Folder of the tuning studies and of the recipe they found."""
        return self.root / "tuning"

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
