"""Candidates: the (customer, product) pairs worth ranking, and how each source scores them.

All that the customer bought or looked at before is a candidate, and every source proposes its best among what wasn't
bought. So the history, and any single source's own top list, can be read back from the candidates: the evaluation's
baselines are exactly that. The features a ranker sees of a pair are in `features.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from rec_assets.recsys.data.histories import Histories, build_histories
from rec_assets.recsys.data.product_snapshot import Floats, Longs, ProductSnapshot, shrunk_rate
from rec_assets.recsys.ranking.features import FEATURES, pair_features
from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.retrieval.source_scores import SourceScores, score_sources, shares
from rec_assets.recsys.retrieval.top_n import top_columns

_OF_PAIRS = ("orders", "days", "last_age", "first_age", "last_place", "is_newest", "rating")

_OF_CUSTOMERS = ("customer_orders", "customer_days", "customer_last_age", "customer_first_age", "customer_lines",
                 "customer_returns")  # fmt: skip

BLOCK = 64
"""Customers scored at once: each dense block × products array then stays at tens of megabytes."""

CANDIDATE_COLUMNS = ("customer_id", "product_id", "together_with", "similar_to", "return_rate", "complement", *FEATURES)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Candidates of n customers as arrays: c pairs, sorted by customer and product, each once.

    Attributes:
        histories: Of the customers.
        seeds: (n, P) the strongest products of the histories.
        state: What is known of the products.
        customer, product: (c,) positions.
        features: (c, len(FEATURES)).
    """

    histories: Histories
    seeds: sp.csr_matrix
    state: ProductSnapshot
    customer: Longs
    product: Longs
    features: Floats

    def together_with(self, rows: Longs) -> Longs:
        """Per row (rising) the product of the history that speaks loudest for it in the co-purchase graph, or -1."""
        return _loudest_seed(self.customer[rows], self.product[rows], self.seeds, self.state)

    def similar_to(self, rows: Longs) -> Longs:
        """Per row (rising) the product of the history whose text is nearest; -1 where content has nothing to say."""
        wanted = self.features[rows, FEATURES.index("content")] > 0
        return _nearest_seed(self.customer[rows], self.product[rows], self.seeds, self.state, wanted=wanted)

    @property
    def complement(self) -> Floats:
        """(c,) how strongly the product goes with the customer's newest order, by what is bought on one day.

        0 for what is in that order, and for all where the customer has looked at something since.
        """
        known = self.histories
        in_order = known.last_place == 0
        ordered = np.zeros(len(known.customer_ids), bool)
        ordered[known.customer[known.is_newest & in_order]] = True
        ordered[known.customer[known.is_newest & ~in_order]] = False  # a session came since
        same_basket, since = (
            self.features[:, FEATURES.index(name)] for name in ("same_basket_newest", "own_orders_since")
        )
        return np.where(ordered[self.customer] & (since != 0), same_basket, 0).astype(np.float32)

    @property
    def return_rate(self) -> Floats:
        """(c,) share of what is bought that may come back: the product's rate × the customer's over the shop's."""
        shop, known = self.state.return_share, self.histories
        of_customer = shrunk_rate(known.customer_returns, known.customer_lines, shop)[self.customer]
        return np.minimum(self.state.return_rate[self.product] * of_customer / max(shop, 1e-12), 1).astype(np.float32)


def candidates_of(histories: Histories, state: ProductSnapshot, recipe: Recipe) -> Candidates:
    """Candidates of at most BLOCK customers, with their features."""
    seeds = _seeds(histories, len(state), recipe)
    scores = score_sources(histories, seeds, state, recipe)
    customer, product = _propose(histories, scores, state, recipe)
    features = pair_features(customer, product, histories=histories, scores=scores, state=state)
    return Candidates(histories, seeds, state, customer, product, features)


def find_candidates(lines: pd.DataFrame, state: ProductSnapshot, recipe: Recipe) -> pd.DataFrame:
    """Candidates with features for the customers in `lines`.

    Args:
        lines: HISTORY_COLUMNS (`interactions.history_lines`) of the customers up to the state's day.
        state: What is known of the products on that day.
        recipe: How many candidates, which decay.

    Returns:
        One row per pair, sorted by customer and product, with CANDIDATE_COLUMNS: `together_with` is the product of
        the history that speaks loudest for the pair in the co-purchase graph ("" if none), `similar_to` the one
        whose text is nearest ("" where content did not propose the pair), `return_rate` and `complement` see
        `Candidates`, then the features, all float32.
    """
    histories = build_histories(lines, state)
    frames = [_as_frame(candidates_of(block, state, recipe)) for block in _blocks(histories)]
    if not frames:
        columns = {name: pd.Series(dtype=object if name in CANDIDATE_COLUMNS[:4] else np.float32)
                   for name in CANDIDATE_COLUMNS}  # fmt: skip
        return pd.DataFrame(columns)
    return pd.concat(frames, ignore_index=True)


