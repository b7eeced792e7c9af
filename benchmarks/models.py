"""The models of the benchmark and their tasks. A model is imported when it is built: its library is optional."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from benchmarks.datasets import BEAUTY, FASHION, JOURNEY
from benchmarks.peers.base import Peer, ScoringPeer
from benchmarks.protocols import COLD, NEW, NEXT, Split
from rec_assets.recsys.evaluation.evaluate import ALL_PURCHASES, NOVEL_PURCHASES

HYBRID, UNTUNED = "hybrid", "hybrid, untuned"
"""Names of the hybrid: with what was chosen by hand for a data set, and as every shop gets it."""

_DAYS = frozenset((dataset, task) for dataset in (JOURNEY, FASHION) for task in (ALL_PURCHASES, NOVEL_PURCHASES))
_WARM = _DAYS | {(BEAUTY, NEXT), (BEAUTY, NEW)}
_EVERYWHERE = _WARM | {(BEAUTY, COLD)}


@dataclass(frozen=True)
class Model:
    """One row of the table.

    Attributes:
        name: As the table shows it.
        module, attribute: Location of its class.
        tasks: (dataset, task) pairs that it is run on.
    """

    name: str
    module: str
    attribute: str
    tasks: frozenset[tuple[str, str]] = _WARM

    def runs_on(self, split: Split) -> bool:
        """Whether the model is run on this split."""
        return (split.dataset, split.task) in self.tasks

    def load(self) -> Any:
        """The class.

        Raises:
            ModuleNotFoundError: a library is missing.
            ImportError: a library is there, and lacks a module that is needed.
        """
        try:
            return getattr(import_module(self.module), self.attribute)
        except ModuleNotFoundError as error:
            if find_spec(str(error.name).split(".")[0]) is None:
                raise
            raise ImportError(f"{self.module} needs {error.name}, which the installed library does not have") from error

    def build(self, dataset: str, chosen: Mapping[str, Any]) -> Peer:
        """An unfitted model with the values chosen for a task, and its defaults for the others."""
        return self.load()(**{**first_values(self.load(), dataset), **chosen})


def first_values(cls: type, dataset: str) -> dict[str, Any]:
    """Where the search begins: values from the literature that differ from those of the constructor."""
    return dict(cls.defaults.get(dataset, {})) if issubclass(cls, ScoringPeer) else {}


MODELS = (
    Model(HYBRID, "benchmarks.hybrid", "Hybrid", _EVERYWHERE),
    # For the other tasks, except cold products, nothing is chosen by hand, so both are the same.
    Model(UNTUNED, "benchmarks.hybrid", "Hybrid", frozenset({(BEAUTY, NEXT)})),
    Model("popularity", "benchmarks.peers.popularity", "Popularity", _EVERYWHERE),
    Model("recent popularity", "benchmarks.peers.popularity", "RecentPopularity"),
    Model("popularity in own categories", "benchmarks.peers.popularity", "CategoryPopularity", _EVERYWHERE),
    Model(
        "popularity in own categories, unseen = mean",
        "benchmarks.peers.popularity",
        "ImputedCategoryPopularity",
        frozenset({(BEAUTY, COLD)}),
    ),
    Model(
        "own purchases",
        "benchmarks.peers.history",
        "OwnPurchases",
        frozenset({(JOURNEY, ALL_PURCHASES), (FASHION, ALL_PURCHASES)}),
    ),
    Model("TIFU-KNN", "benchmarks.peers.history", "TifuKnn", _DAYS),
    Model("implicit ALS", "benchmarks.peers.implicit_models", "ImplicitAls"),
    Model("implicit BM25 k-NN", "benchmarks.peers.implicit_models", "Bm25Knn"),
    Model("implicit TF-IDF k-NN", "benchmarks.peers.implicit_models", "TfIdfKnn"),
    Model("implicit cosine k-NN", "benchmarks.peers.implicit_models", "CosineKnn"),
    Model("LensKit item k-NN", "benchmarks.peers.lenskit_models", "LensKitItemKnn"),
    Model("LensKit user k-NN", "benchmarks.peers.lenskit_models", "LensKitUserKnn"),
    Model("EASE", "benchmarks.peers.item_models", "Ease"),
    Model(
        "item transitions", "benchmarks.peers.item_models", "Transitions", frozenset({(BEAUTY, NEXT), (BEAUTY, NEW)})
    ),
    Model("STAN", "benchmarks.peers.sessions", "Stan", frozenset({(BEAUTY, NEXT), (BEAUTY, NEW)})),
    Model("MiniLM text similarity", "benchmarks.peers.text", "TextSimilarity", _EVERYWHERE),
    Model(
        "MiniLM text similarity, unseen first",
        "benchmarks.peers.text",
        "UnseenFirstTextSimilarity",
        frozenset({(BEAUTY, COLD)}),
    ),
)
