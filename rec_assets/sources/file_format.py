"""The fields of a data source that describe files: path, format, and which rows count."""

from __future__ import annotations

import codecs
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from rec_assets.sources.paths import check_pattern


def _as_list(value: object) -> object:
    """A single value doesn't need brackets."""
    return value if isinstance(value, list) else [value]


def _as_character(value: object) -> object:
    r"""A tab is `\t`, with or without quotes."""
    return "\t" if value == r"\t" else value


Columns = Annotated[list[str], BeforeValidator(_as_list)]


class SpecModel(BaseModel):
    """Base of all parts of the YAML file: immutable, and unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FileFormat(SpecModel):
    """Where files are and how they are written."""

    path: Annotated[str, AfterValidator(check_pattern)] = Field(
        min_length=1,
        description="File, folder or glob, relative to the YAML file, or a URI such as s3://bucket/*.csv. It can have "
        "{home} (REC_HOME) and a date, {date:%Y-%m-%d}.",
    )
    format: Literal["csv", "parquet", "jsonl"] = Field("csv", description="File format.")
    delimiter: Annotated[str, BeforeValidator(_as_character)] = Field(
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
