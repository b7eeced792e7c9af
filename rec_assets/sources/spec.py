"""A data source: the YAML file that describes a shop's purchase log, events and catalog, and the files that it finds.

The fields of logs and catalog are in `spec_fields.py`.
"""

from __future__ import annotations

import datetime as dt
import glob
import hashlib
import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BeforeValidator, Field, field_validator, model_validator
from upath import UPath

from rec_assets.sources.errors import SourceError
from rec_assets.sources.paths import files_by_day, files_matching, has_date, is_uri, path_on_day
from rec_assets.sources.spec_fields import Catalog, EventLog, PurchaseLog, ReturnSettings
from rec_assets.sources.time_formats import UTC_WORDS, zone_suffix
from rec_assets.yaml_file import Day, StrictModel, read_yaml

_NOT_READ: Any = {"asset": True, "extract": {"refresh_days": True}}
"""Fields of a log that do not change how its files are read."""


class DataSource(StrictModel):
    """A shop's data. Methods that read paths raise a `SourceError` if the driver of a URI is missing or fails."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="Name. Default: the name of the YAML file.")
    description: str = Field("", description="What the data is, for people.")
    time_zone: str = Field("UTC", description="IANA name of the zone that decides the day of a purchase.")
    first_day: Day | None = Field(None, description="First day to read. Default: the first day in the paths.")
    last_day: Day | None = Field(None, description="Last day to read. Default: none; an export must set it.")
    dataset: str | None = Field(None, description="Built-in adapter that lands the files of a public data set.")
    purchases: PurchaseLog = Field(description="The purchase log.")
    events: Annotated[list[EventLog], BeforeValidator(lambda value: value if isinstance(value, list) else [value])] = (
        Field([], description="Event logs: what shoppers looked at, put into the cart, and so on.")
    )
    catalog: Catalog | None = Field(None, description="The product catalog.")
    returns: ReturnSettings = Field(ReturnSettings(), description="How the purchase log marks returns.")
    folder: Path = Field(Path(), exclude=True)
    home: Path = Field(Path(), exclude=True)

    @field_validator("time_zone")
    @classmethod
    def _check_time_zone(cls, value: str) -> str:
        if value not in available_timezones() - {"Factory", "localtime"}:  # pandas doesn't know these two
            raise ValueError(f"{value!r} is not an IANA time zone such as Europe/Berlin")
        return value

    @model_validator(mode="before")
    @classmethod
    def _land_extracts(cls, value: Any) -> Any:
        """Logs that are extracted are daily Parquet files below REC_HOME."""
        if not isinstance(value, dict):
            return value
        events = value.get("events")
        many = events if isinstance(events, list) else [events]
        logs = [("purchases", value.get("purchases")), *((f"events_{number}", log) for number, log in enumerate(many))]
        changed: dict[str, Any] = {}
        for name, log in logs:
            if isinstance(log, dict) and log.get("extract") is not None:
                if set_too := sorted({"path", "format"} & log.keys()):
                    raise ValueError(f"{name}: set `extract` or `{set_too[0]}`, not both")
                # Another query or table gets a folder of its own, so that its days don't mix with those of this one.
                what = {key: each for key, each in sorted(dict(log["extract"]).items()) if key != "refresh_days"}
                folder = f"{{home}}/landing/{value.get('name')}/{name.partition('_')[0]}-{_hash(repr(what))}"
                changed[name] = {**log, "path": folder + "/{date:%Y-%m-%d}.parquet", "format": "parquet"}
        if "purchases" in changed:
            value = {**value, "purchases": changed.pop("purchases")}
        if changed:
            value = {**value, "events": [changed.get(f"events_{number}", log) for number, log in enumerate(many)]}
        return value

    @model_validator(mode="after")
    def _check_consistency(self) -> DataSource:
        columns, returns = self.purchases.columns, self.returns
        if self.catalog is not None and self.catalog.extract is not None:
            raise ValueError("`extract` is for purchases and events: land the catalog as a file")
        if self.first_day is None and any(log.extract is not None for log in (self.purchases, *self.events)):
            raise ValueError("`extract` needs first_day, the first day to read")
        for log in self.events:
            if has_date(log.path) != has_date(self.purchases.path):
                raise ValueError(
                    f"events: the path {log.path} and that of the purchases must both have a date, or neither: either "
                    "all logs land by day, or all are exports"
                )
        if returns.order_id_prefix and not columns.order_id:
            raise ValueError("returns.order_id_prefix needs purchases.columns.order_id")
        if self.purchases.order_columns and not columns.order_id:
            raise ValueError("purchases.order_columns needs purchases.columns.order_id")
        suffix = zone_suffix(self.purchases.time_format)
        winter, summer = (dt.datetime(2024, month, 1, tzinfo=ZoneInfo(self.time_zone)).tzname() for month in (1, 7))
        if suffix and suffix not in (*UTC_WORDS, winter, summer):
            raise ValueError(
                f"purchases.time_format ends in {suffix!r}, but time_zone is {self.time_zone}: set time_zone to the "
                f"zone that {suffix} means"
            )
        if returns.negative_quantity and not columns.quantity:
            raise ValueError("returns.negative_quantity needs purchases.columns.quantity")
        if self.first_day and self.last_day and self.first_day > self.last_day:
            raise ValueError(f"first_day {self.first_day} is after last_day {self.last_day}")
        return self

    @property
    def version(self) -> str:
        """Hash of all fields that change how the purchase log is read or cleaned."""
        # What cleaning needs of the catalog is in the asset `catalog_ids`.
        about = ("name", "description", "first_day", "last_day", "dataset", "events", "catalog")
        return self._hash_without(dict.fromkeys(about, True) | {"purchases": _NOT_READ})

    @property
    def catalog_version(self) -> str:
        """Hash of all fields that change how the catalog is read."""
        others = DataSource.model_fields.keys() - {"catalog"}
        return self._hash_without(dict.fromkeys(others, True) | {"catalog": _NOT_READ})

    @property
    def events_version(self) -> str:
        """Hash of all fields that change how events are read; "" without event logs."""
        others = DataSource.model_fields.keys() - {"events", "time_zone"}
        return (
            self._hash_without(dict.fromkeys(others, True) | {"events": {"__all__": _NOT_READ}}) if self.events else ""
        )

    def _hash_without(self, fields: Any) -> str:
        return _hash(self.model_dump_json(exclude=fields))

    def start(self) -> dt.date:
        """First day with data. If daily files have a `first_day`, none need have landed. Raises as `bounds`."""
        return self.first_day if self.is_daily and self.first_day else self.bounds()[0]

    @property
    def is_daily(self) -> bool:
        """Whether the path of the purchase log has a date; otherwise it is an export of all days."""
        return has_date(self.purchases.path)

    @property
    def has_price(self) -> bool:
        """Whether the purchase log has prices, so that each line must have one."""
        return bool(self.purchases.columns.unit_price or self.purchases.columns.amount)

    def files(self, day: dt.date | None = None) -> list[UPath]:
        """Files of the purchase log, sorted: those of a day, or all."""
        pattern = self.glob(self.purchases.path)
        if day is None and self.is_daily:
            return sorted(file for files in files_by_day(pattern).values() for file in files)
        return files_matching(path_on_day(pattern, day) if day else pattern)

    @property
    def event_sources(self) -> list[DataSource]:
        """Each event log as a data source with that log as its purchases (`EventLog.as_purchase_log`)."""
        return [
            self.model_copy(
                update={
                    "purchases": log.as_purchase_log(), "events": [log], "returns": ReturnSettings(), "catalog": None,
                }
            )
            for log in self.events
        ]  # fmt: skip

    def all_files(self, day: dt.date | None = None) -> list[UPath]:
        """Files of the purchase log and of the event logs: those of a day, or all."""
        files = self.files(day)
        for log in self.event_sources:
            files += log.files(day)
        return files

    def catalog_files(self) -> list[UPath]:
        """Catalog files, the newest last: by the date in their paths, otherwise by name."""
        if self.catalog is None:
            return []
        pattern = self.glob(self.catalog.path)
        if has_date(pattern):
            return [files[-1] for _, files in sorted(files_by_day(pattern).items())]
        return files_matching(pattern)

    def catalog_file(self) -> UPath | None:
        """The newest catalog file; None if the data source has no catalog. A missing file is a `SourceError`."""
        if self.catalog is None:
            return None
        if files := self.catalog_files():
            return files[-1]
        path = self.expand(self.catalog.path)
        raise SourceError(f"no catalog file matches {path}: land one, fix `path`, or remove `catalog`")

    def landed_days(self) -> list[dt.date]:
        """Days that have files, sorted (daily data sources only)."""
        return sorted(files_by_day(self.glob(self.purchases.path)))

    def days_to_read(self) -> list[dt.date]:
        """Landed days between `first_day` and `last_day`, sorted (daily data sources only).

        Raises:
            SourceError: there is no such day.
        """
        landed = self.landed_days()
        first, last = self.first_day or dt.date.min, self.last_day or dt.date.max
        if days := [day for day in landed if first <= day <= last]:
            return days
        if not landed:
            path = self.expand(self.purchases.path)
            raise SourceError(f"data source {self.name}: no file matches {path}: land files, or fix `path`")
        raise SourceError(
            f"data source {self.name}: there are files for {landed[0]} to {landed[-1]}, none between first_day "
            f"({self.first_day or 'not set'}) and last_day ({self.last_day or 'not set'}): fix these two, or land files"
        )

    def bounds(self) -> tuple[dt.date, dt.date]:
        """First and last day with data; `first_day` and `last_day` if set.

        Raises:
            SourceError: there is no file, or an export has no `first_day` or `last_day`.
        """
        if self.first_day and self.last_day:
            return self.first_day, self.last_day
        if not self.is_daily:
            raise SourceError(
                f"data source {self.name}: the path has no {{date:…}}, so it is an export of all days: set first_day "
                "and last_day (`rec-assets check-source` shows the values)"
            )
        days = self.days_to_read()
        return self.first_day or days[0], self.last_day or days[-1]

    def expand(self, pattern: str) -> str:
        """A path of the YAML file as an absolute path or URI; dates and globs stay."""
        return _absolute(pattern, self.folder, self.home)

    def glob(self, pattern: str) -> str:
        """A path of the YAML file as an absolute glob; dates stay."""
        # Brackets in the name of the YAML file's folder or of REC_HOME are not a glob.
        folder, home = (Path(glob.escape(path.as_posix())) for path in (self.folder, self.home))
        return _absolute(pattern, folder, home)

    def label(self, file: UPath) -> str:
        """A file's name for `source_file`. It is relative to REC_HOME or the YAML file, so that these can move."""
        for base in () if is_uri(str(file)) else (str(self.home), str(self.folder)):
            if file.is_relative_to(base):
                return file.relative_to(base).as_posix()
        return file.as_posix()


