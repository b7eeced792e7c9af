"""The serving index: all that answering needs, as arrays in a folder, which each worker reads into its memory.

Not mapped: a file that is cut short or overwritten while it is in use must not end a worker, or change an answer.

    manifest.json   each file's size and SHA-256 (`manifest.py`)
    about.json   ranker.ubj
    state/       what is known of the products (`ProductSnapshot`)
    histories/   what each customer bought and looked at, up to the state's day
    lists/       everybody's lists as the batch made them (optional: without them each answer is worked out)

Here belongs how it is written and read; what is done with it stands in `recommender.py`.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from rec_assets.recsys.data.forgetting import Forgotten, is_forgotten
from rec_assets.recsys.data.product_snapshot import SNAPSHOT_LAYOUT, ProductSnapshot
from rec_assets.recsys.ranking.hybrid import LISTS
from rec_assets.recsys.ranking.ranker import Ranker
from rec_assets.recsys.recipe import Recipe
from rec_assets.serving.ids import Ids
from rec_assets.serving.manifest import MANIFEST, IndexDamaged, IndexUnreadable, check, seal

if TYPE_CHECKING:
    from typing_extensions import Self

_LINES = {"product": np.int32, "order": np.int32, "age": np.float32, "weight": np.float32, "rating": np.float32}
_ENTRIES = {"product": np.int32, "score": np.float32, "source": np.int8, "reason": np.int32, "rule": np.int32}
_TEXTS = {"sources": "source", "reasons": "reason", "rules": "rule"}

_SOURCES_ONCE = ("own", "als", "co_purchase", "same_customer", "content", "category", "brand", "popular", "product",
                 "customer", "pinned")  # fmt: skip
"""What the numbers in `source` mean in lists that don't say so themselves: earlier versions left the names out."""

_log = logging.getLogger(__name__)

LAYOUT = (*SNAPSHOT_LAYOUT, *_LINES, *_ENTRIES, *_TEXTS, "customers_ends", MANIFEST)
"""Names of all that an index holds: as soon as there is another, the plan publishes anew."""


@dataclass(frozen=True, eq=False)
class _ByCustomer:
    """Rows in columns, those of a customer side by side.

    Attributes:
        customers: n ids, sorted.
        starts: (n + 1,) first row of each.
    """

    columns: ClassVar[tuple[str, ...]]

    customers: Ids
    starts: npt.NDArray[np.int64]

    def rows_of(self, customer_id: str) -> slice | None:
        """The rows of a customer; None where nothing is known of them."""
        place = self.customers.find(customer_id.encode())
        if place is None:
            return None
        return slice(int(self.starts[place]), int(self.starts[place + 1]))

    def without(self, goes: npt.NDArray[np.bool_]) -> Self:
        """The same without some customers, told by (n,) whether each goes."""
        rows = ~np.repeat(goes, np.diff(self.starts))
        starts = np.append(0, np.cumsum(np.diff(self.starts)[~goes]))
        kept = {name: getattr(self, name)[rows] for name in self.columns}
        stay = Ids.of(each for each, gone in zip(self.customers, goes, strict=True) if not gone)
        return replace(self, customers=stay, starts=starts, **kept)

    def save(self, folder: Path) -> None:
        """Write the arrays into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.customers.save(folder, "customers")
        for name in ("starts", *self.columns):
            np.save(folder / f"{name}.npy", getattr(self, name))

    @classmethod
    def load(cls, folder: Path, **more: Any) -> Self:
        """Read what `save` wrote."""
        arrays = {name: np.load(folder / f"{name}.npy") for name in ("starts", *cls.columns)}
        return cls(customers=Ids.load(folder, "customers"), **arrays, **more)


@dataclass(frozen=True, eq=False)
class StoredHistories(_ByCustomer):
    """Histories of n customers, L lines.

    Attributes:
        product, order, age, weight, rating: (L,) see `recsys.histories.histories_of`.
    """

    columns = tuple(_LINES)

    product: npt.NDArray[np.int32]
    order: npt.NDArray[np.int32]
    age: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    rating: npt.NDArray[np.float32]

    @classmethod
    def of_lines(cls, lines: pd.DataFrame, state: ProductSnapshot) -> StoredHistories:
        """From a frame with HISTORY_COLUMNS; lines of products that the state doesn't know are left out."""
        return cls.of_numbered(numbered(lines, pd.Index(state.product_ids)))

    @classmethod
    def of_numbered(cls, lines: pd.DataFrame) -> StoredHistories:
        """From what `numbered` makes, of all customers in any order, each one's lines together."""
        place, _ = pd.factorize(lines["customer_id"], sort=True)
        lines = lines.iloc[np.argsort(place, kind="stable")]
        customers, starts = _runs(lines["customer_id"])
        return cls(customers, starts, **{name: lines[name].to_numpy(kind) for name, kind in _LINES.items()})


