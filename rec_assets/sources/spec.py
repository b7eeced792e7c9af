"""A source: one YAML file that says where a shop's purchase logs and catalog lie and how to read them."""

from __future__ import annotations

import codecs
import datetime as dt
import glob
import hashlib
import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)
from upath import UPath

from rec_assets.sources.errors import SourceError
from rec_assets.sources.paths import check_pattern, files_by_day, files_matching, has_date, is_uri, on_day
from rec_assets.yaml_file import Day, read_yaml


def _as_list(value: object) -> object:
    """One value may stand without brackets."""
    return value if isinstance(value, list) else [value]


def _as_character(value: object) -> object:
    r"""A tab can be written as it is written everywhere else, `\t`, with or without quotes."""
    return "\t" if value == r"\t" else value


def _as_quantity(value: object) -> object:
    """A number above 0, or `none`."""
    if value is None or value == "none":
        return value
    try:
        number = float(str(value))
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ValueError(f"{value!r} is neither a quantity above 0 nor none")
    return number


Columns = Annotated[list[str], BeforeValidator(_as_list)]

UNIX_UNITS = {"unix_seconds": 6, "unix_milliseconds": 3, "unix_microseconds": 0, "unix_nanoseconds": -3}
"""Unix times → decimal places from their unit to a microsecond, the lake's."""

UTC_WORDS = ("UTC", "GMT", "Z")
"""How a pattern writes that its times are in UTC."""

_ZONES = (
    "ACST", "AEDT", "AEST", "AKST", "ART", "AWST", "BRT", "BST", "CDT", "CEST", "CET", "CST", "EDT", "EEST", "EET",
    "EST", "HKT", "HST", "IST", "JST", "KST", "MDT", "MSK", "MST", "NZDT", "NZST", "PDT", "PST", "SAST", "SGT", "WEST",
    "WET",
)  # fmt: skip
"""Abbreviations that stand for a zone where a pattern ends in them."""


def zone_word(time_format: str) -> str | None:
    """The zone that a pattern ends in, as `UTC` in "%Y-%m-%d %H:%M:%S UTC"; None where it ends in none."""
    if "%" not in time_format:
        return None
    words = re.findall("[A-Za-z]+", re.sub("%[A-Za-z%]", " ", time_format))
    return words[-1] if words and words[-1] in (*UTC_WORDS, *_ZONES) else None


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FileFormat(_Part):
    """How files are written."""

    path: str = Field(
        min_length=1,
        description="File, folder or glob, relative to the YAML file, or a URI such as s3://bucket/*.csv; may hold "
        "{home} (REC_HOME) and a date, {date:%Y-%m-%d}.",
    )
    format: Literal["csv", "parquet", "jsonl"] = "csv"
    delimiter: Annotated[str, BeforeValidator(_as_character)] = Field(",", min_length=1, max_length=1)
    decimal: Literal[".", ","] = Field(
        ".", description='How numbers are written: 1234.5, or "," for 1234,5 or 1.234,5.'
    )
    encoding: str = "utf-8"
    lines: str | None = Field(
        None, description="jsonl, parquet: the list, such as line_items, whose entries are the lines of an order."
    )
    only: dict[str, Columns] = Field({}, description="Column → the only values whose lines or products count.")
    exclude: dict[str, Columns] = Field({}, description="Column → values whose lines or products are left out.")

    @field_validator("path")
    @classmethod
    def _known_pattern(cls, value: str) -> str:
        check_pattern(value)
        return value

    @field_validator("delimiter")
    @classmethod
    def _is_plain(cls, value: str) -> str:
        if value != "\t" and not (value.isascii() and value.isprintable()):
            raise ValueError(f"{value!r} is no delimiter such as a comma, ; | or \\t")
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            # Python has codecs of no text, such as base64, and some, such as punycode, that fail on bytes of others.
            bytes(range(256)).decode(value, errors="replace")
            return codecs.lookup(value).name
        except Exception:
            raise ValueError(f"{value!r} is no encoding such as utf-8, latin-1 or cp1252") from None

    @model_validator(mode="after")
    def _fits_the_format(self) -> FileFormat:
        if self.decimal != "." and self.format != "csv":
            raise ValueError(f"decimal is for csv: {self.format} has numbers of its own")
        if self.lines and self.format == "csv":
            raise ValueError("lines is for jsonl and parquet: csv has no lists")
        return self


class PurchaseColumns(_Part):
    """Which column of the log means what. Only product_id, customer_id and time must be there."""

    customer_id: str
    product_id: str
    time: str
    order_id: str | None = Field(None, description="Default: one order per customer and day.")
    quantity: str | None = Field(None, description="Default: 1 per line.")
    unit_price: str | None = None
    amount: str | None = Field(None, description="Value of the line; give this or unit_price.")
    rating: str | None = Field(None, description="If given, ALS learns ratings (explicit mode).")
    title: Columns = []
    category: str | None = None
    brand: str | None = None
    text: Columns = Field([], description="What to embed; default title, category and brand.")

    @model_validator(mode="after")
    def _one_price(self) -> PurchaseColumns:
        if self.unit_price and self.amount:
            raise ValueError("give unit_price or amount, not both")
        return self


