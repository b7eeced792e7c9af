"""Responses under experiments: apply the variants of a shopper to a request, and describe the response as an exposure.

`recsys.experiments` assigns shoppers to variants.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rec_assets.recsys.experiments.assignment import Assignment
from rec_assets.recsys.experiments.experiments_file import CHAMPION, Experiment, Variant, models_in, rule_sets_in
from rec_assets.recsys.experiments.interleaving import team_draft
from rec_assets.serving.database.events import Exposure
from rec_assets.serving.engine import Engine, FindCapped
from rec_assets.serving.recommendation import HOLDOUT, RecommendationRequest, RecommendationResponse


@dataclass(frozen=True)
class ExperimentResponse:
    """A response to a shopper in experiments, or in none.

    Attributes:
        engine: The index of the response; with interleaving, the control's.
        request: The request as the variants changed it.
        teams: With interleaving, the variant that each item comes from; else empty.
        uses_rules: Whether merchandising rules applied.
    """

    engine: Engine
    response: RecommendationResponse
    request: RecommendationRequest
    teams: list[str]
    uses_rules: bool

    def exposure(
        self, assignment: Assignment, recommendation_id: str, time: dt.datetime, *, customer: str | None,
        session: str | None, is_replayable: bool, simulated: bool,
    ) -> Exposure:  # fmt: skip
        """The exposure to record. `is_replayable`: the request had no events that are not stored."""
        items: list[dict[str, Any]] = [
            {"product_id": item.product_id, "propensity": item.propensity} for item in self.response.items
        ]
        for item, team in zip(items, self.teams, strict=False):
            item["team"] = team
        request = self.request
        return Exposure(
            recommendation_id, time, customer, session, assignment.variants, self.engine.published.version,
            request.mode, request.exploration, not is_replayable or request.is_filtered or self.uses_rules,
            self.response.answered_by, items, simulated,
        )  # fmt: skip


def runnable(
    experiments: Sequence[Experiment], indexes: Mapping[str, Engine], rule_sets: Collection[str]
) -> list[Experiment]:
    """Experiments whose models and rule sets all exist. The others pause in all variants, so that shares stay right."""
    return [
        each for each in experiments if models_in([each]) <= indexes.keys() and rule_sets_in([each]) <= set(rule_sets)
    ]


def respond_under_experiments(
    champion: Engine, indexes: Mapping[str, Engine], assignment: Assignment, request: RecommendationRequest,
    unavailable: frozenset[str], find_capped: FindCapped, *, cached_only: bool = False,
) -> ExperimentResponse:  # fmt: skip
    """Respond as the assignment of the shopper says.

    Args:
        champion: The current index.
        indexes: Other indexes that the assignment needs, by the model name or version in the experiment.
        assignment, request: Of the shopper.
        unavailable: Products that must not be shown.
        find_capped: Finds the products that a frequency cap leaves out.
        cached_only: Raise instead of ranking.

    Raises:
        RankingNeeded: with `cached_only`, if the response needs a ranking that is not cached.
    """
    variants = [
        assignment.variant.model_copy(update={field: getattr(variant, field) for field in variant.changed_fields})
        for variant in assignment.interleaved.values()
    ] or [assignment.variant]
    engines = [champion if variant.model == CHAMPION else indexes[str(variant.model)] for variant in variants]
    requests = [
        engine.exclude_capped(_apply(variant, request), find_capped)
        for engine, variant in zip(engines, variants, strict=True)
    ]
    responses = [
        RecommendationResponse([], HOLDOUT)
        if variant.show == "nothing"
        else engine.respond(each, unavailable, cached_only=cached_only)
        for variant, engine, each in zip(variants, engines, requests, strict=True)
    ]
    uses_rules = any(engine.responder.rules_for(each) for engine, each in zip(engines, requests, strict=True))
    if not assignment.interleaved:
        return ExperimentResponse(engines[0], responses[0], requests[0], [], uses_rules)
    rankings = [each.items for each in responses]
    drafted = team_draft(rankings, request.k, lambda item: item.product_id, lambda: random.getrandbits(1))
    names = list(assignment.interleaved)
    is_randomized = any(each.exploration for each in requests)  # the propensities of a mix of both are unknown
    items = [replace(each.item, propensity=None if is_randomized else each.propensity) for each in drafted]
    mixed = RecommendationResponse(items, responses[0].answered_by)
    return ExperimentResponse(engines[0], mixed, requests[0], [names[each.team] for each in drafted], uses_rules)


def _apply(variant: Variant, request: RecommendationRequest) -> RecommendationRequest:
    values = {name: getattr(variant, name) for name in ("mode", "exploration", "rules")}
    changes: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    if variant.show == "popular":
        changes |= {"customer_id": "", "signals": ()}
    return replace(request, **changes) if changes else request
