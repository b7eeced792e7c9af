"""Experiments as one YAML file describes them: what is compared, on whom, from when to when, and what decides."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rec_assets.yaml_file import Day, Name, read_yaml

MetricName = Literal[
    "ctr", "conversion", "average_order_value", "revenue_per_visitor", "return_rate", "repeat_purchase"
]

CHAMPION = "champion"
CUSTOMER = "customer"

COVARIATE_DAYS = 56
"""Days before an experiment whose purchases foretell those within it."""

LONGEST_DAYS = 90
"""From an experiment's first day to the last day after its end on which a purchase counts."""


class ExperimentsError(ValueError):
    """The experiments' file can't be used as it is; the message says why."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Variant(_Part):
    """What a share of the traffic is answered with. All that isn't said is as it is without the experiment."""

    share: float = Field(gt=0, le=1, description="Of all units.")
    model: str = Field("champion", pattern=r"^(champion|challenger|[1-9]\d*)$", description="An alias, or a version.")
    mode: Literal["all", "discover", "buy_again"] | None = Field(None, description="Instead of what is asked for.")
    exploration: float | None = Field(None, ge=0, le=1, description="How much chance has a say in the order.")
    rules: str | None = Field(None, description="A rule set, or `none`, instead of the shop's default.")
    show: Literal["recommendations", "popular", "nothing"] = Field(
        "recommendations", description="`popular` and `nothing` are holdouts."
    )

    @property
    def levers(self) -> frozenset[str]:
        """What it changes."""
        return frozenset(name for name in Variant.model_fields if name != "share" and self._differs(name))

    def _differs(self, name: str) -> bool:
        return getattr(self, name) != Variant.model_fields[name].default


class Experiment(_Part):
    """One comparison. The first variant is the control."""

    name: Name
    question: str = Field("", description="What is to be found out, in words.")
    design: Literal["split", "interleave"] = Field(
        "split", description="`interleave`: each answer mixes the two variants' rankings (team draft)."
    )
    unit: Literal["customer", "session"] = "customer"
    salt: str | None = Field(None, description="Of the assignment; default: the name.")
    start: Day = Field(description="First day, by the shop's clock.")
    end: Day = Field(description="Last day.")
    main_metric: MetricName = "revenue_per_visitor"
    minimal_effect: float = Field(0.05, gt=0, le=1, description="Relative change of the main metric worth finding.")
    guard_rails: dict[MetricName, float] = Field(
        {}, description="Metric → relative change for the worse that must not be."
    )
    attribution_days: int = Field(7, ge=1, le=60, description="Days after an exposure in which a purchase counts.")
    level: float = Field(0.05, gt=0, lt=0.5, description="Chance of seeing a difference where there is none.")
    variants: dict[Name, Variant]

    @field_validator("guard_rails")
    @classmethod
    def _are_shares(cls, rails: dict[MetricName, float]) -> dict[MetricName, float]:
        for name, limit in rails.items():
            if not 0 < limit <= 1:
                raise ValueError(
                    f"{name} must be above 0 and at most 1, the relative change that must not be, not {limit}"
                )
        return rails

    @model_validator(mode="after")
    def _can_be_run(self) -> Experiment:
        if self.start > self.end:
            raise ValueError(f"{self.name}: start ({self.start}) is after end ({self.end})")
        if (self.counts_until - self.start).days >= LONGEST_DAYS:
            raise ValueError(
                f"{self.name}: from its start to the last purchase that counts ({self.counts_until}) are more than "
                f"{LONGEST_DAYS} days: end it sooner"
            )
        if len(self.variants) < 2:
            raise ValueError(f"{self.name}: takes two variants at least; the first is the control")
        shares = sum(each.share for each in self.variants.values())
        if shares > 1 + 1e-9:
            raise ValueError(f"{self.name}: the shares sum to {shares:g}, which is more than all the traffic")
        if self.main_metric in self.guard_rails:
            raise ValueError(f"{self.name}: {self.main_metric} is the main metric, so it can't be a guard rail")
        if any(each.show == "nothing" for each in self.variants.values()) and "ctr" in (
            self.main_metric, *self.guard_rails
        ):  # fmt: skip
            raise ValueError(f"{self.name}: where a variant shows nothing, nothing is clicked: ctr can't be compared")
        if self.design == "interleave":
            for setting in ("main_metric", "guard_rails"):
                if setting in self.model_fields_set:
                    raise ValueError(
                        f"{self.name}: {setting} says nothing of mixed answers, which are judged by clicks"
                    )
            if len(self.variants) != 2:
                raise ValueError(f"{self.name}: interleaving takes two variants, and here are {len(self.variants)}")
            for name, each in self.variants.items():
                if each.show != "recommendations" or each.exploration:
                    raise ValueError(f"{self.name}.{name}: a holdout or exploration can't be interleaved")
        return self

    @property
    def control(self) -> str:
        """Name of the first variant."""
        return next(iter(self.variants))

    @property
    def levers(self) -> frozenset[str]:
        """What any of its variants changes."""
        return frozenset().union(*(each.levers for each in self.variants.values()))

    @property
    def counts_until(self) -> dt.date:
        """Last day on which a purchase counts."""
        return self.end + dt.timedelta(days=self.attribution_days)

    def days_until(self, day: dt.date) -> int:
        """Days of traffic up to a day."""
        return (min(day, self.end) - self.start).days + 1

    def runs_on(self, day: dt.date) -> bool:
        """Whether it takes traffic on a day of the shop's."""
        return self.start <= day <= self.end


