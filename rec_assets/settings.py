"""Every setting, typed, with its default and meaning. Set one as an environment variable `REC_…` or in `.env`.

`REC_LOOKBACK_DAYS=180` sets `lookback_days`; `REC_RECIPE__ALS__RANK=32` sets a hyper-parameter. How a shop's files
look is not a setting: it stands in the source's YAML file (`sources/spec.py`).
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from dotenv import dotenv_values
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError
from upath import UPath

from rec_assets.recsys.experiments.spec import COVARIATE_DAYS, LONGEST_DAYS
from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.release.limits import GateLimits
from rec_assets.sqlite import sqlite_url, unfit_for_sqlite

_SPARK_KEYS = {
    "spark.master": "set REC_SPARK_MASTER",
    "spark.remote": "set REC_SPARK_REMOTE",
    "spark.checkpoint.dir": "it lies beside the lake's tables",
    "spark.driver.memory": "set REC_SPARK_DRIVER_MEMORY",
    "spark.sql.shuffle.partitions": "set REC_SPARK_SHUFFLE_PARTITIONS",
    "spark.sql.session.timeZone": "days and windows rest on UTC",
    "spark.sql.execution.arrow.pyspark.enabled": "it is always on",
}
"""What `spark_conf` can't set, and what to do instead."""

_SECRET = re.compile("(?i)secret|password|token|access[.]?key")
"""Names that Spark itself hides in its logs (its default of `spark.redaction.regex`)."""


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


class Retention(BaseModel):
    """Days of each table that housekeeping keeps, counted back from the newest day of raw_purchase_logs; None: all.

    As an environment variable, `none` is None: `REC_RETENTION__CANDIDATES=none`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    raw_purchase_logs: int | None = Field(None, ge=1)
    cleaned_interactions: int | None = Field(None, ge=1)
    rejected_purchases: int | None = Field(None, ge=1)
    raw_feedback_events: int | None = Field(None, ge=1)
    experiment_exposures: int | None = Field(None, ge=1)
    product_statistics: int | None = Field(None, ge=1)
    als_model: int | None = Field(180, ge=1)
    co_purchase_graph: int | None = Field(180, ge=1)
    candidates: int | None = Field(70, ge=1)
    ranker: int | None = Field(None, ge=1)
    hybrid_scores: int | None = Field(90, ge=1)
    similar_products: int | None = Field(30, ge=1)
    evaluation_report: int | None = Field(None, ge=1)
    champion: int | None = Field(None, ge=1)

    @field_validator("*", mode="before")
    @classmethod
    def _for_ever(cls, value: object) -> object:
        return None if isinstance(value, str) and value.strip().lower() in ("none", "null", "") else value


class Feedback(BaseModel):
    """What visitors' clicks and carts count where tastes are sought, beside a purchase's 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    click: float = Field(0.1, ge=0, lt=1, description="Weight of a click.")
    cart: float = Field(0.3, ge=0, lt=1, description="Weight of putting something into the basket.")
    most_products: int = Field(
        300,
        ge=1,
        description="Who looks at more products in a day is taken for a robot, and that day's looks don't count.",
    )

    @property
    def weights(self) -> dict[str, float]:
        """By the type of the event."""
        return {"click": self.click, "cart": self.cart}


