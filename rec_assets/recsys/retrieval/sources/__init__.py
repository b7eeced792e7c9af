"""The candidate sources. To add one, write a class in a module of this package and append it to `SOURCES`.

Candidates, features, the fixed blend, reasons, baselines and the ablation all go by `SOURCES`. Its order is the order
of the feature columns. See docs/how-to/add-a-candidate-source.md.
"""

from __future__ import annotations

from typing import Any

from rec_assets.recsys.retrieval.sources.als import Als
from rec_assets.recsys.retrieval.sources.base import CandidateSource
from rec_assets.recsys.retrieval.sources.brand import Brand
from rec_assets.recsys.retrieval.sources.category_popular import CategoryPopular
from rec_assets.recsys.retrieval.sources.co_purchase import CoPurchase
from rec_assets.recsys.retrieval.sources.ease import Ease
from rec_assets.recsys.retrieval.sources.new import New
from rec_assets.recsys.retrieval.sources.popular import Popular
from rec_assets.recsys.retrieval.sources.repeat_purchase import RepeatPurchase
from rec_assets.recsys.retrieval.sources.text import Text

SOURCES: tuple[CandidateSource[Any], ...] = (
    RepeatPurchase(),
    Als(),
    CoPurchase(),
    Ease(),
    Text(),
    CategoryPopular(),
    Brand(),
    Popular(),
    New(),
)
