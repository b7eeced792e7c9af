"""Types of a recommendation: the request, its items, and the response."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rec_assets.recsys.data.attributes import NamedCondition, Value
from rec_assets.recsys.ranking.lists import ALL
from rec_assets.recsys.rules.rules_file import NO_RULE_SET
from rec_assets.serving.recommender import Signal

BUY_AGAIN = "buy_again"
"""A mode besides the lists ALL and DISCOVER: only products that the customer bought in the lookback or since."""

CUSTOMER, SESSION, HOLDOUT = "customer", "session", "holdout"
POPULAR, POPULAR_IN_CATEGORY = "popular", "popular_in_category"
"""`answered_by`: based on the history, the session, best sellers (of a category); empty for an experiment's holdout."""

POOL_FACTOR = 5
"""With diversity or randomization, the k items are chosen from the best POOL_FACTOR times k products."""


@dataclass(frozen=True)
class RecommendationRequest:
    """Parameters of one recommendation request.

    Attributes:
        k: Number of items.
        customer_id: "" for an unknown customer.
        signals: The shopper's events after the as-of day of the index, oldest first.
        mode: "all", "discover" (nothing bought in the lookback or since) or "buy_again" (only such products).
        categories, brands: Only these; None: all.
        attributes: Conditions on attributes, all of which must be met.
        price_min, price_max: Price range. With either, products without a price are left out.
        exclude: Product ids to leave out.
        fallback_category: Category of the best sellers for an unknown customer.
        diversity: 0 to 1: penalty for items that are similar to an earlier one.
        exploration: 0 to 1: degree of randomization of the order.
        rules: Name of the rule set.
    """

    k: int = 10
    customer_id: str = ""
    signals: tuple[Signal, ...] = ()
    mode: str = ALL
    categories: frozenset[str] | None = None
    brands: frozenset[str] | None = None
    attributes: tuple[NamedCondition, ...] = ()
    price_min: float | None = None
    price_max: float | None = None
    exclude: frozenset[str] = frozenset()
    fallback_category: str | None = None
    diversity: float = 0.0
    exploration: float = 0.0
    rules: str = NO_RULE_SET

    @property
    def pool(self) -> int:
        """Number of products that the items are chosen from."""
        return POOL_FACTOR * self.k if self.diversity or self.exploration else self.k

    @property
    def is_filtered(self) -> bool:
        """Whether the request leaves out some products."""
        named = self.categories, self.brands, self.price_min, self.price_max
        return bool(self.exclude or self.attributes) or any(each is not None for each in named)


@dataclass(frozen=True)
class RecommendedItem:
    """One product of a response.

    Attributes:
        variant_id: The variant to show; None if the product has none.
        image, link: URLs; None if unknown.
        price: None if unknown.
        attributes: Those of the product, and of the variant.
        score: Comparable within a response and source.
        source: The candidate source that contributed most, "best_sellers", or "pinned" by a rule alone.
        reason: The source as a sentence for the shopper.
        rule: Text of the merchandising rule that raised or pinned the item; else None.
        propensity: Probability of this item at this rank, given the items above: 1 without randomization, None if
            unknown.
    """

    product_id: str
    score: float
    source: str
    reason: str
    title: str
    category: str
    brand: str
    price: float | None
    variant_id: str | None = None
    image: str | None = None
    link: str | None = None
    attributes: Mapping[str, Value] = field(default_factory=dict)
    rule: str | None = None
    propensity: float | None = 1.0


@dataclass(frozen=True)
class RecommendationResponse:
    """Items, best first, and what they are based on: CUSTOMER, SESSION, POPULAR, …."""

    items: list[RecommendedItem]
    answered_by: str
