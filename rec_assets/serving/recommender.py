"""The released recommender: ranks the products for one shopper with the batch's candidates, features and ranker.

`responder.py` decides which of them to show (filters, modes, fallbacks).
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

from rec_assets.recsys.arrays import Floats, Longs
from rec_assets.recsys.data.histories import Histories, histories_from_arrays
from rec_assets.recsys.events import CART, DISMISSAL, DISMISSED, REMOVAL, RETURN
from rec_assets.recsys.ranking.features import FEATURES
from rec_assets.recsys.ranking.lists import ALL, DISCOVER, LISTS
from rec_assets.recsys.ranking.reasons import explain
from rec_assets.recsys.retrieval.candidates import Candidates, candidates_from_histories
from rec_assets.serving.index_files.index import Index

BEST_SELLERS = "best_sellers"
"""`source` of a best seller in a list: for a customer without a history, or to fill a short list."""

_REPEAT_ORDER_LINES = FEATURES.index("repeat_order_lines")


class Signal(NamedTuple):
    """A shopper's interest in a product after the as-of day of the index.

    Attributes:
        product_id: An unknown product is ignored.
        weight: 1 for a purchase, less for other events, DISMISSED for a dismissal.
        visit: The order or session.
    """

    product_id: str
    weight: float
    visit: str


def build_signals(events: Sequence[tuple[str, str, str]], weights: Mapping[str, float]) -> tuple[Signal, ...]:
    """Turn a shopper's events (type, product, order or session; oldest first) into signals.

    A return cancels a purchase, and a removal a cart of the same visit. Each purchase counts. Within a visit, the signs
    of interest in a product count once, with the largest weight, as in `recsys.data.cleaning.signs_of_interest`. A
    purchase cancels an earlier dismissal.
    """
    signals: dict[tuple[str, str, int], Signal] = {}
    interest: dict[tuple[str, str], dict[str, float]] = {}
    for number, (kind, product, visit) in enumerate(events, start=1):
        weight = weights.get(kind, 0.0)
        if kind == RETURN:
            bought = [key for key, signal in signals.items() if key[0] == product and signal.weight >= 1]
            if bought:
                del signals[bought[-1]]
        elif kind == DISMISSAL:
            signals[product, "", -1] = Signal(product, DISMISSED, "")
        elif weight >= 1:
            signals[product, visit, number] = Signal(product, weight, visit)
            signals.pop((product, "", -1), None)
        elif weight > 0 or kind == REMOVAL:
            known = interest.setdefault((product, visit), {})
            if kind == REMOVAL:
                known.pop(CART, None)
            else:
                known[kind] = weight
            signals.pop((product, visit, 0), None)
            if strongest := max(known.values(), default=0.0):
                signals[product, visit, 0] = Signal(product, strongest, visit)
    return tuple(signals.values())


@dataclass(frozen=True, eq=False)
class RankedCandidates:
    """One shopper's c candidates with scores.

    Attributes:
        score: (c,) in the order of the candidates.
        order: (c,) positions among the candidates by falling score; ties go to the lower product position.
    """

    candidates: Candidates
    score: Floats
    order: Longs

    @property
    def product(self) -> Longs:
        """(c,) positions of the products, best first."""
        return self.candidates.product[self.order]

    @property
    def is_bought(self) -> npt.NDArray[np.bool_]:
        """(c,) whether the shopper bought the product before, best first."""
        return np.asarray(self.candidates.features[self.order, _REPEAT_ORDER_LINES] > 0)


class Recommender:
    """A released model in memory."""

    def __init__(self, index: Index) -> None:
        self.index, self.snapshot = index, index.snapshot

    @classmethod
    def load(cls, folder: Path) -> Recommender:
        """Load the index in a folder; see `Index.load`."""
        return cls(Index.load(folder))

    @cached_property
    def titles(self) -> dict[str, str]:
        """product_id → name."""
        return dict(zip(self.snapshot.product_ids, self.snapshot.titles, strict=True))

    @cached_property
    def categories(self) -> dict[str, str]:
        """product_id → category."""
        categories = self.snapshot.categories[self.snapshot.category]
        return dict(zip(self.snapshot.product_ids, categories, strict=True))

    @cached_property
    def positions(self) -> dict[str, int]:
        """Id of a product, or of a variant of it → position of the product."""
        variants = zip(self.snapshot.variants.ids, self.snapshot.variants.product.tolist(), strict=True)
        return {**dict(variants), **{product: place for place, product in enumerate(self.snapshot.product_ids)}}

    def name_products(self, events: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
        """Events (type, product, order or session) with products instead of variants."""
        variants, ids = self.snapshot.variants, self.snapshot.product_ids
        if not len(variants):
            return list(events)
        product_of = variants.positions
        return [
            (kind, str(ids[variants.product[product_of[name]]]) if name in product_of else name, visit)
            for kind, name, visit in events
        ]

    def price(self, product_id: str) -> float | None:
        """The price of a product or variant to show; None if it is unknown."""
        position, variant = self.positions.get(product_id), self.snapshot.variants.positions.get(product_id, -1)
        price = math.nan if position is None else float(self.snapshot.list_price[position])
        if variant >= 0 and math.isfinite(self.snapshot.variants.price[variant]):
            price = float(self.snapshot.variants.price[variant])
        return round(price, 2) if math.isfinite(price) and price > 0 else None

    def rank(self, customer_id: str, signals: Sequence[Signal] = ()) -> RankedCandidates | None:
        """Rank candidates by the customer's history and the signals (oldest first); None if there is neither."""
        histories = self._histories(customer_id, signals)
        if not len(histories.product):
            return None
        candidates = candidates_from_histories(histories, self.snapshot, self.index.recipe)
        score = self.index.ranker.score(candidates.features)
        return RankedCandidates(candidates, score, np.lexsort((candidates.product, -score)))

    def dismissed(self, customer_id: str, signals: Sequence[Signal] = ()) -> Longs:
        """Positions of the products that the customer dismissed and has not bought since."""
        stored = self.index.histories
        weights = stored.weight[stored.rows_of(customer_id) or slice(0, 0)]
        if not ((weights > -1) & (weights < 0)).any() and all(signal.weight >= 0 for signal in signals):
            return np.zeros(0, np.int64)
        return self._histories(customer_id, signals).dismissed_product

    def explain(self, ranked: RankedCandidates, positions: Longs) -> tuple[list[str], list[str]]:
        """Sources and reasons for some positions of the ranking; see `recsys.ranking.reasons.explain`."""
        rows = np.sort(ranked.order[positions])  # in the order of the candidates
        candidates = ranked.candidates
        product_ids, anchors = self.snapshot.product_ids[candidates.product[rows]], candidates.anchors(rows)
        sources, reasons = explain(
            product_ids, candidates.features[rows], self.index.ranker, anchors=anchors, titles=self.titles,
            categories=self.categories,
        )  # fmt: skip
        back = np.searchsorted(rows, ranked.order[positions])
        return [sources[i] for i in back], [reasons[i] for i in back]

    def popular(self, category: str | None = None) -> tuple[Longs, Floats]:
        """Best sellers, of all products or of a category: positions by falling number of recent buyers, and scores.

        The score is the product's share of the sum of recent buyers (of the category).
        """
        best = self.snapshot.by_recent_buyers
        if category is not None:
            best = best[self.snapshot.categories[self.snapshot.category[best]] == category]
        buyers = self.snapshot.recent_buyers[best]
        return best, np.asarray(buyers / max(float(buyers.sum()), 1.0), np.float32)

    def popular_reason(self, product: int) -> str:
        """The reason shown with a best seller."""
        category = self.snapshot.categories[self.snapshot.category[product]]
        return f"popular in {category}" if category else "popular right now"

    def recommend(self, customer_id: str, k: int = 10, list_name: str = ALL) -> pd.DataFrame:
        """The best k products for a customer, by their history up to the index's as-of day.

        Args:
            customer_id: As in the purchase logs. An unknown customer gets best sellers, with `source` "best_sellers".
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
            sources, reasons = [BEST_SELLERS] * len(product), [self.popular_reason(each) for each in product]
        else:
            keep = ~ranked.is_bought if list_name == DISCOVER else np.full(len(ranked.order), True)
            positions = np.flatnonzero(keep)[:k]
            product, score = ranked.product[positions], ranked.score[ranked.order[positions]]
            sources, reasons = self.explain(ranked, positions)
        return pd.DataFrame(
            {
                "product_id": self.snapshot.product_ids[product],
                "rank": np.arange(1, len(product) + 1),
                "score": score,
                "source": sources,
                "reason": reasons,
                "product": self.snapshot.titles[product],
            }
        )

    def _histories(self, customer_id: str, signals: Sequence[Signal]) -> Histories:
        """The history of one shopper: stored lines, then the signals as lines of age 0."""
        stored = self.index.histories
        lines = stored.rows_of(customer_id) or slice(0, 0)
        known = [(self.positions[each.product_id], each) for each in signals if each.product_id in self.positions]
        visits: dict[str, int] = {}
        next_order = int(stored.order[lines].max(initial=-1)) + 1
        order = [next_order + visits.setdefault(each.visit, len(visits)) for _, each in known]
        new = len(known)
        count = lines.stop - lines.start + new
        product = np.array([position for position, _ in known], np.int64)
        weight = np.array([each.weight for _, each in known], np.float32)
        return histories_from_arrays(
            np.array([customer_id] if count else [], dtype=object),
            np.zeros(count, np.int64),
            np.concatenate([stored.product[lines], product]),
            order=np.concatenate([stored.order[lines], np.array(order, np.int64)]),
            # A dismissal is later than the purchases of the as-of day, which have the age 0.
            age=np.concatenate([stored.age[lines], np.where(weight == DISMISSED, -1, 0).astype(np.float32)]),
            weight=np.concatenate([stored.weight[lines], weight]),
            rating=np.concatenate([stored.rating[lines], np.full(new, np.nan, np.float32)]),
            products=len(self.snapshot),
        )