def _blocks(histories: Histories) -> Iterator[Histories]:
    """Cut histories into blocks of at most BLOCK customers."""
    for first in range(0, len(histories.customer_ids), BLOCK):
        last = min(first + BLOCK, len(histories.customer_ids))
        pairs = slice(*np.searchsorted(histories.customer, [first, last]))
        lines = (histories.line_pair >= pairs.start) & (histories.line_pair < pairs.stop)
        yield Histories(
            customer_ids=histories.customer_ids[first:last],
            customer=histories.customer[pairs] - first,
            product=histories.product[pairs],
            line_pair=histories.line_pair[lines] - pairs.start,
            line_age=histories.line_age[lines],
            line_weight=histories.line_weight[lines],
            line_place=histories.line_place[lines],
            **{name: getattr(histories, name)[pairs] for name in _OF_PAIRS},
            **{name: getattr(histories, name)[first:last] for name in _OF_CUSTOMERS},
        )


def _as_frame(found: Candidates) -> pd.DataFrame:
    state, rows = found.state, np.arange(len(found.product))
    names = np.append(state.product_ids, "")
    frame = pd.DataFrame(
        {
            "customer_id": found.histories.customer_ids[found.customer],
            "product_id": state.product_ids[found.product],
            "together_with": names[found.together_with(rows)],
            "similar_to": names[found.similar_to(rows)],
            "return_rate": found.return_rate,
            "complement": found.complement,
        }
    )
    return pd.concat([frame, pd.DataFrame(found.features, columns=list(FEATURES))], axis=1)


def _seeds(histories: Histories, products: int, recipe: Recipe) -> sp.csr_matrix:
    """(n, P) the strongest products of each history, decayed, each customer's weights summing to 1."""
    sizes = recipe.candidates
    weights = histories.interest(sizes.history_half_life_days, sizes.history_order_decay)
    order = np.lexsort((histories.product, -weights, histories.customer))
    starts = np.searchsorted(histories.customer, np.arange(len(histories.customer_ids)))
    rank = np.arange(len(order)) - starts[histories.customer[order]]
    return shares(histories, np.sort(order[rank < sizes.history_products]), weights, products)


def _propose(histories: Histories, scores: SourceScores, state: ProductSnapshot, recipe: Recipe) -> tuple[Longs, Longs]:
    """Union of what the sources propose: positions (customer, product), sorted, each pair once."""
    n, products = len(histories.customer_ids), len(state)
    sizes = recipe.candidates
    bought = np.zeros((n, products), bool)
    bought[histories.customer[histories.is_bought], histories.product[histories.is_bought]] = True
    chosen = bought.copy()
    chosen[histories.customer, histories.product] = True
    lately, categories, share_in_category = state.sold_lately
    new = np.flatnonzero(state.age_days < sizes.new_days) if sizes.new else np.zeros(0, np.int64)
    text_of_new, co_purchase = state.text[new], scores.whole.co_purchase.values
    for row, (marks, leave) in enumerate(zip(chosen, bought, strict=True)):
        taste, content = scores.category_taste[row], scores.whole.content.values[row]
        of_category = taste[categories] * share_in_category
        alike = _products_of_best_texts(content, sizes.content, leave, state)
        for among, score, size in (
            (state.in_graph.products, co_purchase[row, :-1], sizes.co_purchase),
            (state.of_customers.products, scores.whole.same_customer.values[row, :-1], sizes.same_customer),
            (alike, content[state.text[alike]], sizes.content),
            (lately, of_category, sizes.category_popular),
            (new, content[text_of_new], sizes.new),
        ):
            marks[_best(among, score, size, leave)] = True
    with_factors = state.with_factors.products
    als = np.where(bought[:, with_factors], -np.inf, scores.als.values[:, :-1])  # every score counts: none is sparse
    best = top_columns(als, sizes.als)
    who, place = np.nonzero(np.take_along_axis(als, best, axis=1) > 0)
    chosen[who, with_factors[best[who, place]]] = True
    # Best sellers are the same for all: walk down the list until each customer has enough not bought. Ties go to the
    # lower id.
    longest = sizes.popular + int(bought.sum(axis=1).max(initial=0))
    for ranked in state.best_sellers:
        best = ranked[:longest]
        unbought = ~bought[:, best]
        chosen[:, best] |= unbought & (np.cumsum(unbought, axis=1) <= sizes.popular)
    customer, product = np.nonzero(chosen)
    return customer, product


