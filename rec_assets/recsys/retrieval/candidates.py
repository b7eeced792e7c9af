"""Candidates: the (customer, product) pairs to rank, with their features.

All that a customer bought or looked at is a candidate, and every candidate source proposes its best products among the
others. What a customer dismissed is none. So the history, and the list of any single source, can be read from the
candidates. The baselines of the evaluation do that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from rec_assets.recsys.arrays import Floats, Longs
from rec_assets.recsys.data.histories import Histories, build_histories
from rec_assets.recsys.data.product_snapshot import ProductSnapshot, shrunk_rate
from rec_assets.recsys.ranking.features import FEATURES, pair_features
from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.retrieval.sources import SOURCES
from rec_assets.recsys.retrieval.sources.base import CustomerBlock, ItemWeights
from rec_assets.recsys.retrieval.sources.helpers import strongest_items

BLOCK = 64
"""Customers scored at once, at most; see `block_size`."""

_BLOCK_BYTES = 1 << 26

ANCHOR_COLUMNS = {source.name: f"{source.name}_anchor" for source in SOURCES if source.has_anchor}
"""Candidate source → column with the anchor item of each candidate."""

KEY_COLUMNS = ("customer_id", "product_id", *ANCHOR_COLUMNS.values())
"""The text columns of candidates. All others are float32."""

CANDIDATE_COLUMNS = (*KEY_COLUMNS, "return_rate", "complement", *FEATURES)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Candidates of n customers as arrays: c distinct pairs, sorted by customer and product.

    Attributes:
        profile: Weights of the profile items.
        customer, product: (c,) positions.
        features: (c, len(FEATURES)).
    """

    histories: Histories
    profile: ItemWeights
    snapshot: ProductSnapshot
    customer: Longs
    product: Longs
    features: Floats

    def feature(self, name: str) -> Floats:
        """(c,) one feature."""
        return np.asarray(self.features[:, FEATURES.index(name)])

    def anchors(self, rows: Longs) -> dict[str, npt.NDArray[np.object_]]:
        """Candidate source → id of the anchor item of each candidate in `rows` (ascending); "" for none."""
        ids = self.snapshot.padded_ids
        return {source.name: ids[source.anchors(self, rows)] for source in SOURCES if source.has_anchor}

    @property
    def complement(self) -> Floats:
        """(c,) same-basket score of the product from the customer's last order.

        0 for products in that order, and for all products if the customer has looked at something since.
        """
        known = self.histories
        is_order = known.orders_since == 0
        ordered = np.zeros(len(known.customer_ids), bool)
        ordered[known.customer[known.in_last_visit & is_order]] = True
        ordered[known.customer[known.in_last_visit & ~is_order]] = False  # a session came later
        applies = ordered[self.customer] & (self.feature("repeat_orders_since") != 0)
        return np.where(applies, self.feature("same_basket_last_visit"), 0).astype(np.float32)

    @property
    def return_rate(self) -> Floats:
        """(c,) expected share of returns: the product's rate × the customer's rate / the shop's rate, at most 1."""
        shop, known = self.snapshot.shop_return_rate, self.histories
        of_customer = shrunk_rate(known.customer_returns, known.customer_lines, shop)[self.customer]
        rate = self.snapshot.return_rate[self.product] * of_customer / max(shop, 1e-12)
        return np.minimum(rate, 1).astype(np.float32)


def find_candidates(lines: pd.DataFrame, snapshot: ProductSnapshot, recipe: Recipe) -> pd.DataFrame:
    """Candidates with features for the customers in `lines`.

    `lines` are HISTORY_COLUMNS (`interactions.history_lines`) up to the day of the snapshot.

    Returns:
        CANDIDATE_COLUMNS, one row per pair, sorted by customer and product. `<source>_anchor` is the profile item that
        led the source to the product, "" for none. `return_rate` and `complement`: see `Candidates`.
    """
    histories = build_histories(lines, snapshot)
    size = block_size(len(snapshot))
    blocks = (histories.slice(first, first + size) for first in range(0, len(histories.customer_ids), size))
    frames = [_to_frame(candidates_from_histories(block, snapshot, recipe)) for block in blocks]
    if not frames:
        types = {name: object if name in KEY_COLUMNS else np.float32 for name in CANDIDATE_COLUMNS}
        return pd.DataFrame({name: pd.Series(dtype=type_) for name, type_ in types.items()})
    return pd.concat(frames, ignore_index=True)


def block_size(products: int) -> int:
    """Customers scored at once: BLOCK, or fewer, so that a dense float32 array of a block × products has 64 MB."""
    return max(1, min(BLOCK, _BLOCK_BYTES // (4 * max(products, 1))))


def candidates_from_histories(histories: Histories, snapshot: ProductSnapshot, recipe: Recipe) -> Candidates:
    """Candidates of a block of customers (`block_size`), with their features."""
    sizes, equal = recipe.candidates, histories.in_last_visit.astype(np.float32)
    decayed = histories.decayed_lines(sizes.profile_half_life_days, sizes.profile_order_decay)
    profile = strongest_items(histories, decayed, sizes.profile_items)
    last_visit = strongest_items(histories, equal, len(equal))
    block = CustomerBlock(histories, profile, last_visit, snapshot, recipe)
    pairs = [source.propose(block) for source in SOURCES]
    key = np.concatenate([customer for customer, _ in pairs]) * len(snapshot)
    key += np.concatenate([product for _, product in pairs])
    key.sort()
    is_first = np.ones(len(key), bool)
    np.not_equal(key[1:], key[:-1], out=is_first[1:])
    key = key[is_first]
    if len(histories.dismissed_customer):
        key = np.setdiff1d(key, histories.dismissed_customer * len(snapshot) + histories.dismissed_product)
    customer, product = np.divmod(key, max(len(snapshot), 1))
    return Candidates(histories, profile, snapshot, customer, product, pair_features(block, customer, product))


def _to_frame(candidates: Candidates) -> pd.DataFrame:
    snapshot, rows = candidates.snapshot, np.arange(len(candidates.product))
    frame = pd.DataFrame(
        {
            "customer_id": candidates.histories.customer_ids[candidates.customer],
            "product_id": snapshot.product_ids[candidates.product],
            **{ANCHOR_COLUMNS[source]: ids for source, ids in candidates.anchors(rows).items()},
            "return_rate": candidates.return_rate,
            "complement": candidates.complement,
        }
    )
    return pd.concat([frame, pd.DataFrame(candidates.features, columns=list(FEATURES))], axis=1)