class Api(BaseModel):
    """The real-time API."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address that it listens on; `0.0.0.0` for all.")
    port: int = Field(8000, ge=0, le=65535, description="Port that it listens on.")
    workers: int = Field(
        1, ge=1, description="Processes; each has the index in its memory, and all share the online state."
    )
    database_url: SecretStr | None = Field(
        None, description="Online state, as `postgresql+psycopg://user@host/shop`; default: SQLite under REC_HOME."
    )
    allowed_origins: tuple[str, ...] = Field(
        (), description='Sites whose pages may call it, as `["https://shop.example"]`.'
    )
    requests_per_second: float = Field(
        100,
        gt=0,
        description="Requests of one key from one address that a worker takes in the long run; what is "
        "much work counts as several.",
    )
    burst: int = Field(200, ge=1, description="The same, at once.")
    max_body_kb: int = Field(512, ge=1, description="Longest body of a request.")
    max_connections: int = Field(
        4000, ge=1, description="Connections that a worker has at once; one address has a quarter of them."
    )
    request_seconds: float = Field(
        20,
        gt=0,
        description="Seconds in which the head of a request must arrive, then its body, and in which its answer must "
        "be read; else the connection is closed.",
    )
    trusted_proxies: tuple[str, ...] = Field(
        (),
        description='Addresses or networks of proxies whose X-Forwarded-For is believed, as `["10.0.0.5"]`; without '
        "them a proxy's requests count as one caller's.",
    )
    customer_secret: SecretStr | None = Field(
        None, min_length=32, description="Signs the tokens with which a public key may speak of a customer."
    )
    storefront_key: SecretStr | None = Field(
        None, description="Key of the demo shop, which everybody then sees; default: no demo shop."
    )
    keep_event_days: int = Field(35, ge=2, description="Days that events stay in the online state.")

    @field_validator("trusted_proxies")
    @classmethod
    def _are_addresses(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError as error:
                raise ValueError(
                    f"{proxy!r} is no address or network, such as 10.0.0.5 or 10.0.0.0/24 ({error})"
                ) from None
        return proxies


def parse_lake(place: object) -> Path | UPath:
    """Where a lake lies: an `s3://bucket/prefix`, or else a folder.

    Raises:
        ValueError: another kind of place, no bucket, or no s3fs to speak with the store.
    """
    scheme, separator, rest = str(place).partition("://")
    if not separator:
        return Path(str(place)).expanduser().resolve()
    if scheme != "s3" or not rest.strip("/"):
        raise ValueError("must be a folder, or s3://bucket/prefix")
    try:
        # What others write is seen at once.
        return UPath(f"s3://{rest.rstrip('/')}", use_listings_cache=False)
    except ImportError:
        raise ValueError("a lake on S3 needs s3fs: pip install 'rec_assets[s3]'") from None


class Databricks(BaseModel):
    """Where a Databricks workspace makes assets. Its address and credentials are databricks-sdk's own variables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cluster_id: str = Field(min_length=1, description="Cluster that the tasks run on; it is started when needed.")
    volume: str = Field(
        pattern=r"^/Volumes/[^/]+/[^/]+/[^/]+$",
        description="Unity Catalog volume that is REC_HOME there, as /Volumes/CATALOG/SCHEMA/VOLUME.",
    )
    wheel: str = Field(pattern=r"\.whl$", description="Where the workspace finds the wheel of rec_assets.")
    source: str | None = Field(None, description="REC_SOURCE there; default: the same as here.")
    assets: Literal["spark", "all"] = Field(
        "spark",
        description="`spark`: the assets that use Spark are made there, and this machine sees the volume as REC_HOME; "
        "`all`: every asset and check, and this machine sees nothing of the lake.",
    )
    poll_seconds: float = Field(5, gt=0, description="Seconds between two looks at a task.")


