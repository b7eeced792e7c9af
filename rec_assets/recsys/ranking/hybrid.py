"""Hybrid lists: candidates ranked by the learned blend, in two lists per customer, each entry with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from rec_assets.recsys.data.product_snapshot import Floats, recent_buyers
from rec_assets.recsys.ranking.features import FEATURE_GROUPS, FEATURES, feature_matrix
from rec_assets.recsys.ranking.ranker import Ranker
from rec_assets.recsys.rules.compiled import CompiledRules
from rec_assets.recsys.rules.rerank import ScoredCandidates, rerank

ALL, DISCOVER = "all", "discover"
LISTS = (ALL, DISCOVER)

LIST_COLUMNS = ("customer_id", "list", "rank", "product_id", "score", "source", "reason", "rule")

PINNED, WHY_PINNED = "pinned", "a pick of the shop"
"""Source and reason of what a rule puts in front of somebody for whom it is no candidate."""


def make_lists(
    candidates: pd.DataFrame,
    ranker: Ranker,
    titles: Mapping[str, str],
    categories: Mapping[str, str],
    size: int,
    book: CompiledRules | None = None,
) -> pd.DataFrame:
    """Rank candidates.

    Args:
        candidates: As `find_candidates` gives them.
        ranker: Scores them.
        titles: product_id → name, for reasons.
        categories: product_id → category, for reasons.
        size: Length of a list.
        book: Rules that the lists keep to.

    Returns:
        LIST_COLUMNS, sorted by customer, list and rank: list "all" has the best candidates, "discover" the best of
        those the customer never bought; `source` is the feature group that speaks for the entry,
        `reason` says it in words (`explain`), `rule` which rule put it there, None where none did.
    """
    scored = score_candidates(candidates, ranker)
    arranged = arrange_lists(scored, size, book)
    chosen = scored.loc[np.unique(arranged["row"][arranged["row"] >= 0])]  # what both lists show has one reason
    sources, reasons = explain(
        chosen["product_id"].to_numpy(),
        feature_matrix(chosen, ranker.features),
        ranker,
        together_with=chosen["together_with"].to_numpy(),
        similar_to=chosen["similar_to"].to_numpy(),
        titles=titles,
        categories=categories,
    )  # fmt: skip
    said = pd.DataFrame({"row": chosen.index, "score": chosen["score"], "source": sources, "reason": reasons})
    lists = arranged.merge(said, on="row", how="left")
    if book:  # what nobody scored is there because it is pinned
        lists = lists.fillna({"score": 0.0, "source": PINNED, "reason": WHY_PINNED})
    return lists.sort_values(["customer_id", "list", "rank"], ignore_index=True)[[*LIST_COLUMNS]]


def score_candidates(candidates: pd.DataFrame, ranker: Ranker) -> pd.DataFrame:
    """The candidates with their `score`, each customer's by how high it is; ties go to the lower id."""
    scored = candidates.assign(score=ranker.score(feature_matrix(candidates, ranker.features)))
    return scored.sort_values(["customer_id", "score", "product_id"], ascending=[True, False, True], ignore_index=True)


def arrange_lists(scored: pd.DataFrame, size: int, book: CompiledRules | None) -> pd.DataFrame:
    """Both lists of each customer.

    Args:
        scored: As `score_candidates` gives them; where a rulebook has a frequency cap, also which rest.
        size: Length of a list.
        book: The rules, if any. Products that they don't know are left out.

    Returns:
        customer_id, list, rank, product_id, row (in `scored`; −1 of what was pinned and is no candidate), rule.
    """
    return _by_rules(scored, size, book) if book else _best(scored, size)


def _by_rules(scored: pd.DataFrame, size: int, book: CompiledRules) -> pd.DataFrame:
    position = pd.Index(book.product_ids).get_indexer(pd.Index(scored["product_id"]))
    score, rate, complement, ages, orders = (
        scored[name].to_numpy() for name in ("score", "return_rate", "complement", "customer_last_age", "own_orders")
    )
    bought = orders > 0
    rests = scored[book.rests].to_numpy(bool) if book.rests else np.zeros(len(scored), bool)
    may_be = (position >= 0) & ~rests
    customers, starts = np.unique(scored["customer_id"].to_numpy(object), return_index=True)
    spans = list(zip(starts, np.append(starts, len(scored))[1:], strict=True))
    found = [np.zeros((6, 0), np.int64)]
    for number, (wanted, barred) in enumerate(((may_be, rests), (may_be & ~bought, rests | bought))):
        for customer, (first, end) in enumerate(spans):
            rows = first + np.flatnonzero(wanted[first:end])
            not_theirs = set(position[first:end][barred[first:end]])
            offer = ScoredCandidates(position[rows], score[rows], rate[rows], complement[rows], float(ages[first]))
            product, place, rule = rerank(book, offer, size, not_theirs.__contains__)
            rank, row = np.arange(1, len(product) + 1), np.append(rows, -1)[place]
            found.append(np.stack(np.broadcast_arrays(customer, number, rank, product, row, rule)))
    whose, which, rank, product, row, rule = np.concatenate(found, axis=1)
    return pd.DataFrame(
        {
            "customer_id": customers[whose],
            "list": np.array(LISTS, object)[which],
            "rank": rank.astype(np.int32),
            "product_id": book.product_ids[product],
            "row": row,
            "rule": np.array([*book.says, None], object)[rule],
        }
    )