class Purchases(FileFormat):
    """The purchase log."""

    columns: PurchaseColumns
    order_columns: Columns = Field(
        [], description="Columns written on the first line of an order only; its other lines have the same value."
    )
    bulk_quantity: Annotated[float | Literal["none"] | None, BeforeValidator(_as_quantity)] = Field(
        None,
        description="Quantity above which a line is a bulk order, which models don't learn from; `none`: no line is. "
        "Default: the day's robust limit.",
    )
    time_format: str = Field(
        "iso8601",
        description="iso8601, unix_seconds (or _milliseconds, _microseconds, _nanoseconds), or a strptime pattern "
        "like %d/%m/%Y %H:%M.",
    )
    times_are: Literal["local", "utc"] = Field(
        "local", description="What a time without an offset means: the shop's time_zone, or UTC."
    )

    @field_validator("time_format")
    @classmethod
    def _known_time_format(cls, value: str) -> str:
        if value == "iso8601" or value in UNIX_UNITS:
            return value
        moment = dt.datetime(2017, 11, 23, 14, 35, 12, tzinfo=dt.timezone.utc)
        try:
            names_a_day = dt.datetime.strptime(moment.strftime(value), value).date() == moment.date()
        except (ValueError, re.error):  # the latter where a part stands in the pattern twice
            names_a_day = False
        if not names_a_day:
            raise ValueError(
                f"{value!r} is neither iso8601, {', '.join(UNIX_UNITS)} nor a pattern with year, month and day such "
                "as '%d/%m/%Y %H:%M'"
            )
        return value


class StatusColumn(_Part):
    """A column that tells returns."""

    column: str
    values: Columns
    line_is: Literal["purchase", "return"] = Field(
        "purchase",
        description="What such a line is: the purchase itself, which was sent back or canceled; or a return, a line of "
        "its own beside the purchase's. A line with a quantity below 0 is a return.",
    )


class ReturnSettings(_Part):
    """How the log writes that something came back."""

    negative_quantity: bool = Field(False, description="Lines with a quantity below 0 are returns.")
    order_id_prefix: str | None = Field(None, description="Orders whose id begins so are returns.")
    status: StatusColumn | None = None


class CatalogColumns(_Part):
    """Which column of the catalog means what."""

    product_id: str
    title: Columns = []
    category: str | None = None
    brand: str | None = None
    price: str | None = None
    text: Columns = Field([], description="What to embed; default title, category and brand.")
    available_from: str | None = Field(None, description="ISO date from which the product may be recommended.")


class Catalog(FileFormat):
    """The product catalog: the newest file that `path` matches, by the date in it, else by name."""

    columns: CatalogColumns


