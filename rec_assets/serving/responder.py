"""Builds the response to a recommendation request from one index: modes, filters, merchandising rules, fallbacks.

For a customer without events after the as-of day of the index, the response uses the stored list of the batch.
Otherwise, or if filters leave too little of that list, it ranks the products with the batch's candidates, features and
ranker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial

import numpy as np

from rec_assets.recsys.arrays import Floats, Longs, Mask
from rec_assets.recsys.data.variants import Sizes
from rec_assets.recsys.ranking.lists import ALL, DISCOVER
from rec_assets.recsys.rules.compiled import CompiledRules, compile_rules
from rec_assets.recsys.rules.effects import BLOCK_SIZE, ScoredCandidates
from rec_assets.recsys.rules.rules_file import EMPTY_RULE_SETS, RuleSets
from rec_assets.serving.ranked_items import RankedItems, diversify, randomize
from rec_assets.serving.recommendation import (
    BUY_AGAIN,
    CUSTOMER,
    POPULAR,
    POPULAR_IN_CATEGORY,
    SESSION,
    RecommendationRequest,
    RecommendationResponse,
    RecommendedItem,
)
from rec_assets.serving.recommender import BEST_SELLERS, RankedCandidates, Recommender, Signal
from rec_assets.serving.selection import Selection

MAX_POPULAR = 500
"""Number of best sellers that merchandising rules re-rank for an unknown customer."""

Rank = Callable[[str, tuple[Signal, ...]], RankedCandidates | None]


class Responder:
    """Responds from one index.

    Attributes:
        rule_sets: The rule sets of the rules file.
        compiled_rules: Rule set → compiled rules; NO_RULE_SET is one of them.
        default_rules: The compiled default rule set.
    """

    def __init__(self, recommender: Recommender, rule_sets: RuleSets = EMPTY_RULE_SETS) -> None:
        self.recommender, self.rule_sets = recommender, rule_sets
        self.compiled_rules = {name: compile_rules(rule_sets, name, recommender.snapshot) for name in rule_sets.sets}
        self.default_rules = self.compiled_rules[rule_sets.default]

    def rules_for(self, request: RecommendationRequest) -> CompiledRules:
        """The request's rule set; the default one if it no longer exists."""
        return self.compiled_rules.get(request.rules, self.default_rules)

    def available(self, unavailable: frozenset[str]) -> Selection:
        """What is in stock and not among the ids of unavailable products and variants."""
        snapshot, variants = self.recommender.snapshot, self.recommender.snapshot.variants.positions
        products = self._positions(frozenset(each for each in unavailable if each not in variants))
        return Selection.available(snapshot, products, [variants[each] for each in unavailable if each in variants])

    def build_response(
        self, request: RecommendationRequest, available: Selection, rng: np.random.Generator, rank: Rank | None = None
    ) -> RecommendationResponse:
        """Build the response.

        Args:
            request: The request.
            available: From `available`.
            rng: For randomized ranking (`exploration`).
            rank: Ranks products if needed; default: the recommender.
        """
        selection = self._selection(request, available)
        allowed, variants = selection.products, self._variant_chooser(request, selection)
        ranked, answered_by = self._rank_items(request, allowed, rank or self.recommender.rank)
        if answered_by is None:  # best sellers are neither randomized nor diversified
            request = replace(request, exploration=0.0, diversity=0.0)
            answered_by = POPULAR if request.fallback_category is None else POPULAR_IN_CATEGORY
        items = [] if ranked is None else self._build_items(ranked, *self._choose(ranked, request, rng), variants)
        if len(items) < request.k and request.mode != BUY_AGAIN:
            shown = {item.product_id for item in items}
            best = (pair for found in self._best_sellers(request, allowed) for pair in zip(*found, strict=True))
            for product, score in best:
                if len(items) == request.k:
                    break
                reason = self.recommender.popular_reason(int(product))
                item = self.item(int(product), float(score), BEST_SELLERS, reason, variant=variants(int(product)))
                if item.product_id not in shown:
                    items.append(item)
                    shown.add(item.product_id)
        return RecommendationResponse(items, answered_by)

    def normalize(self, request: RecommendationRequest) -> RecommendationRequest:
        """The request without unknown ids and names. The response is the same.

        The ids and names that remain are the index's own objects, so that callers' strings never fill the caches.
        """
        customer = request.customer_id if request.customer_id and self.is_known(request.customer_id) else ""
        if (
            not request.signals
            and not request.exclude
            and request.categories is request.brands is None
            and not request.attributes
            and request.fallback_category is None
        ):
            return request if customer == request.customer_id else replace(request, customer_id=customer)
        positions, ids = self.recommender.positions, self.recommender.snapshot.product_ids
        names, brands = self._category_names, self._brand_names
        visits: dict[str, str] = {}
        return replace(
            request,
            customer_id=customer,
            signals=tuple(
                Signal(ids[positions[each.product_id]], each.weight, visits.setdefault(each.visit, str(len(visits))))
                for each in request.signals
                if each.product_id in positions
            ),
            categories=request.categories and frozenset(names[each] for each in request.categories if each in names),
            brands=request.brands and frozenset(brands[each] for each in request.brands if each in brands),
            exclude=frozenset(ids[position] for position in self._positions(request.exclude)),
            fallback_category=names.get(request.fallback_category) if request.fallback_category is not None else None,
        )

    def is_known(self, customer_id: str) -> bool:
        """Whether the index has a history of the customer."""
        return self.recommender.index.histories.rows_of(customer_id) is not None

    def item(
        self, product: int, score: float, source: str, reason: str, rule: str | None = None,
        propensity: float | None = 1, *, variant: int = -1,
    ) -> RecommendedItem:  # fmt: skip
        """The item for the product at a position, and for one of its variants (−1: none)."""
        snapshot, price = self.recommender.snapshot, float(self.recommender.snapshot.list_price[product])
        image, link, attributes = snapshot.images[product], snapshot.links[product], snapshot.attributes.shown(product)
        if variant >= 0:
            variants = snapshot.variants
            price = float(variants.price[variant]) if np.isfinite(variants.price[variant]) else price
            image, link = variants.images[variant] or image, variants.links[variant] or link
            attributes = {**attributes, **variants.attributes.shown(variant)}
        return RecommendedItem(
            product_id=str(snapshot.product_ids[product]), score=score, source=source, reason=reason,
            title=str(snapshot.titles[product]), category=str(snapshot.categories[snapshot.category[product]]),
            brand=str(snapshot.brands[snapshot.brand[product]]), price=round(price, 2) if np.isfinite(price) else None,
            variant_id=str(snapshot.variants.ids[variant]) if variant >= 0 else None, image=image or None,
            link=link or None, attributes=attributes, rule=rule, propensity=propensity,
        )  # fmt: skip

    def best_variant(self, product: int, selection: Selection, sizes: Sizes | None = None) -> int:
        """The variant of a product to show, out of a selection; −1 for none. See `Variants.choose`."""
        snapshot = self.recommender.snapshot
        return snapshot.variants.choose(product, int(snapshot.category[product]), selection.variants, sizes or {})

    def _variant_chooser(self, request: RecommendationRequest, selection: Selection) -> Callable[[int], int]:
        """A function: product → the variant to show to the request's customer; −1 for none."""
        snapshot, histories = self.recommender.snapshot, self.recommender.index.histories
        if not len(snapshot.variants):
            return lambda product: -1
        lines = histories.rows_of(request.customer_id) or slice(0, 0)
        bought = zip(histories.variant[lines].tolist(), histories.weight[lines].tolist(), strict=True)
        sizes = snapshot.variants.sizes_bought(snapshot.category, bought)
        return lambda product: self.best_variant(product, selection, sizes)

    @cached_property
    def _category_names(self) -> dict[str, str]:
        return {str(name): str(name) for name in self.recommender.snapshot.categories}

    @cached_property
    def _brand_names(self) -> dict[str, str]:
        return {str(name): str(name) for name in self.recommender.snapshot.brands}

    def _positions(self, product_ids: frozenset[str]) -> list[int]:
        positions = self.recommender.positions
        return [positions[product] for product in product_ids if product in positions]

    def _bought(self, customer_id: str) -> Longs:
        """Positions of the products in the customer's history that they bought; may repeat."""
        histories = self.recommender.index.histories
        lines = histories.rows_of(customer_id) or slice(0, 0)
        return histories.product[lines][histories.weight[lines] >= 1].astype(np.int64)

    def _selection(self, request: RecommendationRequest, available: Selection) -> Selection:
        """What is available and passes the request's filters and the rules."""
        snapshot, allowed = self.recommender.snapshot, self.rules_for(request).visible
        dismissed = self.recommender.dismissed(request.customer_id, request.signals)
        if request.exclude or len(dismissed):
            allowed = allowed.copy()
            allowed[self._positions(request.exclude)] = False
            allowed[dismissed] = False
        if request.categories is not None:
            allowed = allowed & np.isin(snapshot.categories, list(request.categories))[snapshot.category]
        if request.brands is not None:
            allowed = allowed & np.isin(snapshot.brands, list(request.brands))[snapshot.brand]
        return available.restrict(snapshot, allowed).filter(request, snapshot)

    def _rank_items(
        self, request: RecommendationRequest, allowed: Mask, rank: Rank
    ) -> tuple[RankedItems | None, str | None]:
        """Ranked items for the shopper, and CUSTOMER or SESSION; None for an unknown shopper without events."""
        known, rules = bool(request.customer_id) and self.is_known(request.customer_id), self.rules_for(request)
        if known and not request.signals:
            stored = self._stored_items(request, allowed)
            if stored is not None:
                return stored, CUSTOMER
        ranking = rank(request.customer_id if known else "", request.signals) if known or request.signals else None
        if ranking is None:
            return (self._popular_items(request, allowed, rules) if rules else None), None
        keep = allowed[ranking.product]
        if request.mode != ALL:
            keep = keep & (ranking.is_bought == (request.mode == BUY_AGAIN))
        score, explain = ranking.score[ranking.order], partial(self.recommender.explain, ranking)
        ranked = RankedItems(ranking.product, score, explain).filter(keep)
        if rules:
            order, found = ranking.order[keep], ranking.candidates
            return_rate, complement = found.return_rate[order], found.complement[order]
            last_age = float(found.histories.customer_last_age[0])
            scored = ScoredCandidates(ranked.product, ranked.score, return_rate, complement, last_age)
            bought = set(ranking.product[ranking.is_bought]) if request.mode == DISCOVER else set()

            def is_excluded(product: int) -> bool:
                return request.mode == BUY_AGAIN or not allowed[product] or product in bought

            ranked = ranked.rerank(rules, scored, request.pool, is_excluded)
        return ranked, CUSTOMER if known else SESSION

    def _popular_items(self, request: RecommendationRequest, allowed: Mask, rules: CompiledRules) -> RankedItems | None:
        """Best sellers for an unknown customer, re-ranked by rules: of the fallback category if the request has one."""
        if request.mode == BUY_AGAIN:
            return None
        best, shares = next(self._best_sellers(request, allowed))
        product, score = best[:MAX_POPULAR], shares[:MAX_POPULAR]

        def explain(positions: Longs) -> tuple[list[str], list[str]]:
            reasons = [self.recommender.popular_reason(int(each)) for each in product[positions]]
            return [BEST_SELLERS] * len(positions), reasons

        return_rate = self.recommender.snapshot.return_rate[product]
        scored = ScoredCandidates(product, score, return_rate, np.zeros_like(score), np.nan)
        ranked = RankedItems(product, score, explain)
        return ranked.rerank(rules, scored, request.pool, lambda each: not allowed[each])

    def _stored_items(self, request: RecommendationRequest, allowed: Mask) -> RankedItems | None:
        """The batch's list; None if there is none, it was made with other rules, or it may be too short."""
        index, rules = self.recommender.index, self.rules_for(request)
        if index.metadata.get("rules_version", "") != rules.version:
            return None
        stored = index.lists.get(DISCOVER if request.mode == DISCOVER else ALL)
        rows = stored.rows_of(request.customer_id) if stored else None
        if stored is None or rows is None:
            return None
        product = stored.product[rows].astype(np.int64)
        keep = allowed[product]
        if request.mode == BUY_AGAIN:
            keep = keep & np.isin(product, self._bought(request.customer_id))
        if keep.sum() < request.pool and len(product) >= index.recipe.list_size:
            return None  # the list was cut at list_size
        # Rules that count per ten items must run again, unless all is there down to the end of the last shown ten.
        if rules and not keep[: -(-request.pool // BLOCK_SIZE) * BLOCK_SIZE].all():
            return None

        def explain(positions: Longs) -> tuple[list[str], list[str]]:
            pairs = [stored.source_and_reason(rows.start + int(position)) for position in positions]
            return [source for source, _ in pairs], [reason for _, reason in pairs]

        return RankedItems(
            product, stored.score[rows], explain, lambda position: stored.rule_text(rows.start + position)
        ).filter(keep)

    def _choose(
        self, ranked: RankedItems, request: RecommendationRequest, rng: np.random.Generator
    ) -> tuple[Longs, list[float | None]]:
        """Positions of the shown items among the ranked ones, in order of display, and their propensities."""
        positions = np.arange(min(len(ranked.product), request.pool))
        propensity: list[float | None] = [1.0] * len(positions)
        if request.exploration and len(positions):
            positions, propensity = randomize(ranked.score[positions], request.exploration, rng)
        if request.diversity:
            pool = ranked.product[positions]
            positions = positions[diversify(pool, self.recommender.snapshot, request.k, request.diversity)]
            propensity = [None if request.exploration else 1.0] * len(positions)
        return positions[: request.k], propensity[: request.k]

    def _build_items(
        self, ranked: RankedItems, positions: Longs, propensities: list[float | None], variant: Callable[[int], int]
    ) -> list[RecommendedItem]:
        if not len(positions):
            return []
        product, score = ranked.product[positions].tolist(), ranked.score[positions].tolist()
        rows = zip(product, score, *ranked.explain(positions), map(ranked.rule_text, positions), propensities,
                   strict=True)  # fmt: skip
        return [self.item(*row, variant=variant(row[0])) for row in rows]

    def _best_sellers(self, request: RecommendationRequest, allowed: Mask) -> Iterator[tuple[Longs, Floats]]:
        """Positions and scores, of the fallback category, then of all products. In discover mode, not bought before."""
        if request.mode == DISCOVER:
            allowed = allowed.copy()
            allowed[self._bought(request.customer_id)] = False
            allowed[self._positions(frozenset(each.product_id for each in request.signals if each.weight >= 1))] = False
        for category in dict.fromkeys((request.fallback_category, None)):
            product, score = self.recommender.popular(category)
            keep = allowed[product]
            yield product[keep], score[keep]
