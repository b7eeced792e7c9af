"""The interface of candidate sources. A source scores products, proposes candidates, adds features and gives reasons.

Each source has a module of its own in this package. Helpers that several sources share belong in `helpers.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from rec_assets.recsys.arrays import Floats, Ints, Longs, Mask
from rec_assets.recsys.data.histories import Histories
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.recipe import Recipe

if TYPE_CHECKING:
    from rec_assets.recsys.retrieval.candidates import Candidates

Scores = TypeVar("Scores")

Pairs = tuple[Longs, Longs]
"""Positions of customers and of products, of equal length."""

FeatureValues = dict[str, npt.NDArray[Any]]
"""Feature → (pairs,) values; NaN = unknown."""

NO_PAIRS: Pairs = (np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True, eq=False)
class ItemWeights:
    """Weights of some products of n customers, N in total. Each customer's sum to 1.

    Attributes:
        starts: (n + 1,) start of each customer in the other arrays, and N.
        items: (N,) positions of the products, ascending for each customer.
        weights: (N,)
    """

    starts: Ints
    items: Ints
    weights: Floats

    def matrix(self, products: int) -> sp.csr_matrix:
        """The weights as a matrix (n, products)."""
        return sp.csr_matrix((self.weights, self.items, self.starts), shape=(len(self.starts) - 1, products))


@dataclass(frozen=True, eq=False)
class CustomerBlock:
    """n customers that are scored together, with the data that sources read.

    Attributes:
        profile: Weights of each customer's profile items.
        last_visit: Equal weights of the products in the last visit, an order or a later session.
    """

    histories: Histories
    profile: ItemWeights
    last_visit: ItemWeights
    snapshot: ProductSnapshot
    recipe: Recipe
    _scores: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.histories.customer_ids)

    @cached_property
    def bought(self) -> Mask:
        """(n, P) whether the customer bought the product before."""
        bought, histories = np.zeros((len(self), len(self.snapshot)), bool), self.histories
        bought[histories.customer[histories.is_bought], histories.product[histories.is_bought]] = True
        return bought

    def scores(self, source: CandidateSource[Scores]) -> Scores:
        """The scores of a source for this block, computed once."""
        if source.name not in self._scores:
            self._scores[source.name] = source.score(self)
        scores: Scores = self._scores[source.name]
        return scores


@dataclass(frozen=True)
class Baseline:
    """Lists ranked by a single source, which the evaluation compares the recommender with.

    Attributes:
        name: As reports show it.
        description: One sentence for the reader of a report.
        columns: Columns of the candidates. Their sum is the score.
        popular_by: Column of `product_statistics` that ranks products for customers without a history. None: the
            baseline shows them nothing.
    """

    name: str
    description: str
    columns: tuple[str, ...]
    popular_by: str | None = None


@dataclass(frozen=True, eq=False)
class ListItems:
    """Items of recommendation lists, as columns, with the data for their reasons.

    Attributes:
        product_ids: (items,).
        features: Feature → (items,) values.
        anchors: Source → (items,) ids of the profile items that led to the candidates; "" for none.
        titles, categories: product_id → title, category.
    """

    product_ids: npt.NDArray[np.object_]
    features: Mapping[str, Floats]
    anchors: Mapping[str, npt.NDArray[np.object_]]
    titles: Mapping[str, str]
    categories: Mapping[str, str]

    def category(self, row: int) -> str | None:
        """Category of the item, if it has one."""
        return self.categories.get(self.product_ids[row]) or None


class FeatureGroup:
    """Features that are computed together and whose contributions to a score are added up.

    Attributes:
        name: Name of the group in contributions, in the ablation and, for a source, in `source` of a list item.
        features: Names of the feature columns, in order.
    """

    name: ClassVar[str]
    features: ClassVar[tuple[str, ...]] = ()

    def compute_features(self, block: CustomerBlock, customer: Longs, product: Longs) -> FeatureValues:
        """The features of the pairs (customer[i], product[i])."""
        return {}


class CandidateSource(FeatureGroup, ABC, Generic[Scores]):
    """A candidate source. It has no state: `score` makes everything that `propose` and `compute_features` need.

    Attributes:
        default_size: Candidates proposed per customer, unless the recipe has a field `candidates.<name>`.
        sentence: The reason that customers read. `{anchor}` becomes the title of the anchor item. A source without
            features, or with its own `reason`, needs none.
        blend_weights: Features, and the log-odds that one unit of each adds in the fixed blend.
        baselines: Lists of this source alone, for the evaluation.
        has_anchor: Whether candidates are found by way of a profile item. The candidates then have a column
            `<name>_anchor`.
    """

    default_size: ClassVar[int] = 0
    sentence: ClassVar[str]
    blend_weights: ClassVar[tuple[tuple[str, float], ...]] = ()
    baselines: ClassVar[tuple[Baseline, ...]] = ()
    has_anchor: ClassVar[bool] = False

    def size(self, recipe: Recipe) -> int:
        """Number of candidates that the source proposes per customer."""
        return int(getattr(recipe.candidates, self.name, self.default_size))

    @abstractmethod
    def score(self, block: CustomerBlock) -> Scores:
        """Score the products for the customers of a block. Read the result with `block.scores(self)`."""

    def propose(self, block: CustomerBlock) -> Pairs:
        """The candidates: usually the `size` best products that each customer has not bought yet."""
        return NO_PAIRS

    def anchors(self, candidates: Candidates, rows: Longs) -> Longs:
        """Position of the anchor item of each candidate in `rows` (ascending); -1 for none."""
        return np.full(len(rows), -1, np.int64)

    def explains(self, items: ListItems) -> Mask:
        """(items,) whether it can be the reason: with `has_anchor`, by an anchor item; else, by its first feature."""
        if self.has_anchor:
            return np.asarray(items.anchors[self.name] != "", bool)
        return np.asarray(items.features[self.features[0]] > 0, bool)

    def reason(self, items: ListItems, row: int) -> str:
        """The reason for one item."""
        if not self.has_anchor:
            return self.sentence
        product_id = items.anchors[self.name][row]
        return self.sentence.format(anchor=items.titles.get(product_id) or f"product {product_id}")
