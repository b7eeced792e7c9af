"""What a shopper is shown: from a ranking to an answer. Modes, filters, diversity, exploration, what to fall back on.

A shopper who did nothing since the index was made is answered with the batch's own list; anyone else, or whose list the
filters use up, with a ranking made now by the same candidates, features and ranker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from rec_assets.recsys.data.product_snapshot import Floats, Longs
from rec_assets.recsys.experiments.exploration import conditional_propensities, plackett_luce_weights
from rec_assets.recsys.ranking.hybrid import ALL, DISCOVER, PINNED, WHY_PINNED
from rec_assets.recsys.rules.compiled import CompiledRules, Mask, compile_rules
from rec_assets.recsys.rules.rerank import ScoredCandidates, rerank
from rec_assets.recsys.rules.spec import NO_RULES, NONE, Rules
from rec_assets.serving.recommender import SEGMENT, Ranked, Recommender, Signal

BUY_AGAIN = "buy_again"

CUSTOMER, SESSION, POPULAR, HOLDOUT = "customer", "session", "popular", "holdout"
"""What an answer rests on, best first: history, this session, a category's best sellers, everybody's; and the empty
answer of an experiment that withholds recommendations."""

POOL = 5
"""So many times the entries asked for are looked at, where the order may be changed for variety."""

MOST_POPULAR = 500
"""Best sellers looked at for who is unknown, where rules have a say."""

Explain = Callable[[Longs], tuple[list[str], list[str]]]
Rank = Callable[[str, tuple[Signal, ...]], Ranked | None]


@dataclass(frozen=True)
class RecommendationRequest:
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
        rules: Name of the rule set that the answer keeps to.
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
    rules: str = NONE

    @property
    def pool(self) -> int:
        """How many products the entries are chosen from."""
        return POOL * self.k if self.diversity or self.exploration else self.k

    @property
    def is_filtered(self) -> bool:
        """Whether some products are left out on purpose."""
        return bool(self.exclude) or self.categories is not None or (self.price_min, self.price_max) != (None, None)


@dataclass(frozen=True)
class RecommendedItem:
    """One product of an answer.

    `propensity` is the chance with which it was to stand there, given what stands above it: 1 where chance has no say,
    None where nobody can tell. `rule` says which rule put it there.
    """

    product_id: str
    score: float
    source: str
    reason: str
    title: str
    category: str
    price: float | None
    rule: str | None = None
    propensity: float | None = 1.0


@dataclass(frozen=True)
class RecommendationResponse:
    """Entries, best first, and what they rest on: CUSTOMER, SESSION, SEGMENT, POPULAR or HOLDOUT."""

    entries: list[RecommendedItem]
    answered_by: str


@dataclass(frozen=True, eq=False)
class RankedItems:
    """Products in an order, and why each is there.

    Attributes:
        product: (n,) positions, best first.
        score: (n,)
        explain: From places on the shelf to their sources and reasons.
        rule: From a place to what the rule says that put its product there.
    """

    product: Longs
    score: Floats
    explain: Explain
    rule: Callable[[int], str | None] = lambda _: None

    def only(self, keep: Mask) -> RankedItems:
        """The same without some."""
        places = np.flatnonzero(keep)
        return RankedItems(
            self.product[places],
            self.score[places],
            lambda chosen: self.explain(places[chosen]),
            lambda place: self.rule(int(places[place])),
        )

    def arranged(
        self, book: CompiledRules, offer: ScoredCandidates, depth: int, is_barred: Callable[[int], bool]
    ) -> RankedItems:
        """The same by rules; `offer` has the same products."""
        product, place, rule = rerank(book, offer, depth, is_barred)
        score = np.where(place >= 0, np.append(self.score, 0)[place], 0).astype(np.float32)

        def explain(chosen: Longs) -> tuple[list[str], list[str]]:
            wanted = place[chosen]
            known = iter(zip(*self.explain(wanted[wanted >= 0]), strict=True)) if (wanted >= 0).any() else iter(())
            said = [next(known) if each >= 0 else (PINNED, WHY_PINNED) for each in wanted]
            return [source for source, _ in said], [reason for _, reason in said]

        return RankedItems(product, score, explain, lambda here: None if rule[here] < 0 else book.says[rule[here]])


class Responder:
    """Answers from one index. Everything it says is of that index.

    Attributes:
        rules: That it answers by.
        books: Its sets by name, over the index's products; NONE is among them.
        default: Of these the one that counts where nothing else is said.
    """

    def __init__(self, recommender: Recommender, rank: Rank | None = None, rules: Rules = NO_RULES) -> None:
        self.recommender = recommender
        self.rank = rank or recommender.rank
        self.rules = rules
        self.books = {name: compile_rules(rules, name, recommender.state) for name in rules.sets}
        self.default = self.books[rules.default]

    def book_of(self, wish: RecommendationRequest) -> CompiledRules:
        """The rules that a wish keeps to; the default's where the set it names has just gone."""
        return self.books.get(wish.rules, self.default)

    @cached_property
    def _everything(self) -> Mask:
        return np.full(len(self.recommender.state), True)

    def available(self, unavailable: frozenset[str]) -> Mask:
        """(P,) which products may be shown."""
        mask = self._everything.copy()
        places = self.recommender.place
        mask[[places[product] for product in unavailable if product in places]] = False
        return mask

    def answer(
        self, wish: RecommendationRequest, available: Mask, chance: np.random.Generator
    ) -> RecommendationResponse:
        """The products that a shopper is shown.

        Args:
            wish: What is asked for.
            available: As `available` gives it.
            chance: Has a say where `exploration` lets it.
        """
        allowed = self._allowed(wish, available) & self.book_of(wish).shown
        shelf, rests_on = self._shelf(wish, allowed)
        if rests_on is None:  # best sellers are the same for everybody: chance and variety have no say
            wish = replace(wish, exploration=0.0, diversity=0.0)
        chosen = [] if shelf is None else self._entries(shelf, *self._pick(shelf, wish, chance))
        if rests_on is None:
            rests_on = SEGMENT if wish.segment is not None else POPULAR
        if len(chosen) < wish.k and wish.mode != BUY_AGAIN:
            shown = {entry.product_id for entry in chosen}
            best = (pair for found in self._best_sellers(wish, allowed) for pair in zip(*found, strict=True))
            for product, score in best:
                if len(chosen) == wish.k:
                    break
                entry = self.entry(int(product), float(score), SEGMENT, self.recommender.why_popular(int(product)))
                if entry.product_id not in shown:
                    chosen.append(entry)
                    shown.add(entry.product_id)
        return RecommendationResponse(chosen, rests_on)

    def known_part(self, wish: RecommendationRequest) -> RecommendationRequest:
        """The wish without what the index doesn't know, which changes no answer; names are then the index's own.

        Whatever a caller may write is thus no part of what is kept.
        """
        customer = wish.customer_id if wish.customer_id and self.is_known(wish.customer_id) else ""
        if not wish.signals and not wish.exclude and wish.categories is None and wish.segment is None:
            return wish if customer == wish.customer_id else replace(wish, customer_id=customer)
        place, ids, names = self.recommender.place, self.recommender.state.product_ids, self._category_names
        visits: dict[str, str] = {}
        return replace(
            wish,
            customer_id=customer,
            signals=tuple(
                Signal(ids[place[each.product_id]], each.weight, visits.setdefault(each.visit, str(len(visits))))
                for each in wish.signals
                if each.product_id in place
            ),
            categories=None
            if wish.categories is None
            else frozenset(names[each] for each in wish.categories if each in names),
            exclude=frozenset(ids[place[each]] for each in wish.exclude if each in place),
            segment=names.get(wish.segment) if wish.segment is not None else None,
        )

    @cached_property
    def _category_names(self) -> dict[str, str]:
        return {str(name): str(name) for name in self.recommender.state.categories}

    def is_known(self, customer_id: str) -> bool:
        """Whether the index knows what the customer did."""
        return self.recommender.index.histories.rows_of(customer_id) is not None

    def _allowed(self, wish: RecommendationRequest, available: Mask) -> Mask:
        state, allowed = self.recommender.state, available
        if wish.exclude:
            places = self.recommender.place
            allowed = allowed.copy()
            allowed[[places[product] for product in wish.exclude if product in places]] = False
        if wish.categories is not None:
            allowed = allowed & np.isin(state.categories, list(wish.categories))[state.category]
        if wish.price_min is not None:
            allowed = allowed & (state.list_price >= wish.price_min)
        if wish.price_max is not None:
            allowed = allowed & (state.list_price <= wish.price_max)
        return allowed

    def _shelf(self, wish: RecommendationRequest, allowed: Mask) -> tuple[RankedItems | None, str | None]:
        """What this shopper may be shown, and what it rests on; nothing for someone unknown."""
        known, book = bool(wish.customer_id) and self.is_known(wish.customer_id), self.book_of(wish)
        if known and not wish.signals:
            shelf = self._stored(wish, allowed)
            if shelf is not None:
                return shelf, CUSTOMER
        ranked = self.rank(wish.customer_id if known else "", wish.signals) if known or wish.signals else None
        if ranked is None:
            return (self._popular_shelf(wish, allowed, book) if book else None), None
        keep = allowed[ranked.product]
        if wish.mode != ALL:
            keep = keep & (ranked.is_bought == (wish.mode == BUY_AGAIN))
        shelf = RankedItems(
            ranked.product, ranked.score[ranked.order], lambda places: self.recommender.explain(ranked, places)
        ).only(keep)
        if book:
            order, found = ranked.order[keep], ranked.found
            last_age = float(found.histories.customer_last_age[0])
            offer = ScoredCandidates(
                shelf.product, shelf.score, found.return_rate[order], found.complement[order], last_age
            )
            bought = set(ranked.product[ranked.is_bought]) if wish.mode == DISCOVER else set()

            def is_barred(product: int) -> bool:
                return wish.mode == BUY_AGAIN or not allowed[product] or product in bought

            shelf = shelf.arranged(book, offer, wish.pool, is_barred)
        return shelf, CUSTOMER if known else SESSION

    def _popular_shelf(self, wish: RecommendationRequest, allowed: Mask, book: CompiledRules) -> RankedItems | None:
        """Best sellers, of the segment where one is asked for, by rules: for who is unknown."""
        if wish.mode == BUY_AGAIN:
            return None
        best, shares = next(self._best_sellers(wish, allowed))
        product, score = best[:MOST_POPULAR], shares[:MOST_POPULAR]

        def explain(places: Longs) -> tuple[list[str], list[str]]:
            return [SEGMENT] * len(places), [self.recommender.why_popular(int(each)) for each in product[places]]

        offer = ScoredCandidates(
            product, score, self.recommender.state.return_rate[product], np.zeros_like(score), np.nan
        )
        shelf = RankedItems(product, score, explain)
        return shelf.arranged(book, offer, wish.pool, lambda each: not allowed[each])

    def _stored(self, wish: RecommendationRequest, allowed: Mask) -> RankedItems | None:
        """The batch's list; None where it isn't there, keeps to other rules or may hold too little."""
        index, book = self.recommender.index, self.book_of(wish)
        if index.about.get("rules_version", "") != book.version:
            return None
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
        if book and not keep.all():
            return None  # what rules count by ten moves up

        def explain(places: Longs) -> tuple[list[str], list[str]]:
            found = [stored.why(entries.start + int(place)) for place in places]
            return [source for source, _ in found], [reason for _, reason in found]

        return RankedItems(
            product, stored.score[entries], explain, lambda place: stored.rule_of(entries.start + place)
        ).only(keep)

    def _pick(
        self, shelf: RankedItems, wish: RecommendationRequest, chance: np.random.Generator
    ) -> tuple[Longs, list[float | None]]:
        """Places on the shelf, in the order in which they are shown, and their propensities."""
        places = np.arange(min(len(shelf.product), wish.pool))
        propensity: list[float | None] = [1.0] * len(places)
        if wish.exploration and len(places):
            # Of what the places are worth: the scores' own order, where rules have put products into another.
            worth = np.sort(shelf.score[places])[::-1]
            weight = plackett_luce_weights(worth, wish.exploration)
            # Sampling without replacement in proportion to weights is sorting by Gumbel noise added to their logarithms
            # (Kool et al. 2019).
            order = np.argsort(-(np.log(weight) + chance.gumbel(size=len(places))), kind="stable")
            places = places[order]
            propensity = [*conditional_propensities(weight[order])]
        if wish.diversity:
            places = self._varied(shelf.product[places], places, wish)
            propensity = [None if wish.exploration else 1.0] * len(places)
        return places[: wish.k], propensity[: wish.k]

    def _varied(self, product: Longs, places: Longs, wish: RecommendationRequest) -> Longs:
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

    def _entries(self, shelf: RankedItems, places: Longs, propensity: list[float | None]) -> list[RecommendedItem]:
        if not len(places):
            return []
        sources, reasons = shelf.explain(places)
        return [
            self.entry(
                int(shelf.product[place]), float(shelf.score[place]), source, reason, shelf.rule(int(place)), chance
            )
            for place, source, reason, chance in zip(places, sources, reasons, propensity, strict=True)
        ]

    def entry(
        self,
        product: int,
        score: float,
        source: str,
        reason: str,
        rule: str | None = None,
        propensity: float | None = 1.0,
    ) -> RecommendedItem:
        """An entry for the product at a position."""
        state, price = self.recommender.state, float(self.recommender.state.list_price[product])
        return RecommendedItem(
            product_id=str(state.product_ids[product]),
            score=score,
            source=source,
            reason=reason,
            title=str(state.titles[product]),
            category=str(state.categories[state.category[product]]),
            price=round(price, 2) if np.isfinite(price) else None,
            rule=rule,
            propensity=propensity,
        )

    def _best_sellers(self, wish: RecommendationRequest, allowed: Mask) -> Iterator[tuple[Longs, Floats]]:
        """Positions and scores: of the segment, then of everything; nothing bought before where that is asked for."""
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
            yield product[keep], score[keep]
