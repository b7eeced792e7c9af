"""One loaded index with its caches.

A request uses one `Engine` from start to end, so that no response mixes two index versions.
"""

from __future__ import annotations

import copy
import datetime as dt
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.rules.effects import Mask
from rec_assets.recsys.rules.rules_file import RuleSets
from rec_assets.serving import related
from rec_assets.serving.caching import BoundedCache
from rec_assets.serving.index_files.folder import Published
from rec_assets.serving.recommendation import RecommendationRequest, RecommendationResponse
from rec_assets.serving.recommender import RankedCandidates, Recommender, Signal
from rec_assets.serving.responder import Responder

_RANKINGS, _RESPONSES, _RELATED = 32 << 20, 64 << 20, 16 << 20
"""Maximum bytes per index: rankings (shared by the lists of one page), responses, and related products of each kind."""

_MAX_RELATED = 500
"""Related products cached per product: more than a response shows, because some may be unavailable."""

FrequencyCapped = Callable[[int, int], frozenset[str]]
"""From a number of impressions and a number of days to the products that a shopper saw so often without a click, cart
or purchase."""


class RankingNeeded(Exception):
    """The response needs a ranking that is not cached. The caller should queue it."""


@dataclass(frozen=True, eq=False)
class _CachedResponder:
    """A responder for the current rules and availability, with the cache of its responses.

    Attributes:
        responder: Ranks products if needed.
        cached_only: The same, but raises `RankingNeeded` instead of ranking.
        unavailable, available: Ids of unavailable products, and (P,) which products are available.
        responses: The cache.
    """

    responder: Responder
    cached_only: Responder
    unavailable: frozenset[str]
    available: Mask
    responses: BoundedCache[RecommendationRequest, RecommendationResponse]


class Engine:
    """One loaded index, ready to respond."""

    def __init__(self, published: Published, rules: RuleSets) -> None:
        self.published = published
        recommender = Recommender.load(published.path)
        self.recommender = recommender
        self._rankings: BoundedCache[tuple[str, tuple[Signal, ...]], RankedCandidates] = BoundedCache(
            _RANKINGS, _ranking_bytes
        )
        self.use_rules(rules)
        self.zone = zoneinfo.ZoneInfo(recommender.index.metadata.get("time_zone", "UTC"))
        self.since = dt.datetime.combine(published.as_of + dt.timedelta(days=1), dt.time(), tzinfo=self.zone)
        """Start of the first day that is not in the index."""
        self.related = {
            name: _cached(recommender.snapshot, find)
            for name, find in
            (("similar", related.similar), ("complements", related.complements), ("upsell", related.upsell))
        }  # fmt: skip
        self.trending = related.trending(recommender.snapshot)
        # Warm up, so that the first requests don't compute what is cached for the engine's lifetime.
        for name in ("positions", "titles", "categories"):
            getattr(recommender, name)
        if len(recommender.snapshot):
            product = str(recommender.snapshot.product_ids[0])
            self.respond(RecommendationRequest(signals=(Signal(product, 0.5, "warm-up"),)), frozenset())

    def use_rules(self, rules: RuleSets) -> None:
        """Replace the merchandising rules."""
        responder = Responder(self.recommender, self._rank, rules)
        cached_only = copy.copy(responder)
        cached_only.rank = self._cached_ranking
        self._cached_responder = _with_availability(responder, cached_only, frozenset())

    @property
    def responder(self) -> Responder:
        """The responder with the current rules."""
        return self._cached_responder.responder

    def has_rules(self, request: RecommendationRequest) -> bool:
        """Whether the request's rule set has rules."""
        return bool(self.responder.rules_for(request))

    def exclude_frequency_capped(
        self, request: RecommendationRequest, find_capped: FrequencyCapped
    ) -> RecommendationRequest:
        """The request with frequency-capped products excluded, if its rule set has a frequency cap."""
        cap = self.responder.rules_for(request).frequency_cap
        capped = find_capped(*cap) if cap else frozenset()
        return replace(request, exclude=request.exclude | capped) if capped else request

    def showable(self, unavailable: frozenset[str]) -> Mask:
        """(P,) products that are available and that the default rules allow."""
        return self.available(unavailable) & self.responder.default_rules.visible

    def available(self, unavailable: frozenset[str]) -> Mask:
        """(P,) which products are available."""
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
        responder = current.cached_only if cached_only else current.responder
        response = responder.respond(request, current.available, np.random.default_rng())
        return response if request.exploration else current.responses.put(request, response)

    def _responder_for(self, unavailable: frozenset[str]) -> _CachedResponder:
        current = self._cached_responder
        if current.unavailable is not unavailable:
            current = self._cached_responder = _with_availability(current.responder, current.cached_only, unavailable)
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


def _with_availability(responder: Responder, cached_only: Responder, unavailable: frozenset[str]) -> _CachedResponder:
    responses: BoundedCache[RecommendationRequest, RecommendationResponse] = BoundedCache(_RESPONSES, _response_bytes)
    return _CachedResponder(responder, cached_only, unavailable, responder.available(unavailable), responses)


def _cached(
    snapshot: ProductSnapshot, find: Callable[[ProductSnapshot, int], related.Products]
) -> Callable[[int], related.Products]:
    cache: BoundedCache[int, related.Products] = BoundedCache(
        _RELATED, lambda _, products: sum(each.nbytes for each in products)
    )

    def cached(product: int) -> related.Products:
        return cache.get(product) or cache.put(product, _first(find(snapshot, product)))

    return cached


def _first(products: related.Products) -> related.Products:
    """The first _MAX_RELATED. Copies, because views would keep the full arrays in memory."""
    product, score = products
    return product[:_MAX_RELATED].copy(), score[:_MAX_RELATED].copy()


def _response_bytes(request: RecommendationRequest, response: RecommendationResponse) -> int:
    """Estimate. Ids and names are the index's own objects, so that only their slots in sets count."""
    return (
        700
        + 100 * len(request.exclude)
        + 100 * len(request.categories or ())
        + 300 * len(request.signals)
        + (800 * len(response.items))
    )


def _ranking_bytes(key: tuple[str, tuple[Signal, ...]], ranked: RankedCandidates) -> int:
    found, profile = ranked.candidates, ranked.candidates.profile
    arrays = (*vars(found.histories).values(), found.customer, found.product, found.features,
              profile.data, profile.indices, profile.indptr, ranked.score, ranked.order)  # fmt: skip
    return sum(each.nbytes for each in arrays if isinstance(each, np.ndarray)) + 300 * len(key[1]) + 500
