"""Settings of files and folders: where state is stored, and which files describe the shop."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, field_validator
from pydantic_settings import BaseSettings
from upath import UPath

from rec_assets.sqlite import invalid_sqlite_characters

STORES = {"s3": "s3", "gs": "gcs", "az": "azure", "abfss": "azure"}
"""Scheme of an object store → the extra of this package with its file system."""


class CatalogSchema(NamedTuple):
    """A schema of Unity Catalog."""

    catalog: str
    schema: str

    def __str__(self) -> str:
        return f"uc://{self.catalog}.{self.schema}"


def parse_lake(location: object) -> Path | UPath | CatalogSchema:
    """The location of a lake: a folder, a path in an object store, or a schema of Unity Catalog.

    Raises:
        ValueError: the URL has another scheme or no bucket, or the store's file system is not installed.
    """
    scheme, separator, rest = str(location).partition("://")
    if not separator:
        return Path(str(location)).expanduser().resolve()
    if scheme == "uc" and re.fullmatch(r"[\w-]+\.[\w-]+", rest):
        return CatalogSchema(*rest.split("."))
    if scheme not in STORES or not rest.strip("/"):
        raise ValueError(
            "must be a folder, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or uc://catalog.schema"
        )
    try:
        # Without the cache, this process sees at once what others write.
        return UPath(f"{scheme}://{rest.rstrip('/')}", use_listings_cache=False)
    except ImportError:
        raise ValueError(f"needs a package for {scheme}://: pip install 'rec_assets[{STORES[scheme]}]'") from None


def _folder_in_home(values: dict[str, Any], name: str) -> Path:
    return Path(values.get("home", "data")).expanduser().resolve() / name


class FolderSettings(BaseSettings):
    """Files and folders, and the paths derived from them."""

    home: Path = Field(Path("data"), description="Folder of all state. Delete it for a clean start.")
    lake: Annotated[Path | UPath | CatalogSchema, BeforeValidator(parse_lake)] = Field(
        default_factory=lambda values: _folder_in_home(values, "lake"),
        description="Location of the lake's tables: a folder, or `s3://bucket/prefix`, `gs://bucket/prefix` or "
        "`az://container/prefix`; on Databricks also `uc://catalog.schema`. The default is `REC_HOME/lake`.",
    )
    source: str = Field(
        "complete_journey", description="Path of the data source's YAML file, or the name of a built-in data source."
    )
    experiments: Path | None = Field(None, description="YAML file of the experiments. Without it, no experiments run.")
    rules: Path | None = Field(None, description="YAML file of the merchandising rules. Without it, no rules apply.")

    @field_validator("home")
    @classmethod
    def _check_home(cls, home: Path) -> Path:
        folder = home.expanduser().resolve()
        if characters := invalid_sqlite_characters(folder):
            raise ValueError(
                f"{folder} contains {characters!r}, so its databases can't be opened: choose or rename a folder "
                "without it"
            )
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir():
            raise ValueError(f"{folder} is a file: name a folder; it is created if it does not exist")
        return home

    @field_validator("experiments", "rules", mode="before")
    @classmethod
    def _resolve_file(cls, path: object) -> Path | None:
        return Path(str(path)).expanduser().resolve() if path is not None and str(path).strip() else None

    @property
    def root(self) -> Path:
        """Absolute `home`."""
        return self.home.expanduser().resolve()

    @property
    def shared_disk(self) -> Path:
        """Folder that this process and Spark's executors share: the lake, or `root` if the lake is not on a disk."""
        return self.lake if isinstance(self.lake, Path) else self.root

    @property
    def staging(self) -> Path:
        """Folder of temporary files that Spark's tasks see too."""
        return self.shared_disk / ".staging"

    @property
    def reports(self) -> Path:
        """Folder of the HTML reports."""
        return self.root / "reports"

    def report(self, day: dt.date, name: str) -> Path:
        """Path of an HTML report of a day: `evaluation`, `experiments` or `release`."""
        return self.reports / f"date={day}" / f"{name}.html"

    @property
    def serving(self) -> Path:
        """Folder of the serving indexes and, by default, of the online state."""
        return self.root / "serving"

    @property
    def online_file(self) -> Path:
        """SQLite file of the online state, used without `REC_API__DATABASE_URL`."""
        return self.serving / "online.db"

    @property
    def feedback_landing(self) -> Path:
        """Landing zone of the events that the API received."""
        return self.root / "landing" / "feedback_events"

    @property
    def forgotten_file(self) -> Path:
        """File of the customers to forget."""
        return self.root / "landing" / "forgotten.json"

    @property
    def tuning(self) -> Path:
        """Folder of the tuning studies and the tuned recipe."""
        return self.root / "tuning"

    @property
    def dagster_home(self) -> Path:
        """DAGSTER_HOME."""
        return self.root / "dagster"
