"""The experiments file: variants, units, dates and metrics of each experiment as YAML."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from rec_assets.errors import UserError
from rec_assets.yaml_file import Day, Name, StrictModel, read_yaml

MetricName = Literal[
    "ctr", "conversion", "average_order_value", "revenue_per_visitor", "return_rate", "repeat_purchase"
]

CHAMPION = "champion"
CUSTOMER = "customer"

COVARIATE_DAYS = 56
"""Days before an experiment whose purchases are the CUPED covariate."""

MAX_EXPERIMENT_DAYS = 90
"""From the first day of an experiment to the last day on which a purchase counts."""


class ExperimentsError(UserError, ValueError):
    """The experiments file can't be used; the message says why."""


class Variant(StrictModel):
    """What a share of the units gets. Fields that are not set stay as they are without the experiment."""

    share: float = Field(gt=0, le=1, description="Share of all units.")
    model: str = Field("champion", pattern=r"^(champion|challenger|[1-9]\d*)$", description="An alias or a version.")
    mode: Literal["all", "discover", "buy_again"] | None = Field(None, description="Replaces the requested mode.")
    exploration: float | None = Field(None, ge=0, le=1, description="Strength of the randomized ranking.")
    rules: str | None = Field(None, description="A rule set or `none`; replaces the default rule set.")
    show: Literal["recommendations", "popular", "nothing"] = Field(
        "recommendations", description="`popular` and `nothing` are holdouts."
    )

    @property
    def changed_fields(self) -> frozenset[str]:
        """Fields that differ from their defaults."""
        fields = Variant.model_fields.items()
        return frozenset(name for name, each in fields if name != "share" and getattr(self, name) != each.default)


class Experiment(StrictModel):
    """One comparison. The first variant is the control."""

    name: Name
    question: str = Field("", description="What you want to find out.")
    design: Literal["split", "interleave"] = Field(
        "split", description="`interleave`: each response mixes the rankings of two variants (team draft)."
    )
    unit: Literal["customer", "session"] = "customer"
    salt: str | None = Field(None, description="Salt of the assignment; default: the name.")
    start: Day = Field(description="First day, in the shop's time zone.")
    end: Day = Field(description="Last day.")
    main_metric: MetricName = "revenue_per_visitor"
    minimum_detectable_effect: float = Field(
        0.05, gt=0, le=1, description="Smallest relative change of the main metric that you want to detect."
    )
    guardrails: dict[MetricName, float] = Field(
        {}, description="Metric → relative change for the worse that is not allowed."
    )
    attribution_days: int = Field(7, ge=1, le=60, description="Days after an exposure in which a purchase counts.")
    significance_level: float = Field(
        0.05, gt=0, lt=0.5, description="Probability of finding a difference if there is none."
    )
    variants: dict[Name, Variant]

    @field_validator("guardrails")
    @classmethod
    def _guardrails_are_shares(cls, guardrails: dict[MetricName, float]) -> dict[MetricName, float]:
        for name, limit in guardrails.items():
            if not 0 < limit <= 1:
                raise ValueError(f"{name} must be a relative change above 0 and at most 1, not {limit}")
        return guardrails

    @model_validator(mode="after")
    def _is_valid(self) -> Experiment:
        if self.start > self.end:
            raise ValueError(f"{self.name}: start ({self.start}) is after end ({self.end})")
        if (self.last_purchase_day - self.start).days >= MAX_EXPERIMENT_DAYS:
            raise ValueError(
                f"{self.name}: there are more than {MAX_EXPERIMENT_DAYS} days from its start to the last purchase that "
                f"counts ({self.last_purchase_day}): choose an earlier end"
            )
        if len(self.variants) < 2:
            raise ValueError(f"{self.name}: needs at least two variants; the first is the control")
        shares = sum(variant.share for variant in self.variants.values())
        if shares > 1 + 1e-9:
            raise ValueError(f"{self.name}: the shares sum to {shares:g}, which is more than 1")
        if self.main_metric in self.guardrails:
            raise ValueError(f"{self.name}: {self.main_metric} is the main metric, so it can't be a guardrail")
        shows_nothing = any(variant.show == "nothing" for variant in self.variants.values())
        if shows_nothing and "ctr" in (self.main_metric, *self.guardrails):
            raise ValueError(f"{self.name}: ctr can't be compared, because a variant shows nothing that can be clicked")
        if self.design == "interleave":
            self._check_interleaving()
        return self

    def _check_interleaving(self) -> None:
        for setting in ("main_metric", "guardrails"):
            if setting in self.model_fields_set:
                raise ValueError(f"{self.name}: {setting} has no use with interleaving, which compares clicks")
        if len(self.variants) != 2:
            raise ValueError(f"{self.name}: interleaving needs two variants, not {len(self.variants)}")
        for name, variant in self.variants.items():
            if variant.show != "recommendations" or variant.exploration:
                raise ValueError(f"{self.name}.{name}: a holdout or exploration can't be interleaved")

    @property
    def control(self) -> str:
        """Name of the first variant."""
        return next(iter(self.variants))

    @property
    def deciding_metric(self) -> str:
        """The main metric; "preference" with interleaving."""
        return "preference" if self.design == "interleave" else self.main_metric

    @property
    def changed_fields(self) -> frozenset[str]:
        """Fields that at least one variant changes."""
        return frozenset().union(*(variant.changed_fields for variant in self.variants.values()))

    @property
    def last_purchase_day(self) -> dt.date:
        """Last day on which a purchase counts."""
        return self.end + dt.timedelta(days=self.attribution_days)

    def traffic_days(self, day: dt.date) -> int:
        """Number of days with traffic up to and including a day."""
        return (min(day, self.end) - self.start).days + 1

    def runs_on(self, day: dt.date) -> bool:
        """Whether the experiment has traffic on a day."""
        return self.start <= day <= self.end


