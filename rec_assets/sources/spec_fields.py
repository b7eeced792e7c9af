"""The fields of a data source's YAML file, as pydantic models: logs, catalog, returns, and how files are written."""

from __future__ import annotations

import codecs
import os
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, field_validator, model_validator

from rec_assets.recsys.data.attributes import SIZE
from rec_assets.sources.errors import SourceError
from rec_assets.sources.paths import check_pattern
from rec_assets.sources.time_formats import check_time_format
from rec_assets.yaml_file import StrictModel

Columns = Annotated[list[str], BeforeValidator(lambda value: value if isinstance(value, list) else [value])]
"""One or more columns or values. A single one needs no brackets."""


def _as_quantity(value: object) -> object:
    """A number above 0, or `none`."""
    if value is None or value == "none":
        return value
    try:
        number = float(str(value))
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ValueError(f"{value!r} is not a quantity above 0 or none")
    return number


class SqlQuery(StrictModel):
    """A SQL query, which gets one day of a log."""

    url: str = Field(
        description="SQLAlchemy URL of the database, or $NAME for that of an environment variable. Write a URL with a "
        "password into a variable."
    )
    sql: str = Field(description="Query with the parameter :day, or :day and :next_day.")
    refresh_days: int = Field(3, ge=1, description="Newest days to query again at each run.")

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        if value.startswith("$"):
            return value
        import sqlalchemy as sa  # commands that start quickly import this module, too

        try:
            parsed = sa.make_url(value)
            has_password = parsed.password is not None or any("pass" in name or "pwd" in name for name in parsed.query)
        except sa.exc.ArgumentError:
            message = "is not a SQLAlchemy URL such as postgresql+psycopg://user@host/shop or $SHOP_URL"
            raise ValueError(message) from None
        if has_password:
            raise ValueError("has a password: put the URL into an environment variable, and write $ and its name here")
        return value

    @field_validator("sql")
    @classmethod
    def _check_sql(cls, value: str) -> str:
        if not re.search(r":day\b", value):
            raise ValueError("needs the parameter :day, such as WHERE order_date = :day")
        return value

    @property
    def address(self) -> str:
        """The URL. Raises SourceError if the environment variable is missing or no URL."""
        if not self.url.startswith("$"):
            return self.url
        import sqlalchemy as sa

        name = self.url.removeprefix("$")
        if name not in os.environ:
            raise SourceError(f"the environment variable {name} is not set: set it to the URL of the database")
        try:
            return sa.make_url(os.environ[name]).render_as_string(hide_password=False)
        except sa.exc.ArgumentError:
            raise SourceError(f"the environment variable {name} is not a SQLAlchemy URL") from None


class DeltaSource(StrictModel):
    """A Delta table, of which one day is read at a time."""

    delta: str = Field(description="Path or URI of the table, as for `path`.")
    day_column: str = Field(description="Column of the day: a date, a time, or ISO text.")
    refresh_days: int = Field(3, ge=1, description="Newest days to read again at each run.")


class FileFormat(StrictModel):
    """Where files are and how they are written."""

    path: Annotated[str, AfterValidator(check_pattern)] = Field(
        min_length=1,
        description="File, folder or glob, relative to the YAML file, or a URI such as s3://bucket/*.csv. It can have "
        "{home} (REC_HOME) and a date, {date:%Y-%m-%d}.",
    )
    format: Literal["csv", "parquet", "jsonl"] = Field("csv", description="File format.")
    delimiter: Annotated[str, BeforeValidator(lambda value: "\t" if value == r"\t" else value)] = Field(
        ",", min_length=1, max_length=1, description=r"Delimiter of CSV files; \t is a tab."
    )
    decimal: Literal[".", ","] = Field(
        ".", description='Decimal mark of CSV files: 1234.5, or "," for 1234,5 or 1.234,5.'
    )
    encoding: str = Field("utf-8", description="Encoding of text files, such as latin-1 or cp1252.")
    explode: str | None = Field(
        None,
        description="jsonl, parquet: list column, such as line_items, whose entries are the order lines. Each entry "
        "becomes a row.",
    )
    include: dict[str, Columns] = Field({}, description="Column → values. Rows with other values are excluded.")
    exclude: dict[str, Columns] = Field({}, description="Column → values. Rows with these values are excluded.")
    extract: SqlQuery | DeltaSource | None = Field(
        None, description="purchases, events: a SQL query or Delta table to land, instead of `path` and `format`."
    )
    asset: list[str] = Field([], description="Key of the Dagster asset that writes these files, for the lineage graph.")

    @field_validator("delimiter")
    @classmethod
    def _check_delimiter(cls, value: str) -> str:
        if value != "\t" and not (value.isascii() and value.isprintable()):
            raise ValueError(f"{value!r} is not a delimiter such as a comma, ; | or \\t")
        return value

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, value: str) -> str:
        try:
            # Some Python codecs, such as base64, are not for text; others, such as punycode, fail on arbitrary bytes.
            bytes(range(256)).decode(value, errors="replace")
            return codecs.lookup(value).name
        except Exception:
            raise ValueError(f"{value!r} is not an encoding such as utf-8, latin-1 or cp1252") from None

    @model_validator(mode="after")
    def _check_format(self) -> FileFormat:
        if self.decimal != "." and self.format != "csv":
            raise ValueError(f"`decimal` is only for csv; {self.format} stores numbers")
        if self.explode and self.format == "csv":
            raise ValueError("`explode` is only for jsonl and parquet; csv has no lists")
        return self


