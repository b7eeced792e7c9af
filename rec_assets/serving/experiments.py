"""Answers under experiments: what a shopper's treatment makes of an answer, and what is written down of it.

Who is treated how is decided in `recsys.experiments`; whether the answer can be kept to, and logged, here.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rec_assets.recsys.experiments.assignment import Treatment
from rec_assets.recsys.experiments.interleaving import team_draft
from rec_assets.recsys.experiments.spec import CHAMPION, Experiment, Variant, models_of, rule_sets_of
from rec_assets.serving.engine import Engine, FrequencyCapped
from rec_assets.serving.online import Exposure
from rec_assets.serving.responder import HOLDOUT, RecommendationRequest, RecommendationResponse, RecommendedItem


@dataclass(frozen=True)
class ExperimentResponse:
    """What a shopper is shown under a treatment.

    Attributes:
        engine: Whose version answered; with interleaving, the control's.
        answer: The entries, and what they rest on.
        wish: What it answers: what was asked for, as the treatment changes it.
        teams: With interleaving, the variant that each entry comes from; else empty.
        by_rules: Whether rules had a say.
    """

    engine: Engine
    answer: RecommendationResponse
    wish: RecommendationRequest
    teams: list[str]
    by_rules: bool

    def exposure(
        self,
        treatment: Treatment,
        recommendation_id: str,
        time: dt.datetime,
        *,
        customer: str | None,
        session: str | None,
        is_alone: bool,
        simulated: bool,
    ) -> Exposure:
        """What is written down of it; `is_alone`: the question said what is kept nowhere, such as a click."""
        items: list[dict[str, Any]] = [
            {"product_id": entry.product_id, "propensity": entry.propensity} for entry in self.answer.entries
        ]
        for item, team in zip(items, self.teams, strict=False):
            item["team"] = team
        wish = self.wish
        return Exposure(
            recommendation_id, time, customer, session, treatment.variants, self.engine.published.version,
            wish.mode, wish.exploration, is_alone or wish.is_filtered or self.by_rules,
            self.answer.answered_by, items, simulated,
        )  # fmt: skip


def runnable(
    experiments: Sequence[Experiment], others: Mapping[str, Engine], rule_sets: Collection[str]
) -> list[Experiment]:
    """Those whose models and rule sets are all there. Of another not even its control is shown: shares would be off."""
    return [
        each for each in experiments if models_of([each]) <= others.keys() and rule_sets_of([each]) <= set(rule_sets)
    ]


def respond(
    now: Engine,
    others: Mapping[str, Engine],
    treatment: Treatment,
    wish: RecommendationRequest,
    unavailable: frozenset[str],
    tired_of: FrequencyCapped,
    *,
    at_once: bool = False,
) -> ExperimentResponse:
    """What a shopper sees.

    Args:
        now: The current index.
        others: Those that experiments compare with it, by name or version: all that the treatment needs.
        treatment: Of the shopper.
        wish: What they asked for.
        unavailable: What may not be shown.
        tired_of: What the shopper has seen often enough, by a rule set's cap.
        at_once: Without rankings made anew.

    Raises:
        RankingNeeded: it was to be at once, and takes a ranking.
    """
    sides = [
        treatment.variant.model_copy(update={lever: getattr(side, lever) for lever in side.levers})
        for side in treatment.mixed.values()
    ] or [treatment.variant]
    engines = [now if side.model == CHAMPION else others[str(side.model)] for side in sides]
    wishes = [engine.without_tired(_changed(wish, side), tired_of) for engine, side in zip(engines, sides, strict=True)]
    answers = [
        RecommendationResponse([], HOLDOUT)
        if side.show == "nothing"
        else engine.answer(each, unavailable, at_once=at_once)
        for side, engine, each in zip(sides, engines, wishes, strict=True)
    ]
    by_rules = any(engine.has_rules(each) for engine, each in zip(engines, wishes, strict=True))
    if not treatment.mixed:
        return ExperimentResponse(engines[0], answers[0], wishes[0], [], by_rules)
    drafted = team_draft([each.entries for each in answers], wish.k, _product, lambda: random.getrandbits(1))
    names = list(treatment.mixed)
    by_chance = any(each.exploration for each in wishes)  # on top of the coins: nobody can tell
    entries = [replace(each.entry, propensity=None if by_chance else each.propensity) for each in drafted]
    mixed = RecommendationResponse(entries, answers[0].answered_by)
    return ExperimentResponse(engines[0], mixed, wishes[0], [names[each.team] for each in drafted], by_rules)


def _product(entry: RecommendedItem) -> str:
    return entry.product_id


def _changed(wish: RecommendationRequest, variant: Variant) -> RecommendationRequest:
    changes: dict[str, Any] = {}
    if variant.mode is not None:
        changes["mode"] = variant.mode
    if variant.exploration is not None:
        changes["exploration"] = variant.exploration
    if variant.rules is not None:
        changes["rules"] = variant.rules
    if variant.show == "popular":
        changes |= {"customer_id": "", "signals": ()}
    return replace(wish, **changes) if changes else wish
