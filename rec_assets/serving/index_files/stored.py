"""Histories and recommendation lists of all customers as arrays, as a serving index stores them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from rec_assets.recsys.data.histories import HISTORY_COLUMNS
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.serving.index_files.ids import Ids

if TYPE_CHECKING:
    from typing_extensions import Self

HISTORY_ARRAYS = {
    "product": np.int32, "variant": np.int32, "order": np.int32, "age": np.float32, "weight": np.float32,
    "rating": np.float32,
}  # fmt: skip
LIST_ARRAYS = {"product": np.int32, "score": np.float32, "source": np.int8, "reason": np.int32, "rule": np.int32}
LIST_TEXTS = {"sources": "source", "reasons": "reason", "rules": "rule"}
"""Distinct texts → the array that holds indexes into them."""


@dataclass(frozen=True, eq=False)
class _RowsByCustomer:
    """Rows as one array per column, sorted by customer.

    Attributes:
        customers: n sorted ids.
        starts: (n + 1,) first row of each customer, and the number of rows.
    """

    columns: ClassVar[tuple[str, ...]]

    customers: Ids
    starts: npt.NDArray[np.int64]

    def rows_of(self, customer_id: str) -> slice | None:
        """The rows of a customer; None for an unknown customer."""
        position = self.customers.find(customer_id.encode())
        return None if position is None else slice(int(self.starts[position]), int(self.starts[position + 1]))

    def without(self, is_removed: npt.NDArray[np.bool_]) -> Self:
        """A copy without some customers; `is_removed` is (n,)."""
        rows = ~np.repeat(is_removed, np.diff(self.starts))
        starts = np.append(0, np.cumsum(np.diff(self.starts)[~is_removed]))
        columns = {name: getattr(self, name)[rows] for name in self.columns}
        kept = (each for each, removed in zip(self.customers, is_removed, strict=True) if not removed)
        return replace(self, customers=Ids.from_sorted(kept), starts=starts, **columns)

    def save(self, folder: Path) -> None:
        """Write the arrays into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.customers.save(folder, "customers")
        for name in ("starts", *self.columns):
            np.save(folder / f"{name}.npy", getattr(self, name))

    @classmethod
    def load(cls, folder: Path, **texts: Any) -> Self:
        """Read what `save` wrote."""
        arrays = {name: np.load(folder / f"{name}.npy") for name in ("starts", *cls.columns)}
        return cls(customers=Ids.load(folder, "customers"), **arrays, **texts)


@dataclass(frozen=True, eq=False)
class StoredHistories(_RowsByCustomer):
    """Histories of n customers, L lines.

    Attributes:
        product, order, age, weight, rating: (L,) see `recsys.data.histories.histories_from_arrays`.
        variant: (L,) position of the variant; −1 for none, and for a return that says nothing about the size.
    """

    columns = tuple(HISTORY_ARRAYS)

    product: npt.NDArray[np.int32]
    variant: npt.NDArray[np.int32]
    order: npt.NDArray[np.int32]
    age: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    rating: npt.NDArray[np.float32]

    @classmethod
    def from_lines(cls, lines: pd.DataFrame, snapshot: ProductSnapshot) -> StoredHistories:
        """From a frame with HISTORY_COLUMNS, without lines of products that are not in the snapshot."""
        return cls.from_numbered(number_lines(lines, *(pd.Index(ids) for ids in ids_of(snapshot))))

    @classmethod
    def from_numbered(cls, lines: pd.DataFrame) -> StoredHistories:
        """From the output of `number_lines` for all customers, in any order of customers."""
        position, _ = pd.factorize(lines["customer_id"], sort=True)
        lines = lines.iloc[np.argsort(position, kind="stable")]
        customers, starts = _starts(lines["customer_id"])
        return cls(customers, starts, **{name: lines[name].to_numpy(kind) for name, kind in HISTORY_ARRAYS.items()})


SERVED_COLUMNS = (*HISTORY_COLUMNS, "variant_id", "wrong_size")
"""Columns of `customer_histories` that an index contains."""

NUMBERED_SCHEMA = "customer_id string, product int, variant int, order int, age float, weight float, rating float"
"""Spark schema of the output of `number_lines`."""


def ids_of(snapshot: ProductSnapshot) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.object_]]:
    """The ids of products and of variants whose positions histories have."""
    return snapshot.product_ids, snapshot.variants.ids


