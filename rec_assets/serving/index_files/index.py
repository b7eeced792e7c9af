"""The serving index: everything that a response needs, as arrays in a folder.

    manifest.json   size and SHA-256 of each file (`manifest.py`)
    metadata.json   versions, days and fingerprints of the release
    ranker.ubj      the ranker
    snapshot/       the product snapshot
    histories/      each customer's purchases and other events up to the as-of day
    lists/          the customers' lists from the batch (optional: without them, each request is ranked)

Each worker reads the files into memory. It does not map them, so that a file that is truncated or overwritten later
can't crash the worker or change responses. `recommender.py` uses the index.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from rec_assets.recsys.data.forgetting import Forgotten, is_forgotten
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.data.snapshot_arrays import SNAPSHOT_LAYOUT
from rec_assets.recsys.ranking.lists import LISTS
from rec_assets.recsys.ranking.ranker import Ranker
from rec_assets.recsys.recipe import Recipe
from rec_assets.serving.index_files.manifest import MANIFEST, IndexDamaged, IndexUnreadable, verify, write_manifest
from rec_assets.serving.index_files.stored import HISTORY_ARRAYS, LIST_ARRAYS, LIST_TEXTS, StoredHistories, StoredList

_METADATA, _RANKER, _SNAPSHOT = "metadata.json", "ranker.ubj", "snapshot"

LAYOUT = (*SNAPSHOT_LAYOUT, *HISTORY_ARRAYS, *LIST_ARRAYS, *LIST_TEXTS, "customers_ends", MANIFEST, _METADATA)
"""Names of the parts of an index. When they change, the plan publishes a new index."""


@dataclass(frozen=True, eq=False)
class Index:
    """Content of an index folder.

    Attributes:
        histories: Of all customers.
        lists: The batch's lists by name; empty if each request is ranked.
        metadata: Versions, days and fingerprints of the release.
    """

    snapshot: ProductSnapshot
    ranker: Ranker
    recipe: Recipe
    histories: StoredHistories
    lists: dict[str, StoredList]
    metadata: dict[str, Any]

    def without(self, forgotten: Forgotten) -> Index:
        """A copy without forgotten customers; the index itself if it has none of them."""
        day, histories = self.snapshot.as_of, self.histories
        in_histories = _are_forgotten(histories.customers, day, forgotten)
        in_lists = {name: _are_forgotten(each.customers, day, forgotten) for name, each in self.lists.items()}
        if not in_histories.any() and not any(each.any() for each in in_lists.values()):
            return self
        lists = {name: each.without(in_lists[name]) for name, each in self.lists.items()}
        return replace(self, histories=histories.without(in_histories), lists=lists)

    def save(self, folder: Path) -> None:
        """Write the index into `folder`, which is created if missing."""
        folder.mkdir(parents=True, exist_ok=True)
        self.snapshot.save(folder / _SNAPSHOT)
        (folder / _RANKER).write_bytes(self.ranker.dump())
        self.histories.save(folder / "histories")
        for name, stored in self.lists.items():
            stored.save(folder / "lists" / name)
        metadata = {**self.metadata, "features": list(self.ranker.features), "recipe": self.recipe.model_dump()}
        (folder / _METADATA).write_text(json.dumps(metadata, default=str, indent=1))
        write_manifest(folder)

    @classmethod
    def load(cls, folder: Path) -> Index:
        """Read what `save` wrote into memory.

        Raises:
            IndexDamaged: the files differ from the manifest, or there is none.
            IndexUnreadable: another version of the code wrote the index, and this one can't read it.
        """
        if not verify(folder):
            raise IndexDamaged(f"the index {folder} is damaged: {MANIFEST} is missing; publish a new one")
        try:
            metadata = json.loads((folder / _METADATA).read_text())
            return cls(
                snapshot=ProductSnapshot.load(folder / _SNAPSHOT),
                ranker=Ranker.load((folder / _RANKER).read_bytes(), tuple(metadata["features"])),
                recipe=Recipe.from_stored(metadata["recipe"]),
                histories=StoredHistories.load(folder / "histories"),
                lists={name: StoredList.load(path) for name in LISTS if (path := folder / "lists" / name).is_dir()},
                metadata=metadata,
            )
        except Exception as error:  # the readers of these files raise many kinds
            raise IndexUnreadable(
                f"the index {folder} can't be read by this version of rec_assets ({type(error).__name__}: {error}): "
                "publish a new one with `rec-assets bootstrap` or the job `daily_update`; see docs/operations.md"
            ) from error


def _are_forgotten(customers: Iterable[bytes], day: dt.date, forgotten: Forgotten) -> npt.NDArray[np.bool_]:
    return is_forgotten(pd.Series([each.decode() for each in customers], dtype=object), day, forgotten)