class Experiments(StrictModel):
    """All experiments of a shop."""

    experiments: list[Experiment] = Field([])

    @model_validator(mode="after")
    def _do_not_conflict(self) -> Experiments:
        names = [experiment.name for experiment in self.experiments]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two experiments have the name {name}")
        for number, one in enumerate(self.experiments):
            for other in self.experiments[number + 1 :]:
                if one.start > other.end or other.start > one.end:
                    continue
                fields = one.changed_fields | other.changed_fields
                conflict = "show" if "show" in fields else next(iter(one.changed_fields & other.changed_fields), None)
                interleaved = [one.design, other.design].count("interleave")
                if interleaved == 2 or (interleaved and "exploration" in fields):
                    conflict = "the order"
                if conflict is not None:
                    problem = (
                        ", and one has a holdout (`show`), which leaves the other nothing to compare"
                        if conflict == "show" else f" and both change {conflict}"
                    )  # fmt: skip
                    raise ValueError(
                        f"{one.name} and {other.name} run at the same time{problem}: start one after the other ends"
                    )
        return self

    def on(self, day: dt.date) -> list[Experiment]:
        """Experiments with traffic on a day."""
        return [experiment for experiment in self.experiments if experiment.runs_on(day)]


def read_experiments(path: Path | None) -> Experiments:
    """Read an experiments file; no experiments without a path.

    Raises:
        ExperimentsError: The file can't be used.
    """
    if path is None:
        return Experiments()
    return read_yaml(path, Experiments, "an experiments file is a list under `experiments:`", error=ExperimentsError)


def rule_sets_in(experiments: Iterable[Experiment]) -> set[str]:
    """The rule sets that experiments use."""
    return {each.rules for experiment in experiments for each in experiment.variants.values() if each.rules is not None}


def check_rule_sets(experiments: Experiments, rule_sets: Iterable[str]) -> None:
    """Raise ExperimentsError if an experiment that has not ended uses an unknown rule set."""
    known, today = set(rule_sets), dt.date.today()
    for experiment in experiments.experiments:
        for name in sorted(rule_sets_in([experiment]) - known) if experiment.end >= today else ():
            raise ExperimentsError(
                f"{experiment.name}: there is no rule set {name!r} in the rules file (REC_RULES); there are "
                f"{', '.join(sorted(known))}"
            )


def models_in(experiments: Iterable[Experiment]) -> set[str]:
    """The models other than the champion that experiments use: aliases, and versions as text."""
    return {variant.model for experiment in experiments for variant in experiment.variants.values()} - {CHAMPION}
