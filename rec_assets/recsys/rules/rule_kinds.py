"""All rule kinds. To add one, see `docs/how-to/add-a-merchandising-rule.md`."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field, model_validator

from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.rules.effects import (
    BLOCK_SIZE,
    Boost,
    Cap,
    Complements,
    Effect,
    FrequencyCap,
    Hide,
    Pin,
    ScoreFactor,
)
from rec_assets.recsys.rules.rule import MerchandisingRule, ProductFiles, ProductSelection


class ExcludeRule(MerchandisingRule):
    """Never show the selected products."""

    kind: Literal["exclude"]
    products: ProductSelection

    def compile(self, snapshot: ProductSnapshot, files: ProductFiles) -> Effect:
        """See the base class."""
        return Hide(self.products.mask(snapshot, files))


class MinPriceRule(MerchandisingRule):
    """Never show products that cost less than `price` or have no known price."""

    kind: Literal["min_price"]
    price: float = Field(gt=0, description="In the shop's currency.")

    def compile(self, snapshot: ProductSnapshot, files: ProductFiles) -> Effect:
        """See the base class."""
        return Hide(~(snapshot.price >= self.price))  # not `<`: the price can be NaN


class FrequencyCapRule(MerchandisingRule):
    """Hide a product from a customer who saw it often and neither clicked it nor put it into the cart."""

    unique = ("kind",)

    kind: Literal["frequency_cap"]
    max_impressions: int = Field(ge=1, description="Impressions from which the product is hidden.")
    days: int = Field(7, ge=1, le=30, description="Days in which impressions count.")

    def compile(self, snapshot: ProductSnapshot, files: ProductFiles) -> Effect:
        """See the base class."""
        return FrequencyCap(self.max_impressions, self.days)


class WeightRule(MerchandisingRule):
    """Multiply scores by (value / median value) ** strength, for example to prefer products with a high margin."""

    action = "raised"
    needs_values = True

    kind: Literal["weight"]
    value_file: str | None = Field(
        None, description="CSV file with the columns product_id and value, such as the margin; default: the price."
    )
    attribute: str | None = Field(None, description="Attribute with a number, instead of a CSV file.")
    strength: float = Field(0.5, gt=0, le=2)

    @model_validator(mode="after")
    def _has_one_value(self) -> WeightRule:
        if self.value_file is not None and self.attribute is not None:
            raise ValueError("set value_file or attribute, not both")
        return self

    @property
    def file(self) -> str | None:
        """See the base class."""
        return self.value_file

    def compile(self, snapshot: ProductSnapshot, files: ProductFiles) -> Effect:
        """See the base class. Products without a value have the factor 1."""
        if self.attribute is not None:
            value = snapshot.attributes.numbers(self.attribute)
        elif self.value_file is None:
            value = np.asarray(snapshot.price, np.float64)
        else:
            value = files[self.value_file].reindex(snapshot.product_ids).to_numpy(np.float64)
        known, factor = np.isfinite(value) & (value > 0), np.ones(len(snapshot))
        if known.any():
            factor[known] = (value[known] / np.median(value[known])) ** self.strength
        return ScoreFactor(factor.astype(np.float32))

    def references(self, snapshot: ProductSnapshot) -> dict[str, tuple[list[Any], npt.NDArray[Any]]]:
        """See the base class."""
        names = np.array(snapshot.attributes.names, object)
        return {} if self.attribute is None else {"attribute": ([self.attribute], names)}


class ReturnsPenaltyRule(MerchandisingRule):
    """Lower the scores of products that the customer is likely to return."""

    action = "raised"
    unique = ("kind",)

    kind: Literal["returns_penalty"]
    cost: float = Field(0.5, gt=0, le=2, description="Cost of a return, as a share of the price.")

    def compile(self, snapshot: ProductSnapshot, files: ProductFiles) -> Effect:
        """See the base class."""
        return ScoreFactor(np.ones(len(snapshot), np.float32), self.cost)


class ComplementsFirstRule(MerchandisingRule):
    """After a purchase, put the products first that customers buy together with it."""

    action = "put first"
    unique = ("kind",)

    kind: Literal["complements_first"]
    days: int = Field(7, ge=0, le=90, description="Days after the purchase.")
    slots: int = Field(3, ge=1, le=BLOCK_SIZE)

    def compile(self, snapshot: ProductSnapshot, files: ProductFiles) -> Effect:
        """See the base class."""
        return Complements(self.days, self.slots)


class CapRule(MerchandisingRule):
    """Show at most `max_items` products of one brand, category or attribute value in each block of ten.

    If there are too few others, it shows more.
    """

    kind: Literal["cap"]
    per: str = Field(min_length=1, description="brand, category or the name of an attribute.")
    max_items: int = Field(ge=1, le=BLOCK_SIZE)

    def compile(self, snapshot: ProductSnapshot, files: ProductFiles) -> Effect:
        """See the base class."""
        known = {"brand": lambda: snapshot.known_brand, "category": lambda: snapshot.known_category}
        group = known[self.per]() if self.per in known else snapshot.attributes.groups(self.per)
        return Cap(group, self.max_items)

    def references(self, snapshot: ProductSnapshot) -> dict[str, tuple[list[Any], npt.NDArray[Any]]]:
        """See the base class."""
        return {"attribute": ([self.per], np.array(["brand", "category", *snapshot.attributes.names], object))}


class BoostRule(MerchandisingRule):
    """Give the selected products some positions of each block of ten, if that costs little expected relevance."""

    action = "boosted"

    kind: Literal["boost"]
    products: ProductSelection
    slots: int = Field(ge=1, le=BLOCK_SIZE, description="Positions in each block of ten.")
    max_dcg_loss: float = Field(
        0.03, ge=0, le=1, description="Share of the expected DCG of each block that the rule can cost."
    )

    def compile(self, snapshot: ProductSnapshot, files: ProductFiles) -> Effect:
        """See the base class. The weight of slow movers is 1 / √(order lines + 1), so that others enter, too."""
        weight = 1.0 if self.products.slow_movers is None else 1 / np.sqrt(snapshot.order_lines + 1)
        chosen = self.products.mask(snapshot, files)
        return Boost(np.where(chosen, weight, 0).astype(np.float32), self.slots, self.max_dcg_loss)


class PinRule(MerchandisingRule):
    """Show one product at a fixed rank to every customer."""

    action = "pinned"
    unique = ("rank", "product_id")

    kind: Literal["pin"]
    product_id: str = Field(min_length=1)
    rank: int = Field(ge=1, le=100)

    def compile(self, snapshot: ProductSnapshot, files: ProductFiles) -> Effect | None:
        """See the base class."""
        product = int(pd.Index(snapshot.product_ids).get_indexer(pd.Index([self.product_id]))[0])
        return Pin(product, self.rank - 1) if product >= 0 else None

    def references(self, snapshot: ProductSnapshot) -> dict[str, tuple[list[Any], npt.NDArray[Any]]]:
        """See the base class."""
        return {"product": ([self.product_id], snapshot.product_ids)}


RULE_KINDS: tuple[type[MerchandisingRule], ...] = (
    ExcludeRule,
    MinPriceRule,
    FrequencyCapRule,
    WeightRule,
    ReturnsPenaltyRule,
    ComplementsFirstRule,
    CapRule,
    BoostRule,
    PinRule,
)
