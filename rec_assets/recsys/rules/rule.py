"""The base class of all rule kinds, and how a rule selects products."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field, model_validator

from rec_assets.recsys.arrays import Mask
from rec_assets.recsys.data.attributes import Conditions, Range
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.rules.effects import Effect
from rec_assets.yaml_file import Name, StrictModel

ProductFiles = Mapping[str, pd.Series]
"""CSV file named in a rule → its column `value` by product_id; 1 if the file has no such column."""

Share = Annotated[float, Field(gt=0, le=1)]


class ProductSelection(StrictModel):
    """The products that at least one of these fields names."""

    ids: tuple[str, ...] = ()
    file: str | None = Field(None, description="CSV file with the column product_id, relative to the YAML file.")
    categories: tuple[str, ...] = ()
    brands: tuple[str, ...] = ()
    attributes: Conditions = Field({}, description="Attribute → values or range; a product must meet all of them.")
    slow_movers: Share | None = Field(
        None, description="The worst sellers that together have at most this share of the lookback's order lines."
    )

    @model_validator(mode="after")
    def _selects_something(self) -> ProductSelection:
        if not any(getattr(self, name) for name in type(self).model_fields):
            raise ValueError(f"selects no products: set one of {', '.join(type(self).model_fields)}")
        return self

    def mask(self, snapshot: ProductSnapshot, files: ProductFiles) -> Mask:
        """(P,) whether each product of the snapshot is selected."""
        product_ids = pd.Index(snapshot.product_ids)
        mask = product_ids.isin(self.ids) if self.ids else np.full(len(snapshot), False)
        if self.file is not None:
            mask |= product_ids.isin(files[self.file].index)
        if self.categories:
            mask |= pd.Index(snapshot.categories).isin(self.categories)[snapshot.category]
        if self.brands:
            mask |= pd.Index(snapshot.brands).isin(self.brands)[snapshot.brand]
        if self.attributes:
            mask |= snapshot.attributes.mask(self.attributes.items())
        if self.slow_movers is not None:
            worst_first = np.argsort(snapshot.order_lines, kind="stable")
            sold = np.cumsum(snapshot.order_lines[worst_first], dtype=np.float64)
            mask[worst_first[sold <= self.slow_movers * sold.max(initial=0)]] = True
        return mask


class MerchandisingRule(StrictModel, ABC):
    """One rule of a rule set. Each kind is a subclass with a literal `kind`, its fields and `compile`."""

    action: ClassVar[str] = "moved"
    """Starts the message of an item that the rule raised: "<action> by rule <name>"."""
    unique: ClassVar[tuple[str, ...]] = ()
    """Fields whose value only one rule of this kind can have in a rule set; ("kind",) allows one rule of the kind."""
    needs_values: ClassVar[bool] = False
    """Whether the CSV file must have the column `value`."""

    name: Name
    kind: str

    @property
    def selection(self) -> ProductSelection | None:
        """The field `products`, if the kind has one."""
        products = getattr(self, "products", None)
        return products if isinstance(products, ProductSelection) else None

    @property
    def file(self) -> str | None:
        """The CSV file that the rule needs."""
        return self.selection.file if self.selection else None

    @abstractmethod
    def compile(self, snapshot: ProductSnapshot, files: ProductFiles) -> Effect | None:
        """The rule as arrays over P products; None without effect. The snapshot can lack factors, edges and texts."""

    def references(self, snapshot: ProductSnapshot) -> dict[str, tuple[list[Any], npt.NDArray[Any]]]:
        """Type of name, such as "brand" → the names in the rule, and the names that the snapshot knows."""
        if self.selection is None:
            return {}
        attributes = self.selection.attributes
        values = {
            name: (list(condition), snapshot.attributes.values(name))
            for name, condition in attributes.items()
            if not isinstance(condition, Range)
        }
        return {
            **values,
            "attribute": (list(attributes), np.array(snapshot.attributes.names, object)),
            "category": (list(self.selection.categories), snapshot.categories),
            "brand": (list(self.selection.brands), snapshot.brands),
            "product": (list(self.selection.ids), snapshot.product_ids),
        }
