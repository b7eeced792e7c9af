"""The recipe: every hyper-parameter of the science, with its meaning. No paths, no infrastructure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class AlsRecipe(BaseModel):
    """Alternating least squares on time-decayed purchases (Hu, Koren, Volinsky 2008)."""

    model_config = ConfigDict(frozen=True)

    rank: int = Field(48, ge=1, description="Length of a factor vector.")
    iterations: int = Field(6, ge=1, description="Alternations; each solves all products, then all customers.")
    solver: Literal["spark", "implicit"] = Field(
        "spark", description="Spark ML, on any cluster; or the library implicit, on one machine and far sooner."
    )
    regularization: float = Field(0.02, gt=0, description="λ of Spark's solver, scaled by the number of entries.")
    implicit_regularization: float = Field(20.0, gt=0, description="λ of the solver implicit, not scaled.")
    alpha: float = Field(4.0, gt=0, description="Confidence gained per decayed order: c = 1 + α·r.")
    half_life_days: float = Field(20.0, gt=0, description="Age at which an order counts half.")
    min_buyers: int = Field(5, ge=1, description="Products with fewer buyers get no factors (too little to learn).")

    def ridge(self, entries: int) -> float:
        """What is added to the diagonal of the system of a customer, or product, with so many entries."""
        return self.implicit_regularization if self.solver == "implicit" else self.regularization * entries


class CoPurchaseRecipe(BaseModel):
    """Product-to-product weights from shared shopping days, orders that follow one another, and shared customers."""

    model_config = ConfigDict(frozen=True)

    half_life_days: float = Field(180.0, gt=0, description="Age at which a basket counts half.")
    neighbors: int = Field(60, ge=1, description="Strongest neighbors kept per product and kind.")
    min_support: int = Field(3, ge=1, description="Pairs seen in fewer baskets than this are noise.")
    max_basket: int = Field(100, ge=2, description="Products of a basket beyond this many are not paired.")
    popularity_damping: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Exponent on the neighbor's popularity: 0 favors best sellers, 1 rare ones.",
    )
    anchor_damping: float = Field(
        1.0, ge=0, le=1, description="Exponent on the product's own popularity: 1 makes its weights shares."
    )
    next_orders: int = Field(1, ge=1, description="An order is followed by so many of the customer's next ones.")
    next_decay: float = Field(0.7, gt=0, le=1, description="What each order in between leaves of the weight.")
    ease_products: int = Field(
        4000, ge=0, description="Products with most buyers that EASE learns; n² numbers in memory, n³ steps; 0: none."
    )
    ease_regularization: float = Field(1000.0, gt=0, description="λ of EASE.")
    ease_neighbors: int = Field(300, ge=1, description="Strongest products that speak for each one in EASE.")


class CandidateRecipe(BaseModel):
    """How many products each source proposes per customer, on top of all that the customer bought before."""

    model_config = ConfigDict(frozen=True)

    als: int = Field(120, ge=1)
    co_purchase: int = Field(120, ge=1)
    same_customer: int = Field(100, ge=1)
    content: int = Field(50, ge=1)
    popular: int = Field(120, ge=1, description="Recent best sellers; also what fills a list no other source can.")
    category_popular: int = Field(60, ge=1)
    new: int = Field(20, ge=0, description="Products first seen in the last `new_days`, by text similarity.")
    new_days: int = Field(28, ge=1)
    recent_days: int = Field(14, ge=1, description="What counts as recent for recent popularity.")
    own_half_life_days: float = Field(120.0, gt=0, description="Decay of what was bought, and of its categories.")
    history_half_life_days: float = Field(60.0, gt=0, description="Decay of the history that seeks neighbors.")
    history_order_decay: float = Field(
        1.0, gt=0, le=1, description="What each later order of the customer leaves of an order's weight there."
    )
    history_products: int = Field(150, ge=1, description="Strongest products of a history that seek neighbors.")


class RankerRecipe(BaseModel):
    """Gradient-boosted trees over the candidates' features (XGBoost, Chen & Guestrin 2016)."""

    model_config = ConfigDict(frozen=True)

    rounds: int = Field(300, ge=1)
    learning_rate: float = Field(0.04, gt=0)
    max_depth: int = Field(5, ge=1)
    min_child_weight: float = Field(60.0, ge=0)
    subsample: float = Field(0.8, gt=0, le=1)
    column_sample: float = Field(0.4, gt=0, le=1)
    l2: float = Field(10.0, ge=0)
    negatives: float = Field(0.3, gt=0, le=1, description="Share of the candidates not bought that training sees.")
    customers: int = Field(20_000, ge=1, description="Customers that training sees at most, a fixed sample.")


class Recipe(BaseModel):
    """Everything that decides what the models learn. Logged with every MLflow run."""

    model_config = ConfigDict(frozen=True)

    als: AlsRecipe = AlsRecipe()
    co_purchase: CoPurchaseRecipe = CoPurchaseRecipe()
    candidates: CandidateRecipe = CandidateRecipe()
    ranker: RankerRecipe = RankerRecipe()
    list_size: int = Field(100, ge=1, description="Length of each customer's lists.")
    neighbors: int = Field(20, ge=1, description="Substitutes and complements listed per product.")
    seed: int = Field(7, description="Seeds everything random.")

    @classmethod
    def stored(cls, values: Mapping[str, Any]) -> Recipe:
        """A recipe that was once written down: what is unknown by now is left out, what is new has its default.

        Raises:
            ValueError: a value is not allowed any more; names it, in one line.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            wrong = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
            raise ValueError("; ".join(wrong)) from None

    def fields(self) -> dict[str, Any]:
        """Every hyper-parameter by its dotted name, such as `als.rank`."""
        return _dotted(self)

    def chosen_fields(self) -> dict[str, Any]:
        """Those that were given when this was made; the others stand at their defaults."""
        return _dotted(self, only_set=True)

    def with_fields(self, values: Mapping[str, Any]) -> Recipe:
        """A copy with other values, given by their dotted names.

        Raises:
            ValueError: no hyper-parameter has that name, or it can't have that value.
        """
        merged = self.model_dump()
        for name, value in values.items():
            if name not in self.fields():
                raise ValueError(f"no hyper-parameter is named {name!r}")
            part = merged
            *parents, leaf = name.split(".")
            for parent in parents:
                part = part[parent]
            part[leaf] = value
        return Recipe.model_validate(merged)


def _dotted(part: BaseModel, prefix: str = "", *, only_set: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in type(part).model_fields:
        if only_set and name not in part.model_fields_set:
            continue
        value = getattr(part, name)
        if isinstance(value, BaseModel):
            found |= _dotted(value, f"{prefix}{name}.", only_set=only_set)
        else:
            found[prefix + name] = value
    return found
