"""The released recommender: arrays in a folder, and the same candidates, features and ranker as the batch.

index/  state/*.npy  ranker.ubj  histories.parquet  popular.parquet  about.json
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rec_assets.recsys.candidates import find_candidates
from rec_assets.recsys.hybrid import ALL, LISTS, make_lists
from rec_assets.recsys.product_state import ProductState
from rec_assets.recsys.ranker import Ranker
from rec_assets.recsys.recipe import Recipe

SEGMENT = "segment"
"""`source` of entries for customers without history: what is popular with everybody."""


def save_index(
    folder: Path,
    *,
    state: ProductState,
    ranker: Ranker,
    recipe: Recipe,
    histories: pd.DataFrame,
    popular: pd.DataFrame,
    about: dict[str, Any],
) -> None:
    """Write everything that recommending needs.

    Args:
        folder: Made if missing.
        state: What is known of the products.
        ranker: The blend.
        recipe: Its candidates' sizes and decays.
        histories: HISTORY_COLUMNS; purchases and interest up to the state's day.
        popular: product_id, rank, score, reason: for customers without history.
        about: What the release must tell: versions, fingerprint, run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state.save(folder / "state")
    (folder / "ranker.ubj").write_bytes(ranker.dump())
    histories.sort_values(["customer_id", "product_id", "age_days"]).to_parquet(folder / "histories.parquet")
    popular.to_parquet(folder / "popular.parquet")
    described = {**about, "features": list(ranker.features), "recipe": recipe.model_dump()}
    (folder / "about.json").write_text(json.dumps(described, default=str, indent=1))


@dataclass(frozen=True)
class Recommender:
    """A released model in memory.

    Attributes:
        lines: Histories, sorted by customer.
        starts: (customers + 1,) first line of each of `customer_ids`.
    """

    state: ProductState
    ranker: Ranker
    recipe: Recipe
    popular: pd.DataFrame
    lines: pd.DataFrame
    customer_ids: pd.Index
    starts: np.ndarray
    titles: dict[str, str]
    categories: dict[str, str]
    about: dict[str, Any]

    @classmethod
    def load(cls, folder: Path) -> Recommender:
        """Read what `save_index` wrote; arrays are memory-mapped."""
        about = json.loads((folder / "about.json").read_text())
        ranker = Ranker.load((folder / "ranker.ubj").read_bytes(), tuple(about["features"]))  # refuses older versions
        state = ProductState.load(folder / "state")
        lines = pd.read_parquet(folder / "histories.parquet")
        ids, starts = np.unique(lines["customer_id"].to_numpy(str), return_index=True)
        return cls(
            state=state,
            ranker=ranker,
            recipe=Recipe(**about["recipe"]),
            popular=pd.read_parquet(folder / "popular.parquet"),
            lines=lines,
            customer_ids=pd.Index(ids),
            starts=np.append(starts, len(lines)),
            titles=dict(zip(state.product_ids, state.titles, strict=True)),
            categories=dict(zip(state.product_ids, state.categories[state.category], strict=True)),
            about=about,
        )

    def recommend(self, customer_id: str, k: int = 10, list_name: str = ALL) -> pd.DataFrame:
        """The best k products for a customer.

        Args:
            customer_id: As the shop writes it; an unknown one gets what is popular, with `source` "segment".
            k: At most the released list size.
            list_name: "all" or "discover".

        Returns:
            product_id, rank, score, source, reason, product (its name).

        Raises:
            ValueError: k or list_name is out of range.
        """
        if list_name not in LISTS:
            raise ValueError(f"list must be one of {', '.join(LISTS)}, not {list_name!r}")
        if not 1 <= k <= self.recipe.list_size:
            raise ValueError(f"k must be from 1 to {self.recipe.list_size}, not {k}")
        position = self.customer_ids.get_indexer(pd.Index([customer_id]))[0]
        if position < 0:
            rows = self.popular.head(k).assign(source=SEGMENT)
        else:
            lines = self.lines.iloc[self.starts[position] : self.starts[position + 1]]
            found = find_candidates(lines, self.state, self.recipe)
            lists = make_lists(found, self.ranker, self.titles, self.categories, k)
            rows = lists[lists["list"] == list_name]
        names = [self.titles.get(product, "") for product in rows["product_id"]]
        return rows[["product_id", "rank", "score", "source", "reason"]].assign(product=names).reset_index(drop=True)
