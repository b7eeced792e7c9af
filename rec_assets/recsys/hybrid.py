"""Hybrid lists: candidates ranked by the learned blend, in two lists per customer, each entry with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from rec_assets.recsys.ranker import Ranker

ALL, DISCOVER = "all", "discover"
LISTS = (ALL, DISCOVER)

LIST_COLUMNS = ("customer_id", "list", "rank", "product_id", "score", "source", "reason")


def make_lists(
    candidates: pd.DataFrame,
    ranker: Ranker,
    titles: Mapping[str, str],
    categories: Mapping[str, str],
    size: int,
) -> pd.DataFrame:
    """Rank candidates.

    Args:
        candidates: As `find_candidates` gives them.
        ranker: Scores them.
        titles: product_id → name, for reasons.
        categories: product_id → category, for reasons.
        size: Length of a list.

    Returns:
        LIST_COLUMNS, sorted by customer, list and rank: list "all" has the best candidates, "discover" the best of
        those the customer never bought; `source` is the feature group that speaks for the entry (`_sources`),
        `reason` says it in words.
    """
    scored = candidates.assign(score=ranker.score(candidates))
    scored = scored.sort_values(["customer_id", "score", "product_id"], ascending=[True, False, True])
    lists = []
    for name, rows in ((ALL, scored), (DISCOVER, scored[~(scored["own_orders"] > 0)])):
        rank = rows.groupby("customer_id", sort=False).cumcount() + 1
        lists.append(rows[rank <= size].assign(list=name, rank=rank[rank <= size].astype(np.int32)))
    chosen = pd.concat(lists, ignore_index=True)
    chosen["source"] = _sources(chosen, ranker.contributions(chosen))
    entries = chosen[[*_Entry._fields]].itertuples(index=False, name=None)
    chosen["reason"] = [_in_words(_Entry(*entry), titles, categories) for entry in entries]
    return chosen.sort_values(["customer_id", "list", "rank"], ignore_index=True)[[*LIST_COLUMNS]]


class _Entry(NamedTuple):
    """What the words of a reason are made of."""

    product_id: str
    source: str
    together_with: str
    similar_to: str
    own_interval: float
    own_last_age: float
    own_days: float


def _sources(rows: pd.DataFrame, contributions: pd.DataFrame) -> pd.Series:
    """Per row the group that contributed most to the score, among those that can show why."""
    spoken_for = pd.DataFrame(
        {
            "own": rows["own_orders"] > 0,
            "als": rows["als_score"] > 0,
            "co_purchase": rows["together_with"] != "",
            "same_customer": rows["same_customer"] > 0,
            "content": rows["similar_to"] != "",
            "category": rows["category_score"] > 0,
            "brand": rows["brand_taste"] > 0,
            "popular": True,
        }
    )
    voices = contributions[list(spoken_for)].reset_index(drop=True).where(spoken_for.reset_index(drop=True), -np.inf)
    return voices.idxmax(axis=1)


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
        return "customers with your favourites buy this too"
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
    statistics: pd.DataFrame, categories: pd.Series, size: int, segment: str | None = None
) -> pd.DataFrame:
    """What to show someone unknown: recent best sellers, of all or of a category.

    Args:
        statistics: As `product_statistics` gives them.
        categories: product_id → category.
        size: Length of the list.
        segment: A category; all products where None.

    Returns:
        product_id, rank, score (share of the segment's recent orders), reason.
    """
    rows = statistics.assign(category=statistics["product_id"].map(categories))
    if segment is not None:
        rows = rows[rows["category"] == segment]
    rows = rows.sort_values(["recent_orders", "orders", "product_id"], ascending=[False, False, True])
    total = max(float(rows["recent_orders"].sum()), 1.0)
    top = rows.head(size)
    return pd.DataFrame(
        {
            "product_id": top["product_id"].to_numpy(),
            "rank": np.arange(1, len(top) + 1),
            "score": (top["recent_orders"] / total).to_numpy(),
            "reason": [f"popular in {name}" if name else "popular right now" for name in top["category"].fillna("")],
        }
    )
