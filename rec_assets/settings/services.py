"""Settings of the services around the code location: Dagster's and MLflow's databases, addresses and ports."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings


class ServiceSettings(BaseSettings):
    """Dagster's and MLflow's databases, addresses and ports."""

    dagster_database_url: SecretStr | None = Field(
        None, description="Dagster's database, as `postgresql+psycopg2://user@host/dagster`. The default is SQLite."
    )
    mlflow_tracking_uri: str | None = Field(
        None, description="URI of the MLflow server. The default is a SQLite file under `REC_HOME`."
    )
    mlflow_ui_url: str | None = Field(
        None,
        description="Base URL of links to MLflow. The default is the server, or `http://localhost:REC_MLFLOW_PORT`.",
    )
    mlflow_experiment: str = Field("rec_assets", description="MLflow experiment of all runs.")
    registered_model: str = Field(
        "product-recommender", description="Name of the registered model in the MLflow model registry."
    )
    ui_url: str | None = Field(
        None, description="Base URL of links to the Dagster UI. The default is `http://localhost:REC_UI_PORT`."
    )
    ui_port: int = Field(3000, description="Port of the Dagster UI.")
    mlflow_port: int = Field(5000, description="Port of the MLflow UI that `rec-assets ui` starts.")

    @field_validator("dagster_database_url")
    @classmethod
    def _check_postgres(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith("postgresql+psycopg2://"):
            # SQLAlchemy 2.1 uses psycopg 3 for a URL without a driver, and Dagster's statements fail with that.
            raise ValueError("must be a URL that begins with postgresql+psycopg2://")
        return url

    @property
    def ui_base_url(self) -> str:
        """Base URL of the Dagster UI."""
        return (self.ui_url or f"http://localhost:{self.ui_port}").rstrip("/")

    @property
    def mlflow_is_server(self) -> bool:
        """Whether MLflow is a server, not a file or a Databricks workspace."""
        return (self.mlflow_tracking_uri or "").startswith(("http://", "https://"))

    @property
    def mlflow_ui_base_url(self) -> str:
        """Base URL of the MLflow UI."""
        server = self.mlflow_tracking_uri if self.mlflow_is_server else None
        return (self.mlflow_ui_url or server or f"http://localhost:{self.mlflow_port}").rstrip("/")
