"""Every registered candidate source is complete and does not clash with another one."""

from __future__ import annotations

from typing import Any

import pytest

from rec_assets.recsys.ranking.features import FEATURES
from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.retrieval.sources import SOURCES
from rec_assets.recsys.retrieval.sources.base import CandidateSource


def test_names_features_and_baselines_are_unique() -> None:
    names = [source.name for source in SOURCES]
    baselines = [baseline.name for source in SOURCES for baseline in source.baselines]
    for values in (names, list(FEATURES), baselines):
        assert len(set(values)) == len(values)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_a_source_with_features_has_a_reason_and_refers_to_features_that_exist(source: CandidateSource[Any]) -> None:
    own_reason = type(source).reason is not CandidateSource.reason
    assert own_reason or hasattr(source, "sentence") or not source.features
    used = {name for name, _ in source.blend_weights} | {name for each in source.baselines for name in each.columns}
    assert used <= set(source.features)
    assert source.features or source.size(Recipe()), "it does something"