def _hash(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _absolute(pattern: str, folder: Path, home: Path) -> str:
    pattern = re.sub("^(file|local)://", "", pattern).replace("{home}", home.as_posix())
    return pattern if is_uri(pattern) else (folder / pattern).as_posix()


def load_data_source(name: str, home: Path) -> DataSource:
    """Read the YAML file of a data source.

    Args:
        name: Path of the file, or the name of a built-in data source.
        home: REC_HOME, for `{home}` in paths.

    Raises:
        SourceError: the file doesn't exist or isn't YAML, or a field is missing, unknown or wrong.
    """
    path, datasets = Path(name), Path(str(resources.files("rec_assets.datasets")))
    if path.suffix not in (".yaml", ".yml"):
        path = datasets / f"{name}.yaml"
    if not path.is_file():
        built_in = sorted(file.stem for file in datasets.glob("*.yaml"))
        raise SourceError(
            f"there is no data source {name!r}: set REC_SOURCE to the path of a YAML file or a built-in name "
            f"({', '.join(built_in)})"
        )
    return read_yaml(
        path,
        DataSource,
        "a data source is a mapping of fields such as `purchases:`",
        defaults={"name": path.stem},
        fixed={"folder": path.resolve().parent, "home": home.resolve()},
        error=SourceError,
    )
