"""Read the catalog: one typed row per product or variant, with file and row."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from upath import UPath

from rec_assets.recsys.data.attributes import HIDDEN, Value
from rec_assets.recsys.data.cleaning_rules import CleaningSettings
from rec_assets.recsys.data.distinct import strip_text
from rec_assets.recsys.events import MAX_ID_LENGTH, MAX_NAME_LENGTH
from rec_assets.sources.batches import ENTRY_NUMBER, LIST_COLUMNS, Conventions
from rec_assets.sources.errors import SourceError
from rec_assets.sources.formats import read_rows
from rec_assets.sources.reader import add_product_texts, check_columns, excluded_by
from rec_assets.sources.spec import DataSource
from rec_assets.sources.spec_fields import Attribute, Catalog
from rec_assets.sources.times import NO_VALUE
from rec_assets.sources.values import as_dates, as_numbers, as_urls

CATALOG_SCHEMA = pa.schema(
    [
        ("product_id", pa.string()),
        ("title", pa.string()),
        ("category", pa.string()),
        ("brand", pa.string()),
        ("text", pa.string()),
        ("price", pa.float64()),
        ("available_from", pa.date32()),
        ("image", pa.string()),
        ("link", pa.string()),
        ("attributes", pa.string()),
        ("taste", pa.string()),
        ("variant_of", pa.string()),
        ("in_stock", pa.bool_()),
        ("excluded", pa.bool_()),
        ("source_file", pa.string()),
        ("source_row", pa.int64()),
    ]
)
"""`raw_product_catalog`. `attributes` is a JSON object (`recsys.data.attributes`), null without attributes.