NUMBERED = "customer_id string, product int, order int, age float, weight float, rating float"
"""What `numbered` gives, as Spark has it."""


def numbered(lines: pd.DataFrame, product_ids: pd.Index) -> pd.DataFrame:
    """Lines of whole customers with their products' positions, and numbers that tell a customer's orders apart.

    Args:
        lines: HISTORY_COLUMNS.
        product_ids: All that count; lines of others are left out.
    """
    product = product_ids.get_indexer(pd.Index(lines["product_id"]))
    lines = lines.assign(product=product, age=lines["age_days"])[product >= 0]
    lines["order"] = pd.factorize(lines["order_id"], sort=True)[0]
    lines = lines.sort_values(["customer_id", "product", "age", "order"], ignore_index=True)
    return lines[["customer_id", *_LINES]].astype(_LINES)


@dataclass(frozen=True, eq=False)
class StoredList(_ByCustomer):
    """One of the lists ("all" or "discover") of n customers, E entries, those of a customer by rank.

    Attributes:
        product: (E,) position in the state.
        score: (E,)
        source: (E,) index into `sources`.
        reason: (E,) index into `reasons`.
        rule: (E,) index into `rules`; −1 where no rule put it there.
        sources, reasons, rules: Texts.
    """

    columns = tuple(_ENTRIES)

    product: npt.NDArray[np.int32]
    score: npt.NDArray[np.float32]
    source: npt.NDArray[np.int8]
    reason: npt.NDArray[np.int32]
    rule: npt.NDArray[np.int32]
    sources: pa.Array
    reasons: pa.Array
    rules: pa.Array

    @classmethod
    def of_entries(cls, entries: pa.Table, state: ProductSnapshot) -> StoredList:
        """From customer_id, rank, product_id, score, source, reason, rule."""
        entries = entries.sort_by([("customer_id", "ascending"), ("rank", "ascending")])
        product = state.positions(entries["product_id"].to_pandas())
        entries, product = entries.filter(pa.array(product >= 0)), product[product >= 0]
        customers, starts = _runs(entries["customer_id"].to_pandas())
        texts = {name: pc.dictionary_encode(entries[name]).combine_chunks() for name in _TEXTS.values()}
        columns = {
            "product": product,
            "score": entries["score"].to_numpy(),
            **{name: pc.fill_null(text.indices, -1).to_numpy() for name, text in texts.items()},
        }
        arrays = {name: columns[name].astype(kind) for name, kind in _ENTRIES.items()}
        dictionaries = {name: texts[column].dictionary for name, column in _TEXTS.items()}
        return cls(customers, starts, **arrays, **dictionaries)

    def save(self, folder: Path) -> None:
        """Write the arrays and the texts into `folder`."""
        super().save(folder)
        for name in _TEXTS:
            table = pa.table({name: getattr(self, name)})
            with pa.OSFile(str(folder / f"{name}.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)

    @classmethod
    def load(cls, folder: Path, **more: Any) -> Self:
        """Read what `save` wrote."""
        files = {name: folder / f"{name}.arrow" for name in _TEXTS}
        texts = {
            name: pa.array(_SOURCES_ONCE)
            if name == "sources" and not file.exists()
            else pa.ipc.open_file(pa.BufferReader(file.read_bytes())).read_all()[name]
            for name, file in files.items()
        }
        return super().load(folder, **texts, **more)

    def why(self, entry: int) -> tuple[str, str]:
        """Source and reason of an entry."""
        return self.sources[int(self.source[entry])].as_py(), self.reasons[int(self.reason[entry])].as_py()

    def rule_of(self, entry: int) -> str | None:
        """What the rule says that put an entry there; None where none did."""
        number = int(self.rule[entry])
        return None if number < 0 else self.rules[number].as_py()


@dataclass(frozen=True, eq=False)
class Index:
    """What is in the folder.

    Attributes:
        state: What is known of the products.
        ranker: The blend.
        recipe: Its candidates' sizes and decays.
        histories: Of all customers.
        lists: By name, as the batch made them; empty where they are worked out at each answer.
        about: What the release tells: versions, days, fingerprints.
    """

    state: ProductSnapshot
    ranker: Ranker
    recipe: Recipe
    histories: StoredHistories
    lists: dict[str, StoredList]
    about: dict[str, Any]

    def without(self, forgotten: Forgotten) -> Index:
        """The index without customers who asked to be forgotten; itself, if it knows none of them."""
        day, known = self.state.as_of, self.histories
        theirs = _are_forgotten(known.customers, day, forgotten)
        lists = {name: (each, _are_forgotten(each.customers, day, forgotten)) for name, each in self.lists.items()}
        if not theirs.any() and not any(listed.any() for _, listed in lists.values()):
            return self
        kept = {name: each.without(listed) for name, (each, listed) in lists.items()}
        return replace(self, histories=known.without(theirs), lists=kept)

    def save(self, folder: Path) -> None:
        """Write everything into `folder` (made if missing)."""
        folder.mkdir(parents=True, exist_ok=True)
        self.state.save(folder / "state")
        (folder / "ranker.ubj").write_bytes(self.ranker.dump())
        self.histories.save(folder / "histories")
        for name, entries in self.lists.items():
            entries.save(folder / "lists" / name)
        described = {
            **self.about, "features": list(self.ranker.features), "recipe": self.recipe.model_dump(), "sealed": True
        }  # fmt: skip
        (folder / "about.json").write_text(json.dumps(described, default=str, indent=1))
        seal(folder)

    @classmethod
    def load(cls, folder: Path) -> Index:
        """Read what `save` wrote into memory.

        An index of an earlier version has no manifest; it is taken with a warning.

        Raises:
            IndexDamaged: its files are not those that were written.
            IndexUnreadable: another version of the code wrote it, and this one can't read it.
        """
        is_sealed = check(folder)
        try:
            about = json.loads((folder / "about.json").read_text())
            if about.get("sealed") and not is_sealed:
                raise IndexDamaged(f"the index {folder} is damaged: {MANIFEST} is missing; publish a new one")
            if not is_sealed:
                _log.warning(
                    "the index %s was written by an earlier version: nothing tells whether it is whole", folder
                )
            return cls(
                state=ProductSnapshot.load(folder / "state"),
                ranker=Ranker.load((folder / "ranker.ubj").read_bytes(), tuple(about["features"])),
                recipe=Recipe.stored(about["recipe"]),
                histories=StoredHistories.load(folder / "histories"),
                lists={name: StoredList.load(path) for name in LISTS if (path := folder / "lists" / name).is_dir()},
                about=about,
            )
        except IndexDamaged:
            raise
        except Exception as error:  # whatever readers of files say of bytes that aren't theirs
            raise IndexUnreadable(
                f"the index {folder} can't be read by this version of rec_assets ({type(error).__name__}: {error}): "
                "publish a new one with `rec-assets bootstrap` or the job `refresh` (docs/operations.md, Upgrading)"
            ) from error


def _are_forgotten(customers: Iterable[bytes], day: dt.date, forgotten: Forgotten) -> npt.NDArray[np.bool_]:
    return is_forgotten(pd.Series([each.decode() for each in customers], dtype=object), day, forgotten)


def _runs(sorted_ids: pd.Series) -> tuple[Ids, npt.NDArray[np.int64]]:
    """Distinct ids in UTF-8, and where each begins, of a sorted column."""
    place, ids = pd.factorize(sorted_ids)
    starts = np.append(0, np.cumsum(np.bincount(place, minlength=len(ids))))
    return Ids.of(str(each).encode() for each in ids), starts.astype(np.int64)
