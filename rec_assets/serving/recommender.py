"""The released recommender: one shopper's products in order, by the candidates, features and ranker of the batch.

Which of them are shown (filters, modes, what to fall back on) is decided in `answers.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from rec_assets.recsys.data.histories import Histories, histories_of
from rec_assets.recsys.data.product_snapshot import Floats, Longs, ProductSnapshot
from rec_assets.recsys.events import RETURN
from rec_assets.recsys.ranking.features import FEATURES
from rec_assets.recsys.ranking.hybrid import ALL, DISCOVER, LISTS, explain
from rec_assets.recsys.retrieval.candidates import Candidates, candidates_of
from rec_assets.serving.index import Index

SEGMENT = "segment"
"""`source` of entries that are popular with everybody, for customers without history."""

_OWN_ORDERS = FEATURES.index("own_orders")


class Signal(NamedTuple):
    """What a shopper did since the index was made.

    Attributes:
        product_id: May be unknown: then it says nothing.
        weight: 1 for a purchase, less for a sign of interest.
        visit: The order or session it belongs to.
    """

    product_id: str
    weight: float
    visit: str


def signals_of(done: Sequence[tuple[str, str, str]], weights: Mapping[str, float]) -> tuple[Signal, ...]:
    """What a shopper did (type, product, visit; oldest first) as signals.

    What was given back was not bought. A visit's interest in a product counts once, with its strongest sign, as in
    `cleaning.interest_of`.
    """
    signals: dict[tuple[str, str, int], Signal] = {}
    for number, (kind, product, visit) in enumerate(done, start=1):
        weight = weights.get(kind, 0.0)
        if kind == RETURN:
            bought = [key for key, signal in signals.items() if key[0] == product and signal.weight >= 1]
            if bought:
                del signals[bought[-1]]
        elif weight > 0:
            key = (product, visit, number if weight >= 1 else 0)
            before = signals.pop(key, None)
            signals[key] = Signal(product, max(weight, before.weight if before else 0.0), visit)
    return tuple(signals.values())


@dataclass(frozen=True, eq=False)
class Ranked:
    """One shopper's candidates, best first.

    Attributes:
        found: The candidates.
        score: (c,) of each, in their own order.
        order: (c,) positions among the candidates by falling score, ties to the lower product id.
    """

    found: Candidates
    score: Floats
    order: Longs

    @property
    def product(self) -> Longs:
        """(c,) positions of the products, best first."""
        return self.found.product[self.order]

    @property
    def is_bought(self) -> npt.NDArray[np.bool_]:
        """(c,) whether the shopper bought it before, best first."""
        return np.asarray(self.found.features[self.order, _OWN_ORDERS] > 0)


class Recommender:
    """A released model in memory."""

    def __init__(self, index: Index) -> None:
        self.index = index

    @classmethod
    def load(cls, folder: Path) -> Recommender:
        """Of the index in a folder; see `Index.load`."""
        return cls(Index.load(folder))

    @property
    def state(self) -> ProductSnapshot:
        """What is known of the products."""
        return self.index.state

    @cached_property
    def titles(self) -> dict[str, str]:
        """product_id → name."""
        return dict(zip(self.state.product_ids, self.state.titles, strict=True))

    @cached_property
    def categories(self) -> dict[str, str]:
        """product_id → category."""
        return dict(zip(self.state.product_ids, self.state.categories[self.state.category], strict=True))

    @cached_property
    def _names(self) -> npt.NDArray[np.object_]:
        """product_ids, and "" for number -1."""
        return np.append(self.state.product_ids, "")

    @cached_property
    def place(self) -> dict[str, int]:
        """product_id → position."""
        return {product: position for position, product in enumerate(self.state.product_ids)}

    def price_of(self, product_id: str) -> float | None:
        """The price to show; None where the product or its price is unknown."""
        place = self.place.get(product_id)
        price = math.nan if place is None else float(self.state.list_price[place])
        return round(price, 2) if math.isfinite(price) and price > 0 else None

    def rank(self, customer_id: str, signals: Sequence[Signal] = ()) -> Ranked | None:
        """Candidates of a shopper by what is known of them and by what they did since, oldest signal first.

        None where neither tells anything.
        """
        histories = self._histories(customer_id, signals)
        if not len(histories.product):
            return None
        found = candidates_of(histories, self.state, self.index.recipe)
        score = self.index.ranker.score(found.features)
        return Ranked(found, score, np.lexsort((found.product, -score)))

    def explain(self, ranked: Ranked, places: Longs) -> tuple[list[str], list[str]]:
        """Sources and reasons of some entries of a ranking; see `recsys.hybrid.explain`."""
        rows = np.sort(ranked.order[places])  # the candidates' own order
        found, names = ranked.found, self._names
        sources, reasons = explain(
            self.state.product_ids[found.product[rows]],
            found.features[rows],
            self.index.ranker,
            together_with=names[found.together_with(rows)],
            similar_to=names[found.similar_to(rows)],
            titles=self.titles,
            categories=self.categories,
        )
        back = np.searchsorted(rows, ranked.order[places])
        return [sources[i] for i in back], [reasons[i] for i in back]

    def popular(self, category: str | None = None) -> tuple[Longs, Floats]:
        """What to show someone unknown: positions of what most customers bought lately, of all or of a category.

        Best first. The score is the product's share of the sum of recent buyers (over the category).
        """
        best = self.state.popular
        if category is not None:
            best = best[self.state.categories[self.state.category[best]] == category]
        buyers = self.state.recent_buyers[best]
        return best, np.asarray(buyers / max(float(buyers.sum()), 1.0), np.float32)

    def why_popular(self, product: int) -> str:
        """The reason shown with a best seller."""
        category = self.state.categories[self.state.category[product]]
        return f"popular in {category}" if category else "popular right now"

    def recommend(self, customer_id: str, k: int = 10, list_name: str = ALL) -> pd.DataFrame:
        """The best k products for a customer, by what is known up to the index's day.

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
        size = self.index.recipe.list_size
        if not 1 <= k <= size:
            raise ValueError(f"k must be from 1 to {size}, not {k}")
        ranked = self.rank(customer_id)
        if ranked is None:
            product, score = (values[:k] for values in self.popular())
            sources, reasons = [SEGMENT] * len(product), [self.why_popular(each) for each in product]
        else:
            shown = ~ranked.is_bought if list_name == DISCOVER else np.full(len(ranked.order), True)
            places = np.flatnonzero(shown)[:k]
            product, score = ranked.product[places], ranked.score[ranked.order[places]]
            sources, reasons = self.explain(ranked, places)
        return pd.DataFrame(
            {
                "product_id": self.state.product_ids[product],
                "rank": np.arange(1, len(product) + 1),
                "score": score,
                "source": sources,
                "reason": reasons,
                "product": self.state.titles[product],
            }
        )

    def _histories(self, customer_id: str, signals: Sequence[Signal]) -> Histories:
        stored = self.index.histories
        lines = stored.rows_of(customer_id) or slice(0, 0)
        known = [(self.place[each.product_id], each) for each in signals if each.product_id in self.place]
        visits: dict[str, int] = {}
        later = int(stored.order[lines].max(initial=-1)) + 1
        order = [later + visits.setdefault(each.visit, len(visits)) for _, each in known]
        count = lines.stop - lines.start + len(known)
        return histories_of(
            np.array([customer_id] if count else [], dtype=object),
            np.zeros(count, np.int64),
            np.append(stored.product[lines].astype(np.int64), np.array([place for place, _ in known], np.int64)),
            order=np.append(stored.order[lines].astype(np.int64), np.array(order, np.int64)),
            age=np.append(stored.age[lines], np.zeros(len(known), np.float32)),
            weight=np.append(stored.weight[lines], np.array([each.weight for _, each in known], np.float32)),
            rating=np.append(stored.rating[lines], np.full(len(known), np.nan, np.float32)),
            products=len(self.state),
        )
