"""One loaded index with its caches.

A request uses one `Engine` from start to end, so that no response mixes two index versions.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from rec_assets.recsys.data.attributes import Range
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.rules.rules_file import RuleSets
from rec_assets.serving import related
from rec_assets.serving.caching import BoundedCache
from rec_assets.serving.index_files.folder import PublishedIndex
from rec_assets.serving.recommendation import RecommendationRequest, RecommendationResponse
from rec_assets.serving.recommender import RankedCandidates, Recommender, Signal
from rec_assets.serving.responder import Responder
from rec_assets.serving.selection import Selection

_RANKINGS, _RESPONSES, _RELATED = 32 << 20, 64 << 20, 16 << 20
"""Maximum bytes per index: rankings (shared by the lists of one page), responses, and related products of each kind."""

_MAX_RELATED = 500
"""Related products to cache for a product: more than a response can show, because some may be unavailable."""

FindCapped = Callable[[int, int], frozenset[str]]
"""Finds the products that a shopper saw at least (impressions) times in (days) days without any other event."""


_RankingKey = tuple[str, tuple[Signal, ...]]


class RankingNeeded(Exception):
    """The response needs a ranking that is not cached. The caller should queue it."""


@dataclass(frozen=True, eq=False)
class _CachedResponder:
    """A responder for the current rules and availability, with the cache of its responses.

    Attributes:
        unavailable: Ids of unavailable products and variants.
        available: All others.
    """

    responder: Responder
    unavailable: frozenset[str]
    available: Selection
    responses: BoundedCache[RecommendationRequest, RecommendationResponse]


class Engine:
    """One loaded index, ready to respond."""

    def __init__(self, published: PublishedIndex, rules: RuleSets) -> None:
        self.published = published
        self.recommender = recommender = Recommender.load(published.path)
        self._rankings = BoundedCache[_RankingKey, RankedCandidates](_RANKINGS, _ranking_bytes)
        self.use_rules(rules)
        self.zone = zoneinfo.ZoneInfo(recommender.index.metadata.get("time_zone", "UTC"))
        self.since = dt.datetime.combine(published.as_of + dt.timedelta(days=1), dt.time(), tzinfo=self.zone)
        """Start of the first day that is not in the index."""
        self.related = {
            find.__name__: _cached(recommender.snapshot, find)
            for find in (related.similar, related.complements, related.upsell)
        }
        self.trending = related.trending(recommender.snapshot)
        # Warm up, so that the first requests don't compute what the engine keeps.
        for name in ("positions", "titles", "categories"):
            getattr(recommender, name)
        if len(recommender.snapshot):
            product = str(recommender.snapshot.product_ids[0])
            self.respond(RecommendationRequest(signals=(Signal(product, 0.5, "warm-up"),)), frozenset())

    def use_rules(self, rules: RuleSets) -> None:
        """Replace the merchandising rules."""
        self._cached_responder = _with_availability(Responder(self.recommender, rules), frozenset())

    @property
    def responder(self) -> Responder:
        """The responder with the current rules."""
        return self._cached_responder.responder

    def exclude_capped(self, request: RecommendationRequest, find_capped: FindCapped) -> RecommendationRequest:
        """The request with frequency-capped products excluded, if its rule set has a frequency cap."""
        cap = self.responder.rules_for(request).frequency_cap
        capped = find_capped(*cap) if cap else frozenset()
        return replace(request, exclude=request.exclude | capped) if capped else request

    def available(self, unavailable: frozenset[str]) -> Selection:
        """The products and variants that are available."""
        return self._responder_for(unavailable).available

    def respond(
        self, request: RecommendationRequest, unavailable: frozenset[str], *, cached_only: bool = False
    ) -> RecommendationResponse:
        """The response to a request, from the cache unless it is randomized.

        Raises:
            RankingNeeded: with `cached_only`, if the response needs more than cached or stored data.
        """
        current = self._responder_for(unavailable)
        request = current.responder.normalize(request)
        response = None if request.exploration else current.responses.get(request)
        if response is not None:
            return response
        if cached_only and request.diversity:
            raise RankingNeeded
        rank = self._cached_ranking if cached_only else self._rank
        response = current.responder.build_response(request, current.available, np.random.default_rng(), rank)
        return response if request.exploration else current.responses.put(request, response)

    def _responder_for(self, unavailable: frozenset[str]) -> _CachedResponder:
        current = self._cached_responder
        if current.unavailable is not unavailable:
            current = self._cached_responder = _with_availability(current.responder, unavailable)
        return current

    def _cached_ranking(self, customer_id: str, signals: tuple[Signal, ...]) -> RankedCandidates:
        ranked = self._rankings.get((customer_id, signals))
        if ranked is None:
            raise RankingNeeded
        return ranked

    def _rank(self, customer_id: str, signals: tuple[Signal, ...]) -> RankedCandidates | None:
        key = customer_id, signals
        ranked = self._rankings.get(key)
        if ranked is None:
            ranked = self.recommender.rank(customer_id, signals)
            if ranked is not None:
                self._rankings.put(key, ranked)
        return ranked


def _with_availability(responder: Responder, unavailable: frozenset[str]) -> _CachedResponder:
    responses = BoundedCache[RecommendationRequest, RecommendationResponse](_RESPONSES, _response_bytes)
    return _CachedResponder(responder, unavailable, responder.available(unavailable), responses)


def _cached(
    snapshot: ProductSnapshot, find: Callable[[ProductSnapshot, int], related.Products]
) -> Callable[[int], related.Products]:
    cache = BoundedCache[int, related.Products](_RELATED, lambda _, products: sum(each.nbytes for each in products))

    def cached(product: int) -> related.Products:
        if (known := cache.get(product)) is not None:
            return known
        found, score = find(snapshot, product)
        # Copies, because views would keep the full arrays in memory.
        return cache.put(product, (found[:_MAX_RELATED].copy(), score[:_MAX_RELATED].copy()))

    return cached


def _response_bytes(request: RecommendationRequest, response: RecommendationResponse) -> int:
    """Estimate. Ids and names are the index's own objects, so that only their slots in sets count."""
    names = len(request.exclude) + len(request.categories or ()) + len(request.brands or ())
    names += sum(6 if isinstance(each, Range) else 5 * len(each) for _, each in request.attributes)  # these are its own
    return 700 + 100 * names + 300 * len(request.signals) + 800 * len(response.items)


def _ranking_bytes(key: _RankingKey, ranked: RankedCandidates) -> int:
    found, profile = ranked.candidates, ranked.candidates.profile
    arrays = (*vars(found.histories).values(), found.customer, found.product, found.features,
              *vars(profile).values(), ranked.score, ranked.order)  # fmt: skip
    return sum(each.nbytes for each in arrays if isinstance(each, np.ndarray)) + 300 * len(key[1]) + 500
