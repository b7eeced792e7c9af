"""One published index, ready to answer: its caches, and what is worked out once.

A request takes one `Engine` and answers from it alone, so that no answer mixes two versions.
"""

from __future__ import annotations

import copy
import datetime as dt
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.rules.compiled import Mask
from rec_assets.recsys.rules.spec import Rules
from rec_assets.serving import related
from rec_assets.serving.caching import BoundedCache
from rec_assets.serving.folder import Published
from rec_assets.serving.recommender import Ranked, Recommender, Signal
from rec_assets.serving.responder import RecommendationRequest, RecommendationResponse, Responder

_RANKINGS, _ANSWERS, _RELATED = 32 << 20, 64 << 20, 16 << 20
"""Bytes, of an index each: rankings, for the shelves of one page; answers, for whoever does nothing new; products'
neighbors of a kind."""

_MOST_RELATED = 500
"""Neighbors kept of a product: some for those out of stock."""

FrequencyCapped = Callable[[int, int], frozenset[str]]
"""From a number of impressions, and days, to the products that a shopper saw so often in these and didn't touch."""


class RankingNeeded(Exception):
    """An answer takes a ranking made anew, for which the others shouldn't wait."""


@dataclass(frozen=True, eq=False)
class _Asked:
    """Who answers, by the rules and the stock of a moment, and what was answered by these.

    Attributes:
        answerer: Who answers.
        at_once: The same, but for rankings, where it raises `RankingNeeded`.
        unavailable, available: Ids of what may not be shown, and (P,) which products may be.
        answers: What was answered before.
    """

    answerer: Responder
    at_once: Responder
    unavailable: frozenset[str]
    available: Mask
    answers: BoundedCache[RecommendationRequest, RecommendationResponse]


class Engine:
    """One published index, ready to answer."""

    def __init__(self, published: Published, rules: Rules) -> None:
        self.published = published
        recommender = Recommender.load(published.path)
        self.recommender = recommender
        self._rankings: BoundedCache[tuple[str, tuple[Signal, ...]], Ranked] = BoundedCache(_RANKINGS, _ranking_bytes)
        self.keep_to(rules)
        about = recommender.index.about
        self.zone = zoneinfo.ZoneInfo(about.get("time_zone", "UTC"))
        self.since = dt.datetime.combine(published.as_of + dt.timedelta(days=1), dt.time(), tzinfo=self.zone)
        """Events from then on are not in the index."""
        self.related = {
            name: _kept(recommender.state, find)
            for name, find in
            (("similar", related.similar), ("complements", related.complements), ("upsell", related.upsell))
        }  # fmt: skip
        self.trending = related.trending(recommender.state)
        # So that nobody waits for what is worked out once.
        for name in ("place", "titles", "categories"):
            getattr(recommender, name)
        if len(recommender.state):
            warm_up = RecommendationRequest(signals=(Signal(str(recommender.state.product_ids[0]), 0.5, "warm-up"),))
            self.answer(warm_up, frozenset())

    def keep_to(self, rules: Rules) -> None:
        """Answer by these rules from now on."""
        answerer = Responder(self.recommender, self._rank, rules)
        at_once = copy.copy(answerer)
        at_once.rank = self._ranked_before
        self._asked = self._of(answerer, at_once, frozenset())

    def _of(self, answerer: Responder, at_once: Responder, unavailable: frozenset[str]) -> _Asked:
        answers: BoundedCache[RecommendationRequest, RecommendationResponse] = BoundedCache(_ANSWERS, _answer_bytes)
        return _Asked(answerer, at_once, unavailable, answerer.available(unavailable), answers)

    def _asked_of(self, unavailable: frozenset[str]) -> _Asked:
        asked = self._asked
        if asked.unavailable is not unavailable:
            asked = self._asked = self._of(asked.answerer, asked.at_once, unavailable)
        return asked

    def _ranked_before(self, customer_id: str, signals: tuple[Signal, ...]) -> Ranked:
        found = self._rankings.get((customer_id, signals))
        if found is None:
            raise RankingNeeded
        return found

    def _rank(self, customer_id: str, signals: tuple[Signal, ...]) -> Ranked | None:
        key = customer_id, signals
        found = self._rankings.get(key)
        if found is None:
            found = self.recommender.rank(customer_id, signals)
            if found is not None:
                self._rankings.put(key, found)
        return found

    @property
    def answerer(self) -> Responder:
        """Who answers, by the rules as they are now."""
        return self._asked.answerer

    def has_rules(self, wish: RecommendationRequest) -> bool:
        """Whether a wish keeps to any."""
        return bool(self.answerer.book_of(wish))

    def without_tired(self, wish: RecommendationRequest, tired_of: FrequencyCapped) -> RecommendationRequest:
        """The wish without what the shopper has seen too often, if its rules have a cap on that."""
        cap = self.answerer.book_of(wish).frequency_cap
        tired = tired_of(*cap) if cap else frozenset()
        return replace(wish, exclude=wish.exclude | tired) if tired else wish

    def may_be_shown(self, unavailable: frozenset[str]) -> Mask:
        """Which products may be shown to whoever asks for none in particular: by stock and the default rules."""
        return self.available(unavailable) & self.answerer.default.shown

    def available(self, unavailable: frozenset[str]) -> Mask:
        """Which products may be shown; worked out anew where that has changed."""
        return self._asked_of(unavailable).available

    def answer(
        self, wish: RecommendationRequest, unavailable: frozenset[str], *, at_once: bool = False
    ) -> RecommendationResponse:
        """What a shopper is shown; the same again while nothing changes, unless chance has a say.

        Raises:
            RankingNeeded: the answer was to be given at once, and takes more than looking something up.
        """
        asked = self._asked_of(unavailable)
        wish = asked.answerer.known_part(wish)
        found = None if wish.exploration else asked.answers.get(wish)
        if found is not None:
            return found
        if at_once and wish.diversity:
            raise RankingNeeded
        answerer = asked.at_once if at_once else asked.answerer
        found = answerer.answer(wish, asked.available, np.random.default_rng())
        return found if wish.exploration else asked.answers.put(wish, found)


def _kept(
    state: ProductSnapshot, find: Callable[[ProductSnapshot, int], related.Found]
) -> Callable[[int], related.Found]:
    cache: BoundedCache[int, related.Found] = BoundedCache(
        _RELATED, lambda _, found: sum(each.nbytes for each in found)
    )

    def kept(product: int) -> related.Found:
        return cache.get(product) or cache.put(product, _best(find(state, product)))

    return kept


def _answer_bytes(wish: RecommendationRequest, answer: RecommendationResponse) -> int:
    """Names of products and categories are the index's own, so of an id only its place in a set counts."""
    return (
        700
        + 100 * len(wish.exclude)
        + 100 * len(wish.categories or ())
        + 300 * len(wish.signals)
        + (800 * len(answer.entries))
    )


def _ranking_bytes(key: tuple[str, tuple[Signal, ...]], ranked: Ranked) -> int:
    found, seeds = ranked.found, ranked.found.seeds
    arrays = (*vars(found.histories).values(), found.customer, found.product, found.features,
              seeds.data, seeds.indices, seeds.indptr, ranked.score, ranked.order)  # fmt: skip
    return sum(each.nbytes for each in arrays if isinstance(each, np.ndarray)) + 300 * len(key[1]) + 500


def _best(found: related.Found) -> related.Found:
    """More are never shown; copies, as a view would keep the whole."""
    product, score = found
    return product[:_MOST_RELATED].copy(), score[:_MOST_RELATED].copy()
