"""What a shopper is shown: from a ranking to an answer. Modes, filters, diversity, exploration, what to fall back on.

A shopper who did nothing since the index was made is answered with the batch's own list; anyone else, or whose list the
filters use up, with a ranking made now by the same candidates, features and ranker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from rec_assets.recsys.experiments.exploration import conditional_propensities, plackett_luce_weights
from rec_assets.recsys.hybrid import ALL, DISCOVER
from rec_assets.recsys.product_state import Floats, Longs
from rec_assets.serving.recommender import SEGMENT, Ranked, Recommender, Signal

BUY_AGAIN = "buy_again"

CUSTOMER, SESSION, POPULAR, HOLDOUT = "customer", "session", "popular", "holdout"
"""What an answer rests on, best first: history, this session, a category's best sellers, everybody's; and the empty
answer of an experiment that withholds recommendations."""

POOL = 5
"""So many times the entries asked for are looked at, where the order may be changed for variety."""

Mask = npt.NDArray[np.bool_]
Rank = Callable[[str, tuple[Signal, ...]], Ranked | None]


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    Attributes:
        k: How many.
        customer_id: "" for someone unknown.
        signals: What the shopper did since the index was made, oldest first.
        mode: "all", "discover" (nothing bought before) or "buy_again" (nothing else).
        categories: Only these; None: all.
        price_min, price_max: Only between; products without a price are then left out.
        exclude: Product ids to leave out.
        segment: Category whose best sellers someone unknown gets.
        diversity: 0 to 1: how much an entry loses by being like one before it.
        exploration: 0 to 1: how much chance has a say in the order.
    """

    k: int = 10
    customer_id: str = ""
    signals: tuple[Signal, ...] = ()
    mode: str = ALL
    categories: frozenset[str] | None = None
    price_min: float | None = None
    price_max: float | None = None
    exclude: frozenset[str] = frozenset()
    segment: str | None = None
    diversity: float = 0.0
    exploration: float = 0.0

    @property
    def pool(self) -> int:
        """How many products the entries are chosen from."""
        return POOL * self.k if self.diversity or self.exploration else self.k

    @property
    def is_filtered(self) -> bool:
        """Whether some products are left out on purpose."""
        return bool(self.exclude) or self.categories is not None or (self.price_min, self.price_max) != (None, None)


@dataclass(frozen=True)
class Entry:
    """One product of an answer.

    `propensity` is the chance with which it was to stand there, given what stands above it: 1 where chance has no say,
    None where nobody can tell.
    """

    product_id: str
    score: float
    source: str
    reason: str
    title: str
    category: str
    price: float | None
    propensity: float | None = 1.0


@dataclass(frozen=True)
class Answer:
    """Entries, best first, and what they rest on: CUSTOMER, SESSION, SEGMENT, POPULAR or HOLDOUT."""

    entries: list[Entry]
    answered_by: str


@dataclass(frozen=True, eq=False)
class Shelf:
    """Products in an order, and why each is there.

    Attributes:
        product: (n,) positions, best first.
        score: (n,)
        explain: From places on the shelf to their sources and reasons.
    """

    product: Longs
    score: Floats
    explain: Callable[[Longs], tuple[list[str], list[str]]]

    def only(self, keep: Mask) -> Shelf:
        """The same without some."""
        places = np.flatnonzero(keep)
        return Shelf(self.product[places], self.score[places], lambda chosen: self.explain(places[chosen]))


