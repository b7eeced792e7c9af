"""Select metrics from an evaluation, and compare the reference model with the best baseline.

The report, its plots, the CLI and the asset checks all use these functions, so they come to the same conclusion.
"""

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from rec_assets.recsys.evaluation.evaluate import HEADLINE_K, HEADLINE_METRIC


@dataclass(frozen=True)
class BaselineVerdict:
    """The reference model compared with the best baseline of one slice, in NDCG@10 on the same customers."""

    slice_name: str
    model: str
    value: float
    baseline: str
    baseline_value: float
    difference: float
    ci_low: float
    ci_high: float

    @property
    def outcome(self) -> Literal["ahead", "level", "behind"]:
        """Level if the 95 % interval of the difference includes 0."""
        if self.ci_low > 0:
            return "ahead"
        if self.ci_high < 0:
            return "behind"
        return "level"


def metric_values(metrics: pd.DataFrame, slice_name: str, metric: str, k: int = HEADLINE_K) -> pd.DataFrame:
    """One metric of one slice: `value`, `ci_low`, `ci_high`, `customers` by `model`, highest value first."""
    chosen = (metrics["slice"] == slice_name) & (metrics["metric"] == metric) & (metrics["k"] == k)
    columns = ["value", "ci_low", "ci_high", "customers"]
    return metrics[chosen].set_index("model")[columns].sort_values("value", ascending=False, kind="stable")


def baseline_verdict(metrics: pd.DataFrame, differences: pd.DataFrame, slice_name: str) -> BaselineVerdict | None:
    """Compare the reference model with the best baseline of a slice.

    Args:
        metrics: `Evaluation.metrics`.
        differences: `Evaluation.differences`.
        slice_name: For example `evaluate.ALL`.

    Returns:
        None if the slice has no customers or there is no baseline.
    """
    compared = differences[(differences["slice"] == slice_name) & (differences["customers"] > 0)]
    if compared.empty:
        return None
    values = metric_values(metrics, slice_name, HEADLINE_METRIC)["value"]
    baselines = compared.set_index("baseline")
    best = str(values.loc[baselines.index].idxmax())
    model = str(baselines.loc[best, "model"])
    return BaselineVerdict(
        slice_name=slice_name,
        model=model,
        value=float(values[model]),
        baseline=best,
        baseline_value=float(values[best]),
        difference=float(baselines["value"][best]),
        ci_low=float(baselines["ci_low"][best]),
        ci_high=float(baselines["ci_high"][best]),
    )