def _best(scored: pd.DataFrame, size: int) -> pd.DataFrame:
    lists = []
    for name, rows in ((ALL, scored), (DISCOVER, scored[~(scored["own_orders"] > 0)])):
        rank = rows.groupby("customer_id", sort=False).cumcount() + 1
        top = rows.loc[rank <= size, ["customer_id", "product_id"]]
        lists.append(top.assign(list=name, rank=rank[rank <= size].astype(np.int32), row=top.index, rule=None))
    return pd.concat(lists, ignore_index=True)


def explain(
    product_ids: npt.NDArray[np.object_],
    features: Floats,
    ranker: Ranker,
    *,
    together_with: npt.NDArray[np.object_],
    similar_to: npt.NDArray[np.object_],
    titles: Mapping[str, str],
    categories: Mapping[str, str],
) -> tuple[list[str], list[str]]:
    """Why entries of a list are there: per entry its source, and the reason in words.

    Args:
        product_ids: (entries,).
        features: (entries, len(FEATURES)).
        ranker: What scored them.
        together_with, similar_to: (entries,) products of the history, "" for none; see `find_candidates`.
        titles, categories: product_id → name, category.

    Returns:
        The feature group that contributed most to the score, among those that can show why; and its reason.
    """
    if not len(product_ids):
        return [], []
    of = dict(zip(FEATURES, features.T, strict=True))
    spoken_for = {
        "own": of["own_orders"] > 0,
        "als": of["als_score"] > 0,
        "co_purchase": together_with != "",
        "same_customer": of["same_customer"] > 0,
        "content": similar_to != "",
        "category": of["category_score"] > 0,
        "brand": of["brand_taste"] > 0,
        "popular": np.full(len(product_ids), True),
    }
    added = dict(zip(FEATURE_GROUPS, ranker.contributions(features).T, strict=True))
    names = list(spoken_for)
    voices = np.stack([np.where(spoken_for[name], added[name], -np.inf) for name in names])
    sources = [names[loudest] for loudest in voices.argmax(axis=0)]
    entries = zip(
        product_ids, sources, together_with, similar_to, of["own_interval"], of["own_last_age"], of["own_days"],
        strict=True,
    )  # fmt: skip
    return sources, [_in_words(_Entry(*entry), titles, categories) for entry in entries]


class _Entry(NamedTuple):
    """What the words of a reason are made of."""

    product_id: str
    source: str
    together_with: str
    similar_to: str
    own_interval: float
    own_last_age: float
    own_days: float


def _in_words(entry: _Entry, titles: Mapping[str, str], categories: Mapping[str, str]) -> str:
    """The reason of one entry, as a shopper would read it."""

    def name(product_id: str) -> str:
        return titles.get(product_id) or f"product {product_id}"

    source = entry.source
    if source == "own":
        return _own_in_words(entry)
    if source == "co_purchase":
        return f"bought together with {name(entry.together_with)}"
    if source == "content":
        return f"similar to {name(entry.similar_to)}"
    category = categories.get(entry.product_id)
    if source == "category":
        return f"popular in {category}" if category else "popular among what you buy"
    if source == "als":
        return "bought by customers who buy like you"
    if source == "same_customer":
        return "customers with your favorites buy this too"
    if source == "brand":
        return "from a brand you buy"
    return f"popular in {category}" if category else "popular right now"


def _own_in_words(entry: _Entry) -> str:
    days, interval = int(entry.own_days), entry.own_interval
    if days >= 3:
        return f"you buy this {rhythm(float(interval))}"
    ago = _ago(int(entry.own_last_age))
    return f"you bought this {'twice, last' if days == 2 else ''} {ago}".replace("  ", " ")


def rhythm(days: float) -> str:
    """A mean interval in words: "every 3 weeks"."""
    if days < 1.5:
        return "nearly every day"
    if days < 10:
        return f"every {days:.0f} days" if round(days) != 7 else "every week"
    if days < 60:
        return f"every {days / 7:.0f} weeks" if round(days / 7) > 1 else "every week"
    return f"every {days / 30.4:.0f} months"


def _ago(days: int) -> str:
    if days == 0:
        return "today"
    if days < 14:
        return f"{days} day{'s' if days > 1 else ''} ago"
    return f"{round(days / 7)} weeks ago" if days < 60 else f"{round(days / 30.4)} months ago"


def popular_lists(
    statistics: pd.DataFrame, categories: pd.Series, size: int, segment: str | None = None, *, by: str | None = None
) -> pd.DataFrame:
    """What to show someone unknown: what most customers bought lately, of all or of a category.

    Customers are counted, not lines: one customer's forty lines make nothing popular.

    Args:
        statistics: As `product_statistics` gives them.
        categories: product_id → category.
        size: Length of the list.
        segment: A category; all products where None.
        by: Column of `statistics` to count by instead, for a baseline.

    Returns:
        product_id, rank, score (share of the sum of what is counted, over the segment), reason.
    """
    count = statistics[by] if by else recent_buyers(statistics)
    rows = statistics.assign(category=statistics["product_id"].map(categories), count=count)
    if segment is not None:
        rows = rows[rows["category"] == segment]
    rows = rows.sort_values(["count", "orders", "product_id"], ascending=[False, False, True])
    total = max(float(rows["count"].sum()), 1.0)
    top = rows.head(size)
    return pd.DataFrame(
        {
            "product_id": top["product_id"].to_numpy(),
            "rank": np.arange(1, len(top) + 1),
            "score": (top["count"] / total).to_numpy(),
            "reason": [f"popular in {name}" if name else "popular right now" for name in top["category"].fillna("")],
        }
    )