class ColumnMapping(StrictModel):
    """Field → column or columns."""

    @property
    def by_field(self) -> dict[str, list[str]]:
        """Field → its columns."""
        return {field: named if isinstance(named, list) else [named] if named else [] for field, named in self}


class PurchaseColumns(ColumnMapping):
    """Field → column of the purchase log. Only product_id, customer_id and time are required."""

    customer_id: str = Field(description="Column of the customer id.")
    product_id: str = Field(description="Column of the product id.")
    time: str = Field(description="Column of the time of purchase.")
    order_id: str | None = Field(None, description="Column of the order id. Default: one order per customer and day.")
    quantity: str | None = Field(None, description="Column of the quantity. Default: 1 per line.")
    unit_price: str | None = Field(None, description="Column of the price of one piece.")
    amount: str | None = Field(None, description="Column of the value of the line. Set this or unit_price.")
    rating: str | None = Field(None, description="Column of the customer's rating. If set, ALS trains on ratings.")
    title: Columns = Field([], description="Column or columns of the product title, joined by a space.")
    category: str | None = Field(None, description="Column of the product category.")
    brand: str | None = Field(None, description="Column of the brand.")
    text: Columns = Field([], description="Columns of the text to embed. Default: title, category and brand.")
    variant_of: str | None = Field(
        None, description="Column of the id of the product that product_id is a variant of. The catalog comes first."
    )

    @model_validator(mode="after")
    def _check_price(self) -> PurchaseColumns:
        if self.unit_price and self.amount:
            raise ValueError("set unit_price or amount, not both")
        return self


class PurchaseLog(FileFormat):
    """Files with one line per purchased product."""

    columns: PurchaseColumns = Field(description="Field → column.")
    order_columns: Columns = Field(
        [], description="Columns with a value only on the first line of an order; its other lines get the same value."
    )
    bulk_quantity: Annotated[float | Literal["none"] | None, BeforeValidator(_as_quantity)] = Field(
        None,
        description="A line with a larger quantity is a bulk order, on which models don't train. none: no line is a "
        "bulk order. Default: a robust limit for each day.",
    )
    time_format: Annotated[str, AfterValidator(check_time_format)] = Field(
        "iso8601",
        description="iso8601, unix_seconds (or _milliseconds, _microseconds, _nanoseconds), or a strptime pattern "
        "such as %d/%m/%Y %H:%M.",
    )
    naive_times: Literal["local", "utc"] = Field(
        "local", description="Zone of times without an offset: local (the shop's time_zone) or utc."
    )


class EventColumns(ColumnMapping):
    """Field → column of an event log."""

    product_id: str = Field(description="Column of the product or variant.")
    time: str = Field(description="Column of the time.")
    customer_id: str | None = Field(None, description="Column of the customer; empty for visitors.")
    session_id: str | None = Field(None, description="Column of the session. Set this, customer_id, or both.")
    type: str | None = Field(None, description="Column of the event's name.")

    @model_validator(mode="after")
    def _has_shopper(self) -> EventColumns:
        if not (self.customer_id or self.session_id):
            raise ValueError("set customer_id or session_id, or both")
        return self


EventType = Literal["view", "cart", "wishlist", "removal", "dismissal", "purchase"]


class EventLog(FileFormat):
    """Files with one line per event of a shopper: views, carts, wishlists, removals, dismissals, purchases."""

    columns: EventColumns = Field(description="Field → column.")
    types: dict[EventType, Columns] = Field({}, description="Type → names of such events. Others are ignored.")
    type: EventType | None = Field(None, description="Type of all events of these files, instead of `types`.")
    time_format: Annotated[str, AfterValidator(check_time_format)] = Field(
        "iso8601", description="As for purchases; often unix_milliseconds or unix_microseconds."
    )
    naive_times: Literal["local", "utc"] = Field("local", description="As for purchases.")

    @model_validator(mode="after")
    def _check_types(self) -> EventLog:
        if bool(self.type) == bool(self.types):
            raise ValueError("set `types` (type: names) or, for files of one type, `type`")
        if self.types and not self.columns.type:
            raise ValueError("`types` needs `columns.type`, the column of the event's name")
        names = [name for several in self.types.values() for name in several]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"types: {repeated[0]!r} is the name of two types")
        return self

    @property
    def type_of_name(self) -> dict[str, str]:
        """Name → type."""
        return {name: kind for kind, names in self.types.items() for name in names}

    def as_purchase_log(self) -> PurchaseLog:
        """The log in terms of a purchase log, so that the same code reads both.

        The session is the order, and the event's name the category.
        """
        columns = self.columns
        return PurchaseLog(
            **self.model_dump(include={*FileFormat.model_fields, "time_format", "naive_times"}),
            columns=PurchaseColumns(
                customer_id=columns.customer_id or str(columns.session_id), product_id=columns.product_id,
                time=columns.time, order_id=columns.session_id, category=columns.type,
            ),
        )  # fmt: skip


