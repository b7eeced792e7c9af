"""The ranker: boosted trees trained on past candidates and on the purchases that followed.

If these can't train a ranker, candidates are scored by the fixed blend (`fixed_blend.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rec_assets.recsys.arrays import Floats, Mask
from rec_assets.recsys.ranking import fixed_blend
from rec_assets.recsys.ranking.features import FEATURE_GROUPS, FEATURES, feature_matrix
from rec_assets.recsys.ranking.trees import Trees
from rec_assets.recsys.recipe import RankerRecipe

if TYPE_CHECKING:  # Spark's tasks that find candidates import this module, and need no trees
    import xgboost as xgb

_GROUPS = np.repeat(np.arange(len(FEATURE_GROUPS) + 1, dtype=np.int32), [*map(len, FEATURE_GROUPS.values()), 1])
"""(FEATURES + 1,) number of the group of each feature. A feature that this version does not compute has its own."""


@dataclass(frozen=True)
class Ranker:
    """A trained ranker, or the fixed blend.

    It scores with the features that it was trained on, even if this version of the code computes others.

    Attributes:
        booster: XGBoost model; None for the fixed blend.
        features: Names of the features it was trained on, in order.
    """

    booster: xgb.Booster | None
    features: tuple[str, ...]

    @property
    def is_trained(self) -> bool:
        """Whether it is a trained model, and not the fixed blend."""
        return self.booster is not None

    @cached_property
    def unavailable_features(self) -> tuple[str, ...]:
        """Features it was trained on that this version does not compute. They count as missing values."""
        return tuple(name for name in self.features if name not in FEATURES) if self.is_trained else ()

    @property
    def warning(self) -> str:
        """A warning about unavailable features; "" if there are none."""
        if not self.unavailable_features:
            return ""
        return (
            f"the models were trained on {', '.join(self.unavailable_features)}, which this version does not compute: "
            "these features count as missing, and the lists may be worse, until new models are released (job `retrain`)"
        )

    def score(self, features: Floats) -> Floats:
        """(rows,) from (rows, FEATURES): grows with the probability of a purchase in the horizon that is not returned.

        It is too high as a probability, because training uses only a share of the candidates that were not bought.
        """
        if self.booster is None:
            return fixed_blend.score(features)
        return np.asarray(1 / (1 + np.exp(-self._trees.log_odds(self._with_missing(features)))), np.float32)

    def contributions(self, features: Floats) -> Floats:
        """(rows, groups) log-odds that each group of FEATURE_GROUPS adds, from (rows, FEATURES).

        These are contributions along the decision paths (Saabas 2014), a hundred times faster than exact SHAP values.
        """
        if self.booster is None:
            return fixed_blend.contributions(features)
        by_group = self._trees.contributions(self._with_missing(features), _GROUPS, len(FEATURE_GROUPS) + 1)
        return by_group[:, :-1]

    @cached_property
    def _trees(self) -> Trees:
        assert self.booster is not None
        column = {name: number for number, name in enumerate(FEATURES)}
        return Trees.from_booster(self.booster, [column.get(name, len(FEATURES)) for name in self.features])

    def _with_missing(self, features: Floats) -> Floats:
        """(rows, FEATURES), and a column of missing values if a feature of the trees is unavailable."""
        if not self.unavailable_features:
            return features
        return np.hstack([features, np.full((len(features), 1), np.nan, np.float32)])

    def importance(self) -> pd.Series:
        """Total gain by feature, descending; 0 for the fixed blend."""
        gain = self.booster.get_score(importance_type="total_gain") if self.booster is not None else {}
        by_name = {name: gain.get(f"f{i}", 0.0) for i, name in enumerate(self.features)}
        return pd.Series(by_name, name="total_gain").sort_values(ascending=False)

    def dump(self) -> bytes:
        """The booster as UBJSON, for `load`; empty for the fixed blend."""
        return b"" if self.booster is None else bytes(self.booster.save_raw("ubj"))

    @classmethod
    @lru_cache(maxsize=2)  # a task loads it for each batch of customers
    def load(cls, model: bytes, features: tuple[str, ...]) -> Ranker:
        """Read what `dump` wrote."""
        if not model:
            return cls(None, features)
        import xgboost as xgb

        booster = xgb.Booster()
        booster.load_model(bytearray(model))
        booster.set_param({"nthread": 1})
        return cls(booster, features)


Batch = tuple[Floats, Mask]
"""(n, len(FEATURES)) features, and (n,) whether the customer bought the product within the horizon."""


@dataclass(frozen=True, eq=False)
class TrainingSample:
    """Candidates to train on.

    Attributes:
        rows, bought: Number of candidates, and of those that were bought.
        batches: Reads them from the beginning, so that memory need not hold all.
    """

    rows: int
    bought: int
    batches: Callable[[], Iterator[Batch]]

    @classmethod
    def from_arrays(cls, features: Floats, bought: Mask) -> TrainingSample:
        """One batch."""
        return cls(len(bought), int(bought.sum()), lambda: iter([(features, bought)]))

    @classmethod
    def from_frame(cls, rows: pd.DataFrame) -> TrainingSample:
        """From columns FEATURES and `bought`."""
        return cls.from_arrays(feature_matrix(rows), rows["bought"].to_numpy(bool))


def fit_ranker(sample: TrainingSample, recipe: RankerRecipe, *, seed: int) -> Ranker:
    """Train on candidates of a past day, labeled with what was bought afterward.

    Returns:
        The fixed blend if the labels can't train trees: all are equal, or positives are so few that no tree splits
        (`min_child_weight`).
    """
    if sample.bought in (0, sample.rows):
        return Ranker(None, FEATURES)
    import xgboost as xgb

    class Batches(xgb.DataIter):
        def __init__(self) -> None:
            super().__init__()
            self.reset()

        def reset(self) -> None:
            self.left = sample.batches()

        def next(self, input_data: Callable[..., None]) -> bool:
            if (batch := next(self.left, None)) is None:
                return False
            input_data(data=batch[0], label=batch[1].astype(np.float32))
            return True

    # Holds the histogram bins alone, without the values. For one batch, the trees are as from all values.
    data = xgb.QuantileDMatrix(Batches())
    parameters = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "eta": recipe.learning_rate,
        "max_depth": recipe.max_depth,
        "min_child_weight": recipe.min_child_weight,
        "subsample": recipe.subsample,
        "colsample_bytree": recipe.column_sample,
        "lambda": recipe.l2,
        "seed": seed,
    }
    booster = xgb.train(parameters, data, num_boost_round=recipe.rounds)
    return Ranker(booster if booster.get_score() else None, FEATURES)