def _best(products: Longs, score: Floats, size: int, leave: npt.NDArray[np.bool_]) -> Longs:
    """The `size` products with the highest positive scores that aren't to leave; ties go to the lower position.

    Args:
        products: Positions, rising.
        score: Of each.
        size: How many.
        leave: (P,) which are left out.
    """
    positive = np.flatnonzero(score > 0)  # most scores are 0, and partitioning ties is slow
    positive = positive[~leave[products[positive]]]
    if len(positive) > size:
        values = score[positive]
        least = np.partition(values, len(values) - size)[len(values) - size]
        above, tied = positive[values > least], positive[values == least]
        positive = np.concatenate([above, tied[: size - len(above)]])
    return products[positive]


def _products_of_best_texts(content: Floats, size: int, leave: npt.NDArray[np.bool_], state: ProductSnapshot) -> Longs:
    """Products (rising) with the `size` best among them, by (T + 1,) scores of texts; ties included.

    A text may stand for a hundred products, so that the texts are narrowed down first.
    """
    starts, products = state.of_text
    lengths = np.diff(starts)
    texts = state.text[np.flatnonzero(leave)]
    used_up = np.bincount(texts[texts >= 0], minlength=len(lengths)) >= lengths
    positive = np.flatnonzero((content[:-1] > 0) & ~used_up)
    if len(positive) > size:
        values = content[positive]
        positive = positive[values >= np.partition(values, len(values) - size)[len(values) - size]]
    return np.sort(products[_ranges(starts[positive], lengths[positive])])


def _loudest_seed(customer: Longs, product: Longs, seeds: sp.csr_matrix, state: ProductSnapshot) -> Longs:
    """Per pair the history product with the largest seed weight × graph weight; -1 where none points to it."""
    graph, out = state.co_purchase, np.full(len(product), -1, np.int64)
    bounds = np.searchsorted(customer, np.arange(seeds.shape[0] + 1))
    place = np.full(len(state), -1, np.int64)
    for row in range(seeds.shape[0]):
        pairs, own = slice(*bounds[row : row + 2]), slice(*seeds.indptr[row : row + 2])
        place[product[pairs]] = np.arange(pairs.stop - pairs.start)
        source = seeds.indices[own]
        fan_out = graph.indptr[source + 1] - graph.indptr[source]
        edge = _ranges(graph.indptr[source], fan_out)
        where = place[graph.indices[edge]]
        hit = where >= 0
        where, source = where[hit], np.repeat(source, fan_out)[hit]
        loudness = np.repeat(seeds.data[own], fan_out)[hit] * graph.data[edge][hit]
        loudest = np.zeros(pairs.stop - pairs.start, np.float32)
        np.maximum.at(loudest, where, loudness)
        is_loudest = loudness == loudest[where]
        # Of equal ones the last written stays: the lowest.
        out[pairs][where[is_loudest][::-1]] = source[is_loudest][::-1]
        place[product[pairs]] = -1
    return out


def _ranges(starts: Longs, lengths: Longs) -> Longs:
    """Concatenate the ranges start … start + length - 1."""
    offsets = np.repeat(starts - np.concatenate(([0], np.cumsum(lengths)[:-1])), lengths)
    return np.asarray(offsets + np.arange(int(lengths.sum())), dtype=np.int64)


def _nearest_seed(
    customer: Longs,
    product: Longs,
    seeds: sp.csr_matrix,
    state: ProductSnapshot,
    *,
    wanted: npt.NDArray[np.bool_],
) -> Longs:
    """Per wanted pair the history product with the nearest other text; -1 where not wanted or no text."""
    out = np.full(len(product), -1, np.int64)
    bounds = np.searchsorted(customer, np.arange(seeds.shape[0] + 1))
    for row in range(seeds.shape[0]):
        pairs = np.arange(bounds[row], bounds[row + 1])
        pairs = pairs[wanted[pairs] & (state.text[product[pairs]] >= 0)]
        own = seeds.indices[seeds.indptr[row] : seeds.indptr[row + 1]]
        own = own[state.text[own] >= 0]
        if not len(pairs) or not len(own):
            continue
        texts, each = np.unique(state.text[product[pairs]], return_inverse=True)
        similarity = (state.embeddings[texts] @ state.embeddings[state.text[own]].T)[each]
        similarity[product[pairs][:, None] == own[None, :]] = -np.inf
        best = similarity.argmax(axis=1)
        out[pairs] = np.where(np.isfinite(similarity[np.arange(len(pairs)), best]), own[best], -1)
    return out