class ReturnStatus(StrictModel):
    """A column whose values mark returns."""

    column: str = Field(description="Column of the status.")
    values: Columns = Field(description="Values that mark a return.")
    line_type: Literal["purchase", "return"] = Field(
        "purchase",
        description="What a line with this status is. purchase: the purchase itself, which was returned or canceled. "
        "return: a separate line for the return. A line with a negative quantity is always a return.",
    )


class ReturnReason(StrictModel):
    """A column whose values say that a returned piece had the wrong size."""

    column: str = Field(description="Column of the reason.")
    values: Columns = Field(description="Reasons of size, such as too small and too large.")


class ReturnSettings(StrictModel):
    """How the purchase log marks returns."""

    negative_quantity: bool = Field(False, description="Lines with a negative quantity are returns.")
    order_id_prefix: str | None = Field(None, description="Orders whose id begins with this are returns.")
    status: ReturnStatus | None = Field(None, description="A column whose values mark returns.")
    wrong_size: ReturnReason | None = Field(
        None,
        description="Which returns count against a size. Default: all. Those without a reason always do.",
    )


class CatalogColumns(ColumnMapping):
    """Field → column of the catalog. Only product_id is required."""

    product_id: str = Field(description="Column of the product id.")
    title: Columns = Field([], description="Column or columns of the product title, joined by a space.")
    category: str | None = Field(None, description="Column of the product category.")
    brand: str | None = Field(None, description="Column of the brand.")
    price: str | None = Field(None, description="Column of the list price.")
    text: Columns = Field([], description="Columns of the text to embed. Default: title, category and brand.")
    available_from: str | None = Field(None, description="Column of the ISO date before which a product isn't shown.")
    image: str | None = Field(None, description="Column of the URL of a picture. Of several, the first is used.")
    link: str | None = Field(None, description="Column of the URL of the product's page.")
    variant_of: str | None = Field(
        None, description="Column of the id of the product that the row is a variant of, such as a size or color."
    )
    size: str | None = Field(None, description="Column of the size of a variant. It is also the attribute `size`.")
    stock: str | None = Field(
        None, description="Column of the units in stock, or of yes and no. Without stock, a product isn't shown."
    )


class Attribute(StrictModel):
    """A property of products that filters and rules use."""

    type: Literal["text", "list", "number", "date"] = Field(description="Type. A list is one of texts.")
    column: str | None = Field(None, description="Column of the catalog. Default: the name of the attribute.")
    separator: str = Field("|", min_length=1, description="list: what separates values; a JSON list needs none.")
    shown: bool = Field(
        True,
        description="Whether answers of the API contain it. Set false for what shoppers must not see, such as margins.",
    )
    taste: bool = Field(
        False, description="text, list: whether recommendations learn which values a customer buys, as for categories."
    )

    @model_validator(mode="after")
    def _check_taste(self) -> Attribute:
        if self.taste and self.type not in ("text", "list"):
            raise ValueError(f"`taste` is only for text and list, not for {self.type}")
        return self


AttributeName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]


class Catalog(FileFormat):
    """Files with one row per product. The newest is used: by the date in its path, otherwise by name."""

    columns: CatalogColumns = Field(description="Field → column.")
    attributes: dict[
        AttributeName,
        Annotated[Attribute, BeforeValidator(lambda value: {"type": value} if isinstance(value, str) else value)],
    ] = Field({}, max_length=50, description="Name → type, or type and more.")

    @property
    def all_attributes(self) -> dict[str, Attribute]:
        """The attributes with their columns; `columns.size` is one of them."""
        size = {SIZE: Attribute(type="text", column=self.columns.size)} if self.columns.size else {}
        named = self.attributes.items()
        return {**size, **{name: each.model_copy(update={"column": each.column or name}) for name, each in named}}

    @property
    def used_columns(self) -> list[str]:
        """Columns of the catalog that the YAML file uses."""
        of_fields = [column for columns in self.columns.by_field.values() for column in columns]
        of_attributes = [attribute.column or "" for attribute in self.all_attributes.values()]
        return list(dict.fromkeys([*of_fields, *of_attributes, *self.include, *self.exclude]))

    @model_validator(mode="after")
    def _check_size(self) -> Catalog:
        if self.columns.size and SIZE in self.attributes:
            raise ValueError(f"set `columns.size` or the attribute `{SIZE}`, not both")
        return self
