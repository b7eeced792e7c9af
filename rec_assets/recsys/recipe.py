"""The recipe: all hyper-parameters of the models, with their meaning. Paths and infrastructure belong in settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class AlsRecipe(_Frozen):
    """Alternating least squares on time-decayed purchases (Hu, Koren, Volinsky 2008)."""

    rank: int = Field(48, ge=1, description="Length of a factor vector.")
    iterations: int = Field(6, ge=1, description="Alternations. Each solves for all products, then for all customers.")
    solver: Literal["spark", "implicit"] = Field(
        "spark", description="`spark`: Spark ML, on any cluster. `implicit`: that library, on one machine, faster."
    )
    regularization: float = Field(0.02, gt=0, description="λ of the solver `spark`, scaled by the number of entries.")
    implicit_regularization: float = Field(20.0, gt=0, description="λ of the solver `implicit`, not scaled.")
    alpha: float = Field(4.0, gt=0, description="Confidence gained per decayed interaction: c = 1 + α·r.")
    half_life_days: float = Field(20.0, gt=0, description="Age at which an interaction counts half.")
    min_buyers: int = Field(5, ge=1, description="Products with fewer buyers get no factors.")

    def ridge(self, entries: int) -> float:
        """Value added to the diagonal of the system of a customer, or product, with this number of entries."""
        return self.implicit_regularization if self.solver == "implicit" else self.regularization * entries


class CoPurchaseRecipe(_Frozen):
    """Product-to-product weights from shared shopping days, from consecutive orders, and from shared customers."""

    half_life_days: float = Field(180.0, gt=0, description="Age at which a basket counts half.")
    neighbors: int = Field(60, ge=1, description="Strongest neighbors kept per product and kind.")
    min_support: int = Field(3, ge=1, description="Pairs seen in fewer baskets than this are dropped as noise.")
    max_basket: int = Field(100, ge=2, description="Further products of a larger basket are not paired.")
    popularity_damping: float = Field(
        0.5, ge=0, le=1, description="Exponent on the neighbor's popularity: 0 favors best sellers, 1 rare products."
    )
    anchor_damping: float = Field(
        1.0, ge=0, le=1, description="Exponent on the product's own popularity: 1 makes its weights shares."
    )
    next_orders: int = Field(1, ge=1, description="Number of following orders that an order is paired with.")
    next_decay: float = Field(0.7, gt=0, le=1, description="Factor on the weight for each order in between.")
    ease_products: int = Field(
        4000, ge=0, description="Products with most buyers that EASE covers: n² numbers, n³ steps. 0 turns EASE off."
    )
    ease_regularization: float = Field(1000.0, gt=0, description="λ of EASE.")
    ease_neighbors: int = Field(300, ge=1, description="Strongest EASE weights kept to each product.")


class CandidateRecipe(_Frozen):
    """Candidates per source and customer, besides the products of the history; windows and half-lives of scores."""

    als: int = Field(120, ge=1, description="Candidates from ALS.")
    co_purchase: int = Field(120, ge=1, description="Candidates from same basket and next basket.")
    ease: int = Field(100, ge=1, description="Candidates from EASE.")
    text: int = Field(50, ge=1, description="Candidates from text similarity.")
    popular: int = Field(
        120, ge=1, description="Best sellers: this many recent and this many overall. They fill short lists."
    )
    category_popular: int = Field(60, ge=1, description="Best sellers of the customer's categories.")
    new: int = Field(20, ge=0, description="Products first seen in the last `new_days`, by text similarity.")
    new_days: int = Field(28, ge=1, description="Days for which a product counts as new.")
    recent_days: int = Field(
        14, ge=1, description="Days that count as recent. The value of the settings counts, not that of the release."
    )
    repeat_half_life_days: float = Field(
        120.0, gt=0, description="Half-life for repeat purchase and category popularity."
    )
    profile_half_life_days: float = Field(60.0, gt=0, description="Half-life of a history line in the profile.")
    profile_order_decay: float = Field(
        1.0, gt=0, le=1, description="Factor on the weight of a line for each later order of the customer."
    )
    profile_items: int = Field(150, ge=1, description="Strongest products of a history that sources start from.")


class RankerRecipe(_Frozen):
    """Gradient-boosted trees over the candidates' features (XGBoost, Chen & Guestrin 2016)."""

    rounds: int = Field(300, ge=1, description="Number of trees.")
    learning_rate: float = Field(0.04, gt=0, description="Shrinkage of each tree.")
    max_depth: int = Field(5, ge=1, description="Depth of a tree.")
    min_child_weight: float = Field(60.0, ge=0, description="Least sum of Hessians in a leaf.")
    subsample: float = Field(0.8, gt=0, le=1, description="Share of rows per tree.")
    column_sample: float = Field(0.4, gt=0, le=1, description="Share of features per tree.")
    l2: float = Field(10.0, ge=0, description="L2 regularization of leaf weights.")
    negatives: float = Field(0.3, gt=0, le=1, description="Share of the candidates not bought that training uses.")
    customers: int = Field(10_000, ge=1, description="Maximum number of customers in training; a fixed sample.")


class Recipe(_Frozen):
    """All hyper-parameters of the models. A release contains them; the MLflow run of a model has those of the model."""

    als: AlsRecipe = AlsRecipe()
    co_purchase: CoPurchaseRecipe = CoPurchaseRecipe()
    candidates: CandidateRecipe = CandidateRecipe()
    ranker: RankerRecipe = RankerRecipe()
    list_size: int = Field(100, ge=1, description="Length of each customer's lists.")
    neighbors: int = Field(20, ge=1, description="Substitutes and complements listed per product.")
    seed: int = Field(7, description="Seed of all random numbers.")

    @classmethod
    def from_stored(cls, values: Mapping[str, Any]) -> Recipe:
        """A recipe that an earlier version may have stored. Unknown fields are ignored, missing ones get defaults.

        Raises:
            ValueError: a value is not allowed any more. The message names it, in one line.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            wrong = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
            raise ValueError("; ".join(wrong)) from None

    def fields(self) -> dict[str, Any]:
        """All hyper-parameters by their dotted names, such as `als.rank`."""
        return _dotted(self.model_dump())

    def chosen_fields(self) -> dict[str, Any]:
        """The fields that were given explicitly; the others have their defaults."""
        return _dotted(self.model_dump(exclude_unset=True))

    def with_fields(self, values: Mapping[str, Any]) -> Recipe:
        """A copy with other values, by their dotted names.

        Raises:
            ValueError: a name is unknown, or a value is not allowed.
        """
        merged = self.model_dump()
        for name, value in values.items():
            if name not in self.fields():
                raise ValueError(f"no hyper-parameter is named {name!r}")
            part, _, leaf = name.rpartition(".")
            (merged[part] if part else merged)[leaf] = value
        return Recipe.model_validate(merged)


def _dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    dotted: dict[str, Any] = {}
    for name, value in values.items():
        dotted |= _dotted(value, f"{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return dotted