class Experiments(_Part):
    """All experiments of a shop."""

    experiments: list[Experiment] = []

    @model_validator(mode="after")
    def _leave_each_other_alone(self) -> Experiments:
        names = [each.name for each in self.experiments]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two experiments are called {name}: their numbers could not be told apart")
        for place, one in enumerate(self.experiments):
            for other in self.experiments[place + 1 :]:
                if one.start > other.end or other.start > one.end:
                    continue
                levers = one.levers | other.levers
                both = "show" if "show" in levers else next(iter(one.levers & other.levers), None)
                if "interleave" in (one.design, other.design) and "exploration" in levers:
                    both = "the order"
                if one.design == other.design == "interleave":
                    both = "the order"
                if both == "show":
                    raise ValueError(
                        f"{one.name} and {other.name} run at the same time, and one holds shoppers out (`show`), which "
                        "leaves the other nothing to compare: let one begin after the other"
                    )
                if both is not None:
                    raise ValueError(
                        f"{one.name} and {other.name} run at the same time and both have a say in {both}: let one "
                        "begin after the other"
                    )
        return self

    def on(self, day: dt.date) -> list[Experiment]:
        """Those that take traffic on a day."""
        return [each for each in self.experiments if each.runs_on(day)]


def read_experiments(path: Path | None) -> Experiments:
    """The experiments of a file; none without one.

    Raises:
        ExperimentsError: the file can't be used as it is.
    """
    if path is None:
        return Experiments()
    return read_yaml(path, Experiments, "a file of experiments is a list under `experiments:`", error=ExperimentsError)


def rule_sets_of(experiments: Iterable[Experiment]) -> set[str]:
    """The rule sets that experiments need."""
    return {variant.rules for each in experiments for variant in each.variants.values() if variant.rules is not None}


def check_rule_sets(experiments: Experiments, rule_sets: Iterable[str]) -> None:
    """Raises `ExperimentsError` where an experiment compares rule sets that aren't there."""
    known, today = set(rule_sets), dt.date.today()
    for each in (one for one in experiments.experiments if one.end >= today):  # those that are over have no say
        for name in sorted(rule_sets_of([each]) - known):
            raise ExperimentsError(
                f"{each.name}: there is no rule set {name!r} in the rules' file (REC_RULES); there are "
                f"{', '.join(sorted(known))}"
            )


def models_of(experiments: Iterable[Experiment]) -> set[str]:
    """The models that experiments need beside the champion: aliases and versions, as text."""
    return {str(variant.model) for each in experiments for variant in each.variants.values()} - {CHAMPION}