class Source(_Part):
    """A shop's data."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    description: str = ""
    time_zone: str = Field("UTC", description="IANA name; decides which day a purchase belongs to.")
    first_day: Day | None = Field(None, description="Default: the first day found in the paths.")
    last_day: Day | None = Field(None, description="Last day there will ever be; default: open end.")
    dataset: str | None = Field(None, description="Built-in adapter that lands this source's files.")
    purchases: Purchases
    catalog: Catalog | None = None
    returns: ReturnSettings = ReturnSettings()
    folder: Path = Field(Path(), exclude=True)
    home: Path = Field(Path(), exclude=True)

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value not in available_timezones() - {"Factory", "localtime"}:  # which pandas doesn't know
            raise ValueError(f"{value!r} is no IANA time zone such as Europe/Berlin")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Source:
        columns, returns = self.purchases.columns, self.returns
        if returns.order_id_prefix and not columns.order_id:
            raise ValueError("returns.order_id_prefix needs purchases.columns.order_id")
        if self.purchases.order_columns and not columns.order_id:
            raise ValueError("purchases.order_columns needs purchases.columns.order_id")
        word = zone_word(self.purchases.time_format)
        if word and word not in UTC_WORDS and word not in self._own_abbreviations():
            raise ValueError(
                f"purchases.time_format ends in {word!r}, which is not read as a zone, and time_zone is "
                f"{self.time_zone}: set time_zone to the zone that {word} stands for"
            )
        if returns.negative_quantity and not columns.quantity:
            raise ValueError("returns.negative_quantity needs purchases.columns.quantity")
        if self.first_day and self.last_day and self.first_day > self.last_day:
            raise ValueError(f"first_day {self.first_day} is after last_day {self.last_day}")
        return self

    def _own_abbreviations(self) -> set[str | None]:
        """How the shop's zone is called in winter and summer."""
        return {dt.datetime(2024, month, 1, tzinfo=self.zone).tzname() for month in (1, 7)}

    @property
    def version(self) -> str:
        """Changes with whatever in the description changes how lines are read or cleaned."""
        read_by = self.model_dump_json(exclude={"name", "description", "first_day", "last_day", "dataset"})
        return hashlib.sha256(read_by.encode()).hexdigest()[:12]

    @property
    def zone(self) -> ZoneInfo:
        """The shop's time zone."""
        return ZoneInfo(self.time_zone)

    @property
    def is_daily(self) -> bool:
        """Whether the log's path has the day in it; otherwise one export holds all days."""
        return has_date(self.purchases.path)

    @property
    def has_price(self) -> bool:
        """Whether the log gives prices, so that a line must have one."""
        return bool(self.purchases.columns.unit_price or self.purchases.columns.amount)

    def files(self, day: dt.date | None = None) -> list[UPath]:
        """Files of the purchase log, sorted: those of a day, or all of them.

        Raises:
            SourceError: a URI's driver isn't installed, or doesn't get there; so too in what follows.
        """
        pattern = self.glob(self.purchases.path)
        if day is None and self.is_daily:
            return sorted(file for files in files_by_day(pattern).values() for file in files)
        return files_matching(on_day(pattern, day) if day else pattern)

    def catalog_files(self) -> list[UPath]:
        """Catalog files, the newest last: by the date in their paths, else by name."""
        if self.catalog is None:
            return []
        pattern = self.glob(self.catalog.path)
        if has_date(pattern):
            return [files[-1] for _, files in sorted(files_by_day(pattern).items())]
        return files_matching(pattern)

    def catalog_file(self) -> UPath | None:
        """The newest catalog file: by the date in its path, else by name; None where the source has none.

        Raises:
            SourceError: a catalog is described but no file is there.
        """
        if self.catalog is None:
            return None
        found = self.catalog_files()
        if not found:
            raise SourceError(
                f"no catalog file matches {self.expand(self.catalog.path)}: put one there, fix `path`, "
                "or leave `catalog` out"
            )
        return found[-1]

    def landed_days(self) -> list[dt.date]:
        """Days for which files lie there, sorted (daily sources only)."""
        return sorted(files_by_day(self.glob(self.purchases.path)))

    def bounds(self) -> tuple[dt.date, dt.date]:
        """First and last day with data, `first_day` and `last_day` where given.

        Raises:
            SourceError: no file is there, or an export needs `first_day`.
        """
        if self.first_day and self.last_day:
            return self.first_day, self.last_day
        if not self.is_daily:
            raise SourceError(
                f"source {self.name}: its path has no {{date:…}}, so one export holds all days: give "
                "first_day and last_day (`rec-assets check-source` tells which)"
            )
        landed = self.landed_days()
        if not landed:
            raise SourceError(
                f"source {self.name}: no file matches {self.expand(self.purchases.path)}: land some, or fix `path`"
            )
        first, last = self.first_day or landed[0], self.last_day or landed[-1]
        if first > last:
            given = f"first_day ({self.first_day or 'not set'}) and last_day ({self.last_day or 'not set'})"
            raise SourceError(
                f"source {self.name}: files have landed for {landed[0]} to {landed[-1]}, none between {given}"
            )
        return first, last

    def expand(self, pattern: str) -> str:
        """A path of the YAML file as an absolute one, or as the URI that it is; date parts and globs stay."""
        return _absolute(pattern, self.folder, self.home)

    def glob(self, pattern: str) -> str:
        """A path of the YAML file as an absolute glob; date parts stay."""
        # A bracket in the name of the folder that the YAML file or REC_HOME lies in is no glob.
        folder, home = (Path(glob.escape(path.as_posix())) for path in (self.folder, self.home))
        return _absolute(pattern, folder, home)

    def label(self, file: UPath) -> str:
        """A file's name as it stands in `source_file`: it doesn't depend on where REC_HOME lies."""
        for base in () if is_uri(str(file)) else (str(self.home), str(self.folder)):
            if file.is_relative_to(base):
                return file.relative_to(base).as_posix()
        return file.as_posix()


def _absolute(pattern: str, folder: Path, home: Path) -> str:
    pattern = re.sub("^(file|local)://", "", pattern).replace("{home}", home.as_posix())
    return pattern if is_uri(pattern) else (folder / pattern).as_posix()


def load_source(name: str, home: Path) -> Source:
    """Read a source's YAML file.

    Args:
        name: Path of the file, or the name of a built-in source.
        home: REC_HOME, for `{home}` in paths.

    Raises:
        SourceError: no such file, no YAML, or a field that is missing, unknown or of a wrong kind; names it.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = Path(str(resources.files("rec_assets.datasets"))) / f"{name}.yaml"
    if not path.is_file():
        built_in = sorted(p.stem for p in Path(str(resources.files("rec_assets.datasets"))).glob("*.yaml"))
        raise SourceError(
            f"no source {name!r}: REC_SOURCE takes the path of a YAML file or a built-in name ({', '.join(built_in)})"
        )
    return read_yaml(
        path,
        Source,
        "a source is a mapping of fields such as `purchases:`",
        defaults={"name": path.stem},
        given={"folder": path.resolve().parent, "home": home.resolve()},
        error=SourceError,
    )
