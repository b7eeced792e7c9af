"""Routes with the tag `recommendations`: personal recommendations for a shopper, possibly under experiments."""

import datetime as dt
import uuid
from functools import partial
from typing import Annotated

from fastapi import Depends, FastAPI, Query
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from rec_assets.recsys.experiments.assignment import NOT_ASSIGNED, Assignment, assign_shopper
from rec_assets.serving.database.tables import READ
from rec_assets.serving.engine import Engine, FindCapped, RankingNeeded
from rec_assets.serving.experiments import ExperimentResponse, respond_under_experiments, runnable
from rec_assets.serving.http import schemas
from rec_assets.serving.http.dependencies import (
    Caller,
    CustomerId,
    CustomerToken,
    WorkerState,
    current_engine,
    require_scope,
)
from rec_assets.serving.http.errors import ERROR_RESPONSES
from rec_assets.serving.http.products import product_list_fields
from rec_assets.serving.http.rate_limit import RANKED_PRODUCT, RANKING
from rec_assets.serving.http.security import RequestRejected
from rec_assets.serving.recommendation import RecommendationRequest
from rec_assets.serving.recommender import build_signals
from rec_assets.serving.runtime import ServingRuntime


def add_recommendation_routes(app: FastAPI, state: WorkerState) -> None:
    """Add the routes to the app."""
    may_read, engine_of_request = Depends(require_scope(state, READ)), Depends(current_engine(state))

    @app.get("/v1/customers/{customer_id:id}/recommendations", tags=["recommendations"], responses=ERROR_RESPONSES)
    async def recommendations_for_customer(
        customer_id: CustomerId,
        query: Annotated[schemas.CustomerQuery, Query()],
        caller: Annotated[Caller, may_read],
        engine: Annotated[Engine, engine_of_request],
        token: CustomerToken = None,
    ) -> schemas.Recommendations:
        """Recommend products to a customer, by their history and their stored events since then."""
        caller.require_customer_token(customer_id, token)
        return await _recommend(query.to_body(customer_id), engine, caller, state)

    @app.post("/v1/recommendations", tags=["recommendations"], responses=ERROR_RESPONSES)
    async def recommendations(
        body: schemas.RecommendationBody,
        caller: Annotated[Caller, may_read],
        engine: Annotated[Engine, engine_of_request],
        token: CustomerToken = None,
    ) -> schemas.Recommendations:
        """Recommend products to a customer or a visitor, with the events of the current session in the request."""
        caller.require_customer_token(body.customer_id, token)
        return await _recommend(body, engine, caller, state)


async def _recommend(
    body: schemas.RecommendationBody, engine: Engine, caller: Caller, state: WorkerState
) -> schemas.Recommendations:
    runtime, online_snapshot = state.runtime, caller.online_snapshot
    customer, session = body.customer_id, body.session_id
    is_forgotten = customer is not None and runtime.is_forgotten(engine, customer, online_snapshot)
    attributes = engine.recommender.snapshot.attributes
    if problems := attributes.problems(body.filters.attributes.items(), public=caller.key.is_public):
        raise RequestRejected(422, "invalid_request", f"filters.attributes: {'; '.join(problems)}")
    request = _build_request(body, engine, state, is_forgotten=is_forgotten)
    recommendation_id = uuid.uuid4().hex
    indexes, today = runtime.indexes.comparable(engine), caller.now.astimezone(engine.zone).date()
    planned = [] if is_forgotten else runtime.experiments.value.on(today)
    running = runnable(planned, indexes, engine.responder.rule_sets.sets)
    unavailable, find_capped = online_snapshot.unavailable, _find_capped(runtime, body, caller.now)
    assignment = assign_shopper(running, customer, session) if running else NOT_ASSIGNED

    async def result_under(assignment: Assignment) -> ExperimentResponse:
        try:
            return respond_under_experiments(
                engine, indexes, assignment, request, unavailable, find_capped, cached_only=True
            )
        except RankingNeeded:
            caller.charge((RANKING + RANKED_PRODUCT * request.k) * max(1, len(assignment.interleaved)))
            rank = partial(respond_under_experiments, engine, indexes, assignment, request, unavailable, find_capped)
            return await state.ranking_queue.run(rank)

    result = await result_under(assignment)
    is_unexposed = len(running) < len(planned)
    if assignment.variants:
        exposure = result.exposure(
            assignment, recommendation_id, caller.now, customer=customer, session=session,
            is_replayable=not body.events, simulated=caller.is_simulated,
        )  # fmt: skip
        try:
            await run_in_threadpool(runtime.database_guard.write, lambda: runtime.online.record_exposure(exposure))
        except SQLAlchemyError:  # without a recorded exposure, the response must not depend on an experiment
            is_unexposed, assignment = True, NOT_ASSIGNED
            result = await result_under(assignment)
    if is_unexposed:
        state.metrics.unexposed.inc()
    state.metrics.answers.labels(result.response.answered_by).inc()
    return schemas.Recommendations(
        **product_list_fields(result.response.items, result.engine, recommendation_id),
        answered_by=result.response.answered_by,
        experiments=assignment.variants,
    )


def _build_request(
    body: schemas.RecommendationBody, engine: Engine, state: WorkerState, *, is_forgotten: bool
) -> RecommendationRequest:
    recent = partial(state.runtime.online.recent_events, body.customer_id, body.session_id, engine.since)
    try:
        stored = state.runtime.database_guard.read(recent)
    except SQLAlchemyError:  # without the database, only the events in the request count
        stored = []
    sent = [(event.type, event.product_id, body.session_id or "now") for event in body.events]
    filters = body.filters
    return RecommendationRequest(
        k=body.k,
        customer_id="" if body.customer_id is None or is_forgotten else body.customer_id,
        signals=build_signals(engine.recommender.name_products([*stored, *sent]), state.event_weights),
        mode=body.mode,
        categories=None if filters.categories is None else frozenset(filters.categories),
        brands=None if filters.brands is None else frozenset(filters.brands),
        attributes=tuple(filters.attributes.items()),
        price_min=filters.price_min,
        price_max=filters.price_max,
        exclude=frozenset(body.exclude),
        fallback_category=body.fallback_category,
        diversity=body.diversity,
        exploration=body.exploration,
        rules=engine.responder.rule_sets.default,
    )


def _find_capped(runtime: ServingRuntime, body: schemas.RecommendationBody, now: dt.datetime) -> FindCapped:
    """A function that finds the shopper's frequency-capped products; none if the database is unavailable."""

    def find(impressions: int, days: int) -> frozenset[str]:
        since = now - dt.timedelta(days=days)
        online, customer, session = runtime.online, body.customer_id, body.session_id
        try:
            return runtime.database_guard.read(lambda: online.frequency_capped(customer, session, since, impressions))
        except SQLAlchemyError:
            return frozenset()

    return find