class Settings(BaseSettings):
    """Settings of one deployment."""

    model_config = SettingsConfigDict(
        env_prefix="REC_",
        env_nested_delimiter="__",
        env_file=".env",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,  # URLs hold secrets
    )

    home: Path = Field(Path("data"), description="Folder of all state; deleting it is a clean start.")
    lake: Annotated[Path | UPath, BeforeValidator(parse_lake)] = Field(
        default_factory=lambda found: _folder_in(found, "lake"),
        description="Tables of the graph: a folder, or s3://bucket/prefix; default: REC_HOME/lake.",
    )
    source: str = Field(
        "complete_journey", description="Path of the source's YAML file, or the name of a built-in source."
    )
    lookback_days: int = Field(365, ge=1, description="Days of purchases that the models learn from.")
    horizon_days: int = Field(28, ge=1, description="Days after an as-of day that label and judge its lists.")
    reuse_days: int = Field(7, ge=1, description="Age in days up to which a model scores without being retrained.")
    gate_days: int = Field(7, ge=1, description="Days after training by which a challenger is judged.")
    judged_customers: int = Field(
        20_000, ge=1, description="Customers by whom a report, and the release gate, judge at most: a fixed sample."
    )
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
    spark_remote: str | None = Field(
        None, description="Spark Connect server, as `sc://host:port/;use_ssl=true`, instead of a master."
    )
    spark_driver_memory: str = Field("4g", description="Heap of the Spark driver (locally, of all of Spark).")
    spark_shuffle_partitions: int = Field(4, ge=1, description="Tasks after a shuffle; two per core serve well.")
    spark_conf: dict[str, str] = Field(
        {}, description='Further settings of Spark, as `{"spark.executor.memory": "8g"}`.'
    )
    databricks: Databricks | None = Field(None, description="A Databricks workspace that makes assets; default: none.")
    encoder: str = Field(
        "packaged-minilm",
        description="Text encoder: the packaged all-MiniLM-L6-v2, or a sentence-transformers path or model name.",
    )
    dagster_database_url: SecretStr | None = Field(
        None,
        description="Dagster's records, as `postgresql+psycopg2://user@host/dagster`; default: SQLite files "
        "under REC_HOME.",
    )
    mlflow_tracking_uri: str | None = Field(None, description="MLflow server; default: SQLite under REC_HOME.")
    mlflow_ui_url: str | None = Field(
        None, description="Where links to MLflow lead; default: its server, else http://localhost:REC_MLFLOW_PORT."
    )
    mlflow_experiment: str = Field("rec_assets", description="MLflow experiment of all runs.")
    registered_model: str = Field("product-recommender", description="Name in the MLflow model registry.")
    ui_port: int = Field(3000, description="Port of the Dagster web UI.")
    mlflow_port: int = Field(5000, description="Port of the MLflow UI that `rec-assets ui` starts.")

    experiments: Path | None = Field(None, description="YAML file of the experiments; default: none run.")
    rules: Path | None = Field(None, description="YAML file of the merchandiser's rules; default: none.")
    api: Api = Field(Api(), description="The real-time API.")
    feedback: Feedback = Field(Feedback(), description="What clicks and carts count.")

    ui_url: str | None = Field(None, description="Where alerts say the UI is; default: http://localhost:REC_UI_PORT.")
    alerts_webhook: SecretStr | None = Field(None, description="URL that alerts are posted to; default: log only.")
    alerts_format: Literal["json", "slack"] = Field("json", description="Form of what is posted.")
    alerts_repeat_hours: float = Field(
        24, gt=0, description="Hours after which a failure that goes on is reported again."
    )
    retention: Retention = Field(Retention(), description="Days of each table that housekeeping keeps.")
    housekeeping_cron: str = Field("0 5 * * *", description="When housekeeping runs, once its schedule is on.")

    @field_validator("home")
    @classmethod
    def _can_hold_everything(cls, home: Path) -> Path:
        there = home.expanduser().resolve()
        if characters := unfit_for_sqlite(there):
            raise ValueError(
                f"{there} holds {characters!r}, by which the databases in it can't be opened: choose or rename a "
                "folder without it"
            )
        while not there.exists():
            there = there.parent
        if not there.is_dir():
            raise ValueError(f"{there} is a file: name a folder, which is made where it isn't there")
        return home

    @field_validator("experiments", "rules", mode="before")
    @classmethod
    def _is_a_file(cls, path: object) -> Path | None:
        return Path(str(path)).expanduser().resolve() if path is not None and str(path).strip() else None

    @field_validator("alerts_webhook")
    @classmethod
    def _is_url(cls, webhook: SecretStr | None) -> SecretStr | None:
        if webhook is None or not webhook.get_secret_value().strip():
            return None
        if not webhook.get_secret_value().startswith(("http://", "https://")):
            raise ValueError("must be a URL that begins with http:// or https://")
        return webhook

    @field_validator("spark_remote")
    @classmethod
    def _is_connect(cls, remote: str | None) -> str | None:
        if not remote:
            return None
        if not remote.startswith("sc://"):
            raise ValueError("must be the URL of a Spark Connect server, sc://host:port")
        if _SECRET.search(remote):
            raise ValueError(
                "must not hold a token, which the UI would show: set SPARK_CONNECT_AUTHENTICATE_TOKEN instead"
            )
        return remote

    @field_validator("spark_conf")
    @classmethod
    def _leaves_the_rest(cls, conf: dict[str, str]) -> dict[str, str]:
        for key in conf:
            if not key.startswith("spark."):
                raise ValueError(f"{key} is no setting of Spark: its name must begin with `spark.`")
            if key in _SPARK_KEYS:
                raise ValueError(f"{key} can't be set here: {_SPARK_KEYS[key]}")
            if _SECRET.search(key):
                raise ValueError(
                    f"{key} would be shown in the UI: set it in spark-defaults.conf (SPARK_CONF_DIR) instead"
                )
        return conf

    @model_validator(mode="after")
    def _has_one_spark(self) -> Settings:
        if self.spark_remote:
            if "spark_master" in self.model_fields_set:
                raise ValueError(
                    "REC_SPARK_MASTER and REC_SPARK_REMOTE are both set: keep the one that Spark should run on"
                )
            for key in self.spark_conf:
                if not key.startswith("spark.sql."):
                    raise ValueError(
                        f"REC_SPARK_CONF: {key} is the Connect server's to set; with REC_SPARK_REMOTE only spark.sql.* "
                        "can be set here"
                    )
        return self

    @field_validator("dagster_database_url")
    @classmethod
    def _is_postgres(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith("postgresql+psycopg2://"):
            # Dagster's own statements are not understood through psycopg 3, which SQLAlchemy 2.1 takes without a name.
            raise ValueError("must be a URL that begins with postgresql+psycopg2://")
        return url

    @model_validator(mode="after")
    def _shares_releases(self) -> Settings:
        if self.databricks and not self.mlflow_tracking_uri:
            raise ValueError(
                "REC_DATABRICKS__… needs REC_MLFLOW_TRACKING_URI, a server that Databricks sees too: `databricks` for "
                "the workspace's own"
            )
        return self

    @model_validator(mode="after")
    def _keeps_what_is_needed(self) -> Settings:
        for table, least in self.least_retention.items():
            days = getattr(self.retention, table)
            if table in self.retention.model_fields_set and days is not None and days < least:
                raise ValueError(
                    f"REC_RETENTION__{table.upper()}={days} would delete days that the next runs need: set at least "
                    f"{least} (that follows from lookback_days, horizon_days, reuse_days and gate_days), or `none`"
                )
        return self

    @property
    def least_retention(self) -> dict[str, int]:
        """Days of each table that the next runs may read or remake.

        The newest report judges the lists of a horizon ago; their ranker learned from the candidates of a horizon
        before that, and these from the purchases of a lookback; all that for a challenger that waits to be judged.
        Experiments look back on all their days, and on what was bought before.
        """
        back = 2 * self.horizon_days + self.gate_days
        daily = ("raw_purchase_logs", "cleaned_interactions", "rejected_purchases", "raw_feedback_events",
                 "experiment_exposures")  # fmt: skip
        models = ("product_statistics", "als_model", "co_purchase_graph", "ranker")
        observed = LONGEST_DAYS + self.api.keep_event_days if self.experiments else 0
        return {
            **dict.fromkeys(daily, max(back + self.lookback_days, observed + COVARIATE_DAYS if observed else 0)),
            **dict.fromkeys(models, back + self.reuse_days),
            "candidates": back + 1,
            "hybrid_scores": back + 1,
            "similar_products": self.horizon_days + 1,
            "evaluation_report": self.gate_days + 1,
            "champion": self.gate_days + 1,
        }

    @property
    def days_to_keep(self) -> dict[str, int | None]:
        """Days of each table that housekeeping keeps; None: all. A default gives way to what the next runs need."""
        least = self.least_retention
        kept: dict[str, int | None] = {}
        for table, days in self.retention.model_dump().items():
            kept[table] = None if days is None else max(days, least[table])
        return kept

    @property
    def ui_base_url(self) -> str:
        """Where the Dagster UI is."""
        return (self.ui_url or f"http://localhost:{self.ui_port}").rstrip("/")

    @property
    def mlflow_is_server(self) -> bool:
        """Whether MLflow is a server that somebody else runs."""
        return (self.mlflow_tracking_uri or "").startswith(("http://", "https://"))

    @property
    def mlflow_ui_base_url(self) -> str:
        """Where the MLflow UI is."""
        server = self.mlflow_tracking_uri if self.mlflow_is_server else None
        return (self.mlflow_ui_url or server or f"http://localhost:{self.mlflow_port}").rstrip("/")

    @property
    def root(self) -> Path:
        """Absolute `home`."""
        return self.home.expanduser().resolve()

    @property
    def shared_disk(self) -> Path:
        """What this process and Spark's must see: the lake, or beside one in an object store what else is on disk."""
        return self.lake if isinstance(self.lake, Path) else self.root

    @property
    def reports(self) -> Path:
        """Folder of the HTML reports."""
        return self.root / "reports"

    @property
    def serving(self) -> Path:
        """Folder of what the API serves."""
        return self.root / "serving"

    @property
    def feedback_landing(self) -> Path:
        """Folder in which the API's events land for the graph."""
        return self.root / "landing" / "feedback_events"

    @property
    def forgotten_file(self) -> Path:
        """Whom to forget, for the graph."""
        return self.root / "landing" / "forgotten.json"

    @property
    def online_url(self) -> str:
        """Where the API keeps its online state."""
        url = self.api.database_url
        return url.get_secret_value() if url else sqlite_url(self.online_file)

    @property
    def online_file(self) -> Path:
        """The online state where no other database is named."""
        return self.serving / "online.db"

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
        return self.mlflow_tracking_uri or sqlite_url(self.root / "mlflow" / "mlflow.db")


def _folder_in(found: dict[str, Any], name: str) -> Path:
    """A folder of REC_HOME, where that could be made out."""
    return Path(found.get("home", "data")).expanduser().resolve() / name


class InvalidSettings(ValueError):
    """Settings that can't be; the message is one line that names the variables and what is wrong with them."""


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once.

    Raises:
        InvalidSettings: some of them can't be.
    """
    try:
        return Settings()
    except ValidationError as error:
        said = []
        for wrong in error.errors(include_url=False, include_input=False):
            if wrong["type"] == "default_factory_not_called":  # it only follows from another
                continue
            variable = "__".join(["REC_" + str(wrong["loc"][0]), *map(str, wrong["loc"][1:])]) if wrong["loc"] else ""
            said.append(f"{variable.upper()}: ".removeprefix(": ") + wrong["msg"].removeprefix("Value error, "))
        raise InvalidSettings("; ".join(said)) from None
    except SettingsError as error:
        found = re.search('field "([^"]+)"', str(error))
        raise InvalidSettings(
            f"REC_{found[1].upper()}: must be JSON" if found else f"{error}: it must be JSON"
        ) from None
    except RecursionError:
        raise InvalidSettings("a variable REC_…: its JSON is nested too deeply") from None


def unknown_variables() -> list[str]:
    """A line for each REC_ variable, of the environment or of `.env`, that is no setting and so says nothing."""
    known, said = {*_variables(Settings, "REC_")}, []
    for name in sorted({each.upper() for each in (*os.environ, *dotenv_values(".env"))}):
        if name.startswith("REC_") and name not in known and not name.startswith("REC_SPARK_CONF__"):
            near = difflib.get_close_matches(name, sorted(known), n=1)
            said.append(f"{name} is no setting and is ignored" + (f": did you mean {near[0]}?" if near else ""))
    return said


def _variables(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name.upper()}"
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _variables(kind, f"{prefix}{name.upper()}__")
