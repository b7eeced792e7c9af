"""The ranker: boosted trees that learn, from past candidates and what was bought next, how to blend the sources.

Where these tell nothing, candidates rank by the fixed blend (`fixed_blend.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import xgboost as xgb

from rec_assets.recsys.data.product_snapshot import Floats
from rec_assets.recsys.ranking import fixed_blend
from rec_assets.recsys.ranking.features import FEATURE_GROUPS, FEATURES, feature_matrix
from rec_assets.recsys.recipe import RankerRecipe


@dataclass(frozen=True)
class Ranker:
    """A trained blend, or the fixed one.

    It scores with the features that it was trained on, whichever this code computes by now.

    Attributes:
        booster: XGBoost model; None where there was nothing to learn from.
        features: Names of the features it was trained on, in order.
    """

    booster: xgb.Booster | None
    features: tuple[str, ...]

    @property
    def is_learned(self) -> bool:
        """Whether it was trained."""
        return self.booster is not None

    @property
    def gone(self) -> tuple[str, ...]:
        """Features it was trained on that this code doesn't compute any more: they count as missing."""
        return tuple(name for name in self.features if name not in FEATURES) if self.is_learned else ()

    @property
    def warning(self) -> str:
        """What to know of its scores, in words; "" where nothing."""
        if not self.gone:
            return ""
        return (
            f"the models were trained on {', '.join(self.gone)}, which this version doesn't compute: these count as "
            "missing, and the lists may be worse, until newer models are released (job `retrain`)"
        )

    def score(self, features: Floats) -> Floats:
        """(rows,) estimated probability that the customer buys the product within the horizon, of (rows, FEATURES)."""
        if self.booster is None:
            return fixed_blend.score(features)
        return np.asarray(self.booster.inplace_predict(self._as_trained(features)), np.float32)

    def contributions(self, features: Floats) -> Floats:
        """(rows, groups) what each group of FEATURE_GROUPS added to the log-odds.

        Contributions along the decision paths (Saabas 2014), which XGBoost computes a hundred times faster than
        exact SHAP values; lists of all customers need them every day.
        """
        if self.booster is None:
            return fixed_blend.contributions(features)
        data = xgb.DMatrix(self._as_trained(features), nthread=1)
        added = self.booster.predict(data, pred_contribs=True, approx_contribs=True)[:, :-1]
        # (features, groups) 1 where a feature belongs to a group.
        belongs = [[name in names for names in FEATURE_GROUPS.values()] for name in self.features]
        return np.asarray(added @ np.array(belongs, np.float32), np.float32)

    def _as_trained(self, features: Floats) -> Floats:
        """(rows, self.features) of (rows, FEATURES)."""
        if self.features == FEATURES:
            return features
        place = {name: column for column, name in enumerate(FEATURES)}
        missing = np.full((len(features), 1), np.nan, np.float32)
        return np.hstack([features, missing])[:, [place.get(name, len(FEATURES)) for name in self.features]]

    def importance(self) -> pd.Series:
        """Total gain by feature, falling; 0 where nothing was learned."""
        gain = self.booster.get_score(importance_type="total_gain") if self.booster is not None else {}
        named = {name: gain.get(f"f{i}", 0.0) for i, name in enumerate(self.features)}
        return pd.Series(named, name="total_gain").sort_values(ascending=False)

    def dump(self) -> bytes:
        """The booster as bytes of UBJSON, none where nothing was learned; `load` takes them."""
        return b"" if self.booster is None else bytes(self.booster.save_raw("ubj"))

    @classmethod
    def load(cls, model: bytes, features: tuple[str, ...]) -> Ranker:
        """Read what `dump` wrote, and the names of its features."""
        if not model:
            return cls(None, tuple(features))
        booster = xgb.Booster()
        booster.load_model(bytearray(model))
        booster.set_param({"nthread": 1})
        return cls(booster, tuple(features))


@dataclass(frozen=True, eq=False)
class TrainingSample:
    """Candidates to learn from.

    Attributes:
        features: (n, len(FEATURES)).
        bought: (n,) what became of them.
    """

    features: Floats
    bought: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> TrainingSample:
        """From FEATURES and `bought`."""
        return cls(feature_matrix(rows), rows["bought"].to_numpy(bool))


def fit_ranker(sample: TrainingSample, recipe: RankerRecipe, *, seed: int) -> Ranker:
    """Train on candidates as they looked on a day, labeled with what was bought afterward.

    Args:
        sample: What became of them.
        recipe: Of the trees.
        seed: Of their random choices.

    Returns:
        The fixed blend where nothing tells what was bought from what was not: nothing was bought, or everything, or so
        little that no tree could be split (`min_child_weight`).
    """
    if sample.bought.all() or not sample.bought.any():
        return Ranker(None, FEATURES)
    labels = sample.bought.astype(np.float32)
    # Of the features it keeps what trees of histograms look at, a byte or two each; the same trees come of it.
    data = xgb.QuantileDMatrix(sample.features, label=labels)
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