`taste` is a JSON list of values such as "color=red". `variant_of` is null for a product that is no variant.
"""

_NO_STOCK = {"no", "n", "false", "out of stock", "out_of_stock", "outofstock", "sold out", "sold_out", "unavailable",
             "discontinued", "nein", "non", "none"}  # fmt: skip


def read_catalog(source: DataSource) -> pa.Table:
    """The newest catalog file, CATALOG_SCHEMA; empty if the data source has no catalog.

    It drops rows without a product id, with one longer than MAX_ID_LENGTH, and repetitions of a row.

    Raises:
        SourceError: see `reader`; a product has two different rows; or products are variants of each other.
    """
    spec, path = source.catalog, source.catalog_file()
    if spec is None or path is None:
        return CATALOG_SCHEMA.empty_table()
    columns, frame = spec.columns, read_rows(spec, path)
    of_lists = {attribute.column for attribute in spec.all_attributes.values() if attribute.type == "list"}
    of_lists |= {columns.image, columns.link}
    frame.attrs[LIST_COLUMNS] = [name for name in frame.attrs.get(LIST_COLUMNS, []) if name not in of_lists]
    check_columns(spec, frame, spec.used_columns, path)
    ids = frame[columns.product_id].fillna("").str.strip()
    frame = frame[(ids != "") & (ids.str.len() <= MAX_ID_LENGTH)]
    frame = frame.drop(columns=f"{spec.explode}.{ENTRY_NUMBER}", errors="ignore").drop_duplicates()
    ids = frame[columns.product_id]
    repeated = ids[ids.duplicated()]
    if len(repeated):
        rows = ", ".join(str(row + 1) for row in ids.index[ids == repeated.iloc[0]][:3])
        raise SourceError(
            f"{path}: column {columns.product_id!r}: product {repeated.iloc[0]!r} is in rows {rows} with different "
            f"values ({repeated.nunique()} such products): keep one row per product"
        )
    out = pd.DataFrame({"product_id": ids})
    add_product_texts(out, frame, columns)
    price = as_numbers(frame, columns.price, spec, path, Conventions())
    out["price"] = price.where((price > 0) & np.isfinite(price))
    out["available_from"] = as_dates(frame, columns.available_from, path)
    out["image"], out["link"] = (as_urls(frame, column, path) for column in (columns.image, columns.link))
    attributes = spec.all_attributes
    values = {name: _values(frame, each, spec, path) for name, each in attributes.items()}
    stored = {name if attributes[name].shown else HIDDEN + name: each for name, each in values.items()}
    out["attributes"] = _as_objects(stored, len(frame))
    out["taste"] = _as_tastes({name: values[name] for name, each in spec.all_attributes.items() if each.taste}, frame)
    out["variant_of"] = _parents(frame, spec, path)
    out["in_stock"] = _in_stock(frame, columns.stock)
    out["excluded"] = excluded_by(frame, spec) != ""
    out["source_file"] = source.label(path)
    out["source_row"] = frame.index + 1
    return pa.Table.from_pandas(out, schema=CATALOG_SCHEMA, preserve_index=False)


def cleaning_settings(source: DataSource, catalog: pd.DataFrame) -> CleaningSettings:
    """What cleaning needs of a data source and its catalog, of which product_id, variant_of, excluded are used."""
    variants = catalog.dropna(subset="variant_of")
    return CleaningSettings(
        time_zone=source.time_zone,
        has_price=source.has_price,
        excluded_products=frozenset(catalog["product_id"][catalog["excluded"].astype(bool)]),
        product_of_variant=dict(zip(variants["product_id"], variants["variant_of"], strict=True)),
        bulk_quantity=source.purchases.bulk_quantity,
    )


def _values(frame: pd.DataFrame, attribute: Attribute, spec: Catalog, path: UPath) -> list[Value | None]:
    """Values of an attribute; None for products without one."""
    column = attribute.column or ""
    if attribute.type == "number":
        numbers = as_numbers(frame, column, spec, path, Conventions())
        return [float(each) if np.isfinite(each) else None for each in numbers]
    if attribute.type == "date":
        return [None if each is None else each.isoformat() for each in as_dates(frame, column, path)]
    texts = strip_text(frame[column])
    texts = texts.mask(texts.isin(NO_VALUE), "")
    if attribute.type == "text":
        return [text[:MAX_NAME_LENGTH] or None for text in texts]
    return [_list(text, attribute.separator) or None for text in texts]


def _list(text: str, separator: str) -> list[str]:
    """The distinct values of a cell: a JSON list, or texts with a separator."""
    values: list[Any] = text.split(separator)
    if text.startswith("["):
        with suppress(ValueError, RecursionError):  # it only looks like JSON
            values = json.loads(text, parse_int=str, parse_float=str)
    texts = (str(value).strip()[:MAX_NAME_LENGTH] for value in values if value is not None)
    return list(dict.fromkeys(filter(None, texts)))


def _as_objects(values: dict[str, list[Value | None]], rows: int) -> list[str | None]:
    """A JSON object for each row; None without values."""
    out: list[str | None] = [None] * rows
    for row in range(rows if values else 0):
        found = {name: each[row] for name, each in sorted(values.items()) if each[row] is not None}
        out[row] = json.dumps(found, ensure_ascii=False) if found else None
    return out


def _as_tastes(values: dict[str, list[Value | None]], frame: pd.DataFrame) -> list[str | None]:
    """A JSON list of texts such as "color=red" for each row; None without values."""
    out: list[str | None] = [None] * len(frame)
    for row in range(len(frame) if values else 0):
        found = {name: each[row] for name, each in sorted(values.items()) if each[row] is not None}
        several = {name: value if isinstance(value, list) else [value] for name, value in found.items()}
        named = [f"{name}={value}" for name, each in several.items() for value in each]
        out[row] = json.dumps(named, ensure_ascii=False) if named else None
    return out


def _parents(frame: pd.DataFrame, spec: Catalog, path: UPath) -> list[str | None]:
    """The product that each row is a variant of: of a chain, the last one. None for a row that is no variant.

    A product that is a variant of itself is none.

    Raises:
        SourceError: products are variants of each other.
    """
    column = spec.columns.variant_of
    if column is None:
        return [None] * len(frame)
    own, parents = frame[spec.columns.product_id], frame[column].fillna("").astype(str)
    raw_id = dict(zip(own.str.strip(), own, strict=True))  # ids stay as they are; only the spaces may differ
    parents = parents.str.strip().map(lambda parent: raw_id.get(parent, parent))
    parents = parents.mask(parents.isin(NO_VALUE) | (parents == own) | (parents.str.len() > MAX_ID_LENGTH), "")
    parent_of = {product: parent for product, parent in zip(own, parents, strict=True) if parent}
    found: list[str | None] = []
    for product in own:
        chain = [product]
        while (parent := parent_of.get(chain[-1])) is not None:
            if parent in chain:
                ring = " → ".join([*chain[chain.index(parent) :], parent])
                raise SourceError(
                    f"{path}: column {column!r}: {ring}: products must not be variants of each other: name the same "
                    "product for all variants of it"
                )
            chain.append(parent)
        found.append(chain[-1] if len(chain) > 1 else None)
    return found


def _in_stock(frame: pd.DataFrame, column: str | None) -> pd.Series:
    """Whether a product is in stock. An empty field counts as yes."""
    if column is None:
        return pd.Series(True, frame.index)
    text = strip_text(frame[column]).str.lower()
    units = pd.to_numeric(text.str.extract(r"^(-?\d+(?:[.,]\d+)?)\b")[0].str.replace(",", "."), errors="coerce")
    return ~(text.isin(_NO_STOCK) | (units <= 0))