def number_lines(lines: pd.DataFrame, product_ids: pd.Index, variant_ids: pd.Index) -> pd.DataFrame:
    """Replace ids of products and variants by positions, and order ids by numbers that are distinct within a customer.

    `lines` has SERVED_COLUMNS, with all lines of each customer. Bulk orders (weight 0) and lines of other products are
    left out.
    """
    product = product_ids.get_indexer(pd.Index(lines["product_id"]))
    variant = variant_ids.get_indexer(pd.Index(lines["variant_id"])) if len(variant_ids) else np.full(len(lines), -1)
    variant = np.where((lines["weight"] < 0) & ~lines["wrong_size"].astype(bool), -1, variant)
    is_kept = (product >= 0) & (lines["weight"] != 0)
    lines = lines.assign(product=product, variant=variant, age=lines["age_days"])[is_kept]
    lines["order"] = pd.factorize(lines["order_id"], sort=True)[0]
    lines = lines.sort_values(["customer_id", "product", "age", "order", "variant"], ignore_index=True)
    return lines[["customer_id", *HISTORY_ARRAYS]].astype(HISTORY_ARRAYS)


@dataclass(frozen=True, eq=False)
class StoredList(_RowsByCustomer):
    """One of the lists ("all" or "discover") of n customers, E items, by customer and rank.

    Attributes:
        product: (E,) position in the product snapshot.
        score: (E,)
        source: (E,) index into `sources`.
        reason: (E,) index into `reasons`.
        rule: (E,) index into `rules`; −1 if no rule raised or pinned the item.
        sources, reasons, rules: Distinct texts.
    """

    columns = tuple(LIST_ARRAYS)

    product: npt.NDArray[np.int32]
    score: npt.NDArray[np.float32]
    source: npt.NDArray[np.int8]
    reason: npt.NDArray[np.int32]
    rule: npt.NDArray[np.int32]
    sources: pa.Array
    reasons: pa.Array
    rules: pa.Array

    @classmethod
    def from_scores(cls, scores: pa.Table, snapshot: ProductSnapshot) -> StoredList:
        """From customer_id, rank, product_id, score, source, reason, rule."""
        scores = scores.sort_by([("customer_id", "ascending"), ("rank", "ascending")])
        product = snapshot.positions(scores["product_id"].to_pandas())
        scores, product = scores.filter(pa.array(product >= 0)), product[product >= 0]
        customers, starts = _starts(scores["customer_id"].to_pandas())
        texts = {name: pc.dictionary_encode(scores[name]).combine_chunks() for name in LIST_TEXTS.values()}
        columns = {name: pc.fill_null(text.indices, -1).to_numpy() for name, text in texts.items()}
        columns |= {"product": product, "score": scores["score"].to_numpy()}
        arrays = {name: columns[name].astype(kind) for name, kind in LIST_ARRAYS.items()}
        dictionaries = {name: texts[column].dictionary for name, column in LIST_TEXTS.items()}
        return cls(customers, starts, **arrays, **dictionaries)

    def save(self, folder: Path) -> None:
        """Write the arrays and the texts into `folder`."""
        super().save(folder)
        for name in LIST_TEXTS:
            table = pa.table({name: getattr(self, name)})
            with pa.OSFile(str(folder / f"{name}.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)

    @classmethod
    def load(cls, folder: Path, **texts: Any) -> Self:
        """Read what `save` wrote."""
        files = {name: pa.BufferReader((folder / f"{name}.arrow").read_bytes()) for name in LIST_TEXTS}
        texts = {name: pa.ipc.open_file(file).read_all()[name] for name, file in files.items()}
        return super().load(folder, **texts)

    def source_and_reason(self, row: int) -> tuple[str, str]:
        """Source and reason of an item."""
        return self.sources[int(self.source[row])].as_py(), self.reasons[int(self.reason[row])].as_py()

    def rule_text(self, row: int) -> str | None:
        """Text of the rule that raised or pinned an item; None if no rule did."""
        number = int(self.rule[row])
        return None if number < 0 else self.rules[number].as_py()


def _starts(sorted_ids: pd.Series) -> tuple[Ids, npt.NDArray[np.int64]]:
    """Distinct ids of a sorted column, and the first row of each."""
    position, ids = pd.factorize(sorted_ids)
    starts = np.append(0, np.cumsum(np.bincount(position, minlength=len(ids))))
    return Ids.from_sorted(str(each).encode() for each in ids), starts.astype(np.int64)
