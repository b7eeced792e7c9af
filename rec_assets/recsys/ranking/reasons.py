"""Reasons: which candidate source explains an item of a list, and the sentence that a customer reads."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from rec_assets.recsys.arrays import Floats
from rec_assets.recsys.ranking.features import FEATURE_GROUPS, FEATURES
from rec_assets.recsys.ranking.ranker import Ranker
from rec_assets.recsys.retrieval.sources import SOURCES
from rec_assets.recsys.retrieval.sources.base import ListItems


def explain(
    product_ids: npt.NDArray[np.object_],
    features: Floats,
    ranker: Ranker,
    *,
    anchors: Mapping[str, npt.NDArray[np.object_]],
    titles: Mapping[str, str],
    categories: Mapping[str, str],
) -> tuple[list[str], list[str]]:
    """The name of the source of each item, and its reason.

    The source is the one that contributed most to the ranker's score, among those that can explain the item.

    Args:
        product_ids, features: (items,) and (items, len(FEATURES)).
        anchors, titles, categories: See `ListItems`.
    """
    if not len(product_ids):
        return [], []
    items = ListItems(product_ids, dict(zip(FEATURES, features.T, strict=True)), anchors, titles, categories)
    contributions = dict(zip(FEATURE_GROUPS, ranker.contributions(features).T, strict=True))
    sources = [source for source in SOURCES if source.features]
    strength = np.stack([np.where(each.explains(items), contributions[each.name], -np.inf) for each in sources])
    strongest = [sources[number] for number in strength.argmax(axis=0)]
    return [source.name for source in strongest], [source.reason(items, row) for row, source in enumerate(strongest)]