class Answerer:
    """Answers from one index. Everything it says is of that index."""

    def __init__(self, recommender: Recommender, rank: Rank | None = None) -> None:
        self.recommender = recommender
        self.rank = rank or recommender.rank

    @cached_property
    def _everything(self) -> Mask:
        return np.full(len(self.recommender.state), True)

    def available(self, unavailable: frozenset[str]) -> Mask:
        """(P,) which products may be shown."""
        mask = self._everything.copy()
        places = self.recommender.place
        mask[[places[product] for product in unavailable if product in places]] = False
        return mask

    def answer(self, wish: Wish, available: Mask, chance: np.random.Generator) -> Answer:
        """The products that a shopper is shown.

        Args:
            wish: What is asked for.
            available: As `available` gives it.
            chance: Has a say where `exploration` lets it.
        """
        allowed = self._allowed(wish, available)
        shelf, rests_on = self._shelf(wish, allowed)
        chosen = [] if shelf is None else self._entries(shelf, *self._pick(shelf, wish, chance))
        if rests_on is None:
            rests_on = SEGMENT if wish.segment is not None else POPULAR
        if len(chosen) < wish.k and wish.mode != BUY_AGAIN:
            shown = {entry.product_id for entry in chosen}
            for entry in self._best_sellers(wish, allowed):
                if len(chosen) == wish.k:
                    break
                if entry.product_id not in shown:
                    chosen.append(entry)
                    shown.add(entry.product_id)
        return Answer(chosen, rests_on)

    def is_known(self, customer_id: str) -> bool:
        """Whether the index knows what the customer did."""
        return self.recommender.index.histories.rows_of(customer_id) is not None

    def _allowed(self, wish: Wish, available: Mask) -> Mask:
        state, allowed = self.recommender.state, available
        if wish.exclude:
            places = self.recommender.place
            allowed = allowed.copy()
            allowed[[places[product] for product in wish.exclude if product in places]] = False
        if wish.categories is not None:
            allowed = allowed & np.isin(state.categories, list(wish.categories))[state.category]
        if wish.price_min is not None:
            allowed = allowed & (state.price >= wish.price_min)
        if wish.price_max is not None:
            allowed = allowed & (state.price <= wish.price_max)
        return allowed

    def _shelf(self, wish: Wish, allowed: Mask) -> tuple[Shelf | None, str | None]:
        """What this shopper may be shown, and what it rests on; nothing for someone unknown."""
        known = bool(wish.customer_id) and self.is_known(wish.customer_id)
        if known and not wish.signals:
            shelf = self._stored(wish, allowed)
            if shelf is not None:
                return shelf, CUSTOMER
        if not known and not wish.signals:
            return None, None
        ranked = self.rank(wish.customer_id if known else "", wish.signals)
        if ranked is None:
            return None, None
        keep = allowed[ranked.product]
        if wish.mode != ALL:
            keep = keep & (ranked.is_bought == (wish.mode == BUY_AGAIN))
        whole = Shelf(
            ranked.product, ranked.score[ranked.order], lambda places: self.recommender.explain(ranked, places)
        )
        return whole.only(keep), CUSTOMER if known else SESSION

    def _stored(self, wish: Wish, allowed: Mask) -> Shelf | None:
        """The batch's list; None where it isn't there, or may hold too little of what is asked for."""
        index = self.recommender.index
        stored = index.lists.get(DISCOVER if wish.mode == DISCOVER else ALL)
        entries = stored.rows_of(wish.customer_id) if stored else None
        if stored is None or entries is None:
            return None
        product = stored.product[entries].astype(np.int64)
        keep = allowed[product]
        if wish.mode == BUY_AGAIN:
            lines = index.histories.rows_of(wish.customer_id) or slice(0, 0)
            bought = index.histories.product[lines][index.histories.weight[lines] >= 1]
            keep = keep & np.isin(product, bought)
        if keep.sum() < wish.pool and len(product) >= index.recipe.list_size:
            return None  # there is more than the list holds

        def explain(places: Longs) -> tuple[list[str], list[str]]:
            found = [stored.why(entries.start + int(place)) for place in places]
            return [source for source, _ in found], [reason for _, reason in found]

        return Shelf(product, stored.score[entries], explain).only(keep)

    def _pick(self, shelf: Shelf, wish: Wish, chance: np.random.Generator) -> tuple[Longs, list[float | None]]:
        """Places on the shelf, in the order in which they are shown, and their propensities."""
        places = np.arange(min(len(shelf.product), wish.pool))
        propensity: list[float | None] = [1.0] * len(places)
        if wish.exploration and len(places):
            weight = plackett_luce_weights(shelf.score[places], wish.exploration)
            # Sampling without replacement in proportion to weights is sorting by Gumbel noise added to their logarithms
            # (Kool et al. 2019).
            order = np.argsort(-(np.log(weight) + chance.gumbel(size=len(places))), kind="stable")
            places = places[order]
            propensity = [*conditional_propensities(weight[order])]
        if wish.diversity:
            places = self._varied(shelf.product[places], places, wish)
            propensity = [None if wish.exploration else 1.0] * len(places)
        return places[: wish.k], propensity[: wish.k]

    def _varied(self, product: Longs, places: Longs, wish: Wish) -> Longs:
        """Maximal marginal relevance (Carbonell & Goldstein 1998): of the next entry and the most like it before.

        Relevance falls evenly with the place; likeness is the cosine of texts, or, without them, 1 within a category.
        """
        state, n = self.recommender.state, len(product)
        text = state.text[product]
        vectors = (
            np.where((text >= 0)[:, None], state.embeddings[text], 0) if state.embeddings.size else np.zeros((n, 1))
        )
        both = (text >= 0)[:, None] & (text >= 0)[None, :]
        same = state.category[product][:, None] == state.category[product][None, :]
        alike = np.where(both, vectors @ vectors.T, same)
        value = (1 - wish.diversity) * (1 - np.arange(n) / max(n, 1))
        nearest, left, order = np.zeros(n), np.full(n, True), []
        for _ in range(min(wish.k, n)):
            best = int(np.argmax(np.where(left, value - wish.diversity * nearest, -np.inf)))
            order.append(best)
            left[best] = False
            nearest = np.maximum(nearest, alike[best])
        return places[order]

    def _entries(self, shelf: Shelf, places: Longs, propensity: list[float | None]) -> list[Entry]:
        if not len(places):
            return []
        sources, reasons = shelf.explain(places)
        return [
            self.entry(int(shelf.product[place]), float(shelf.score[place]), source, reason, chance)
            for place, source, reason, chance in zip(places, sources, reasons, propensity, strict=True)
        ]

    def entry(self, product: int, score: float, source: str, reason: str, propensity: float | None = 1.0) -> Entry:
        """An entry for the product at a position."""
        state, price = self.recommender.state, float(self.recommender.state.price[product])
        return Entry(
            product_id=str(state.product_ids[product]),
            score=score,
            source=source,
            reason=reason,
            title=str(state.titles[product]),
            category=str(state.categories[state.category[product]]),
            price=price if np.isfinite(price) else None,
            propensity=propensity,
        )

    def _best_sellers(self, wish: Wish, allowed: Mask) -> Iterator[Entry]:
        """Of the segment, then of everything; nothing bought before where that is asked for."""
        if wish.mode == DISCOVER:
            index, allowed = self.recommender.index, allowed.copy()
            lines = index.histories.rows_of(wish.customer_id) or slice(0, 0)
            allowed[index.histories.product[lines][index.histories.weight[lines] >= 1]] = False
            places = self.recommender.place
            bought = [each.product_id for each in wish.signals if each.weight >= 1]
            allowed[[places[product] for product in bought if product in places]] = False
        for segment in dict.fromkeys((wish.segment, None)):
            product, score = self.recommender.popular(segment)
            keep = allowed[product]
            for place in np.flatnonzero(keep):
                position = int(product[place])
                yield self.entry(position, float(score[place]), SEGMENT, self.recommender.why_popular(position))
