"""The API: routes from typed questions to typed answers. No Spark, no Java, no Dagster.

What is answered is decided in `answers.py`, from what `live.py` holds; what may be asked stands in `schemas.py`.
"""

import datetime as dt
import functools
import logging
import math
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, Header, Path, Query, Request, Response, Security
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import APIKeyHeader
from pydantic import AwareDatetime
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from threadpoolctl import threadpool_limits

from rec_assets.recsys.events import MONEY, PURCHASE
from rec_assets.recsys.experiments.assignment import NO_TREATMENT, Treatment, assign_treatment
from rec_assets.recsys.experiments.spec import Experiments, read_experiments
from rec_assets.recsys.rules.spec import NO_RULES, read_rules
from rec_assets.serving import schemas
from rec_assets.serving.addresses import RawAddresses, SafeHeaders
from rec_assets.serving.costs import EVENT, KILOBYTE, RANKED_PRODUCT, RANKING, SERVER_SHARE, RankingQueue
from rec_assets.serving.engine import Engine, FrequencyCapped, RankingNeeded
from rec_assets.serving.experiments import ExperimentResponse, respond, runnable
from rec_assets.serving.folder import ServingFolder
from rec_assets.serving.metrics import Metrics, Observe
from rec_assets.serving.online import Event, Key, OnlineState, WriteResult, key_digest, sender_of
from rec_assets.serving.problems import PROBLEMS, NothingTaken, handle_errors
from rec_assets.serving.recommender import signals_of
from rec_assets.serving.responder import RecommendationRequest, RecommendedItem
from rec_assets.serving.runtime import OnlineSnapshot, ServingRuntime
from rec_assets.serving.security import RateLimit, Refused, caller_name, check_customer_token
from rec_assets.serving.shared_metrics import SharedMetrics
from rec_assets.serving.storefront import add_pages
from rec_assets.serving.tables import ADMIN, EVENTS, READ, SALES, SIMULATE
from rec_assets.serving.watched import WatchedFile
from rec_assets.settings import Settings, get_settings

OLDEST_EVENT_DAYS = 30
"""An event may lie so far back, as far as events are kept; one ahead, by a client's wrong clock, happens now."""

DEAREST = 20
"""Times the catalog's price: what cost more is taken for a mistake, such as cents for euros, or an attack."""

_WITH_BODY = ("POST", "PUT")

_log = logging.getLogger(__name__)

_FIRST_TIME = dt.datetime(2000, 1, 1, tzinfo=dt.timezone.utc)

_header = APIKeyHeader(name="X-API-Key", auto_error=False, description="From `rec-assets keys add`.")

CustomerId = Annotated[schemas.Id, Path(description="As in the purchase logs.")]
CustomerToken = Annotated[
    str | None,
    Header(
        alias="X-Customer-Token",
        max_length=200,
        description="A public key may speak of a customer only with a token that the shop's server signed for them.",
    ),
]
SimulatedTime = Annotated[
    AwareDatetime | None,
    Header(alias="X-Simulated-Time", description="Of the traffic simulator: what time it takes it to be."),
]
ProductId = Annotated[schemas.Id, Path(description="As in the catalog.")]


@dataclass(frozen=True)
class Caller:
    """Who asks, when, and what is known as of the request. A simulator says itself what time it is."""

    name: str
    limit: RateLimit
    key: Key
    kept: OnlineSnapshot
    secret: str | None
    now: dt.datetime
    simulated: bool

    def pay(self, work: float) -> None:
        """Count work beyond the plain request. Raises `Refused` where the caller is in debt already."""
        _spend(self.limit, self.name, work * (1.0 if self.key.is_public else SERVER_SHARE), least=0.0)

    def may_speak_of(self, customer_id: str | None, token: str | None) -> None:
        """Raises `Refused` where the key is public and no token says that this customer is meant."""
        if customer_id is None or not self.key.is_public:
            return
        if self.secret is None or token is None:
            message = "a public key may speak of a customer only with their X-Customer-Token; leave customer_id out"
            raise Refused(403, "no_token", message)
        check_customer_token(self.secret, customer_id, token, dt.datetime.now(dt.timezone.utc))


def _spend(limit: RateLimit, caller: str, cost: float, *, least: float) -> None:
    if wait := limit.take(caller, cost=cost, least=least):
        message = f"slow down: try again in {wait:.1f} s"
        raise Refused(429, "too_many_requests", message, {"Retry-After": str(math.ceil(wait))})


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application; one a worker."""
    settings = settings or get_settings()
    if settings.api.database_url is None:
        with suppress(OSError):  # said by /health/ready, as any database that doesn't answer
            settings.serving.mkdir(parents=True, exist_ok=True)
    rules = WatchedFile(settings.rules, read_rules, NO_RULES, lambda found: found.files)
    live = ServingRuntime(ServingFolder(settings.serving), OnlineState(settings.online_url), rules)
    experiments = WatchedFile(settings.experiments, read_experiments, Experiments())
    live.watch("experiments", experiments)
    metrics, limit = Metrics(), RateLimit(settings.api.requests_per_second, settings.api.burst)
    rankings = RankingQueue()
    shared = SharedMetrics(metrics, lambda: metrics.answers_from(live.engine.published if live.engine else None))
    weights = {**settings.feedback.weights, PURCHASE: 1.0}

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        threadpool_limits(1)  # a worker is a core's: sums that wait for other cores are slower under load
        live.start()
        shared.start()
        yield
        shared.stop()
        live.stop()

    app = FastAPI(
        title="rec_assets",
        summary="Product recommendations in real time.",
        description=_DESCRIPTION,
        version="1",
        lifespan=lifespan,
        openapi_tags=_TAGS,
        redirect_slashes=False,
        docs_url=None,  # FastAPI's pages load their scripts from elsewhere; `storefront.py` has one that doesn't
        redoc_url=None,
        max_body_size=settings.api.max_body_kb * 1024,
    )
    app.state.live = live

    secret = settings.api.customer_secret.get_secret_value() if settings.api.customer_secret else None

    def allowed(scope: str) -> Callable[..., Awaitable[Caller]]:
        """A dependency: the caller has a key with the scope, and hasn't asked too often."""

        async def check(
            request: Request, key: Annotated[str | None, Security(_header)] = None, time: SimulatedTime = None
        ) -> Caller:
            if not settings.api.trusted_proxies and "x-forwarded-for" in request.headers:
                _say_that_a_proxy_is_unknown()
            kept = live.kept()
            known = kept.keys.get(key_digest(key)) if key else None
            caller = caller_name(known.name if known else "", request.client.host if request.client else "")
            _spend(limit, caller, 1.0, least=1.0)
            if key and not kept.counters:  # never read: that isn't the key's fault
                raise Refused(503, "database", "the database doesn't answer, see /health/ready", {"Retry-After": "2"})
            found = _authorize(known, scope, has_key=bool(key))
            if time is not None and SIMULATE not in found.scopes:
                raise Refused(403, "wrong_scope", f"X-Simulated-Time takes a key with the scope {SIMULATE!r}")
            if time is not None and not _FIRST_TIME <= time <= dt.datetime.now(dt.timezone.utc):
                raise Refused(422, "wrong_time", f"X-Simulated-Time must lie between {_FIRST_TIME:%Y} and now")
            now = time or dt.datetime.now(dt.timezone.utc)
            asking = Caller(caller, limit, found, kept, secret, now, time is not None)
            size = len(request.scope["query_string"]) + (
                len(await request.body()) if request.method in _WITH_BODY else 0
            )
            asking.pay(KILOBYTE * size / 1024)
            return asking

        return check

    may_read, may_send, may_administer = Depends(allowed(READ)), Depends(allowed(EVENTS)), Depends(allowed(ADMIN))

    async def engine() -> Engine:
        """The index that this request is answered from, wholly."""
        if live.engine is None:
            raise Refused(503, "no_index", live.ready().get("index", "no index is loaded"), {"Retry-After": "5"})
        if not live.rules.is_read:  # what they forbid must not be shown
            raise Refused(503, "no_rules", "the rules can't be read, see /health/ready", {"Retry-After": "5"})
        return live.engine

    async def recommend(question: schemas.RecommendationBody, now: Engine, caller: Caller) -> schemas.Recommendations:
        customer, kept = question.customer_id, caller.kept
        is_forgotten = customer is not None and live.is_forgotten(now, customer, kept)
        done = _done_since(live, question, now)
        asked = [(event.type, event.product_id, question.session_id or "now") for event in question.events]
        wish = RecommendationRequest(
            k=question.k,
            customer_id="" if customer is None or is_forgotten else customer,
            signals=signals_of([*done, *asked], weights),
            mode=question.mode,
            categories=None if question.filters.categories is None else frozenset(question.filters.categories),
            price_min=question.filters.price_min,
            price_max=question.filters.price_max,
            exclude=frozenset(question.exclude),
            segment=question.segment,
            diversity=question.diversity,
            exploration=question.exploration,
            rules=now.answerer.rules.default,
        )
        recommendation_id, session = uuid.uuid4().hex, question.session_id
        others, today = live.beside(now), caller.now.astimezone(now.zone).date()
        planned = [] if is_forgotten else experiments.value.on(today)
        running, seen = runnable(planned, others, now.answerer.rules.sets), tired(question, caller.now)
        treatment = assign_treatment(running, customer, session) if running else NO_TREATMENT

        async def shown_under(treatment: Treatment) -> ExperimentResponse:
            try:
                return respond(now, others, treatment, wish, kept.unavailable, seen, at_once=True)
            except RankingNeeded:
                caller.pay((RANKING + RANKED_PRODUCT * wish.k) * max(1, len(treatment.mixed)))
                return await rankings.run(lambda: respond(now, others, treatment, wish, kept.unavailable, seen))

        shown = await shown_under(treatment)
        is_logged = len(running) == len(planned)
        if treatment.variants:
            exposure = shown.exposure(
                treatment,
                recommendation_id,
                caller.now,
                customer=customer,
                session=session,
                is_alone=bool(question.events),
                simulated=caller.simulated,
            )
            try:
                await run_in_threadpool(live.write, lambda: live.online.expose(exposure))
            except SQLAlchemyError:  # what nobody can judge is answered as ever
                is_logged, treatment = False, NO_TREATMENT
                shown = await shown_under(treatment)
        if not is_logged:
            metrics.unexposed()
        metrics.answered(shown.answer.answered_by)
        return schemas.Recommendations(
            **_shown(shown.answer.entries, shown.engine, recommendation_id),
            answered_by=shown.answer.answered_by,
            experiments=treatment.variants,
        )

    def tired(question: schemas.RecommendationBody, now: dt.datetime) -> FrequencyCapped:
        """What the shopper saw often enough; nothing where the database doesn't answer."""

        def tired_of(most: int, days: int) -> frozenset[str]:
            since = now - dt.timedelta(days=days)
            try:
                return live.ask(lambda: live.online.tired_of(question.customer_id, question.session_id, since, most))
            except SQLAlchemyError:
                return frozenset()

        return tired_of

    def related(name: str, product_id: str, k: int, now: Engine, kept: OnlineSnapshot) -> schemas.ProductList:
        place = now.recommender.place.get(product_id)
        if place is None:
            raise Refused(404, "unknown_product", "the catalog of the current index has no product of this id")
        found, score = now.related[name](place)
        return _shelf(now, kept, found, score, k, source=name, reason=_REASONS[name])

    @app.get("/v1/customers/{customer_id:id}/recommendations", tags=["recommend"], responses=PROBLEMS)
    async def recommendations_of_a_customer(
        customer_id: CustomerId,
        wish: Annotated[schemas.CustomerQuery, Query()],
        caller: Annotated[Caller, may_read],
        now: Annotated[Engine, Depends(engine)],
        token: CustomerToken = None,
    ) -> schemas.Recommendations:
        """The best products for a customer, by their history and all they did up to now."""
        caller.may_speak_of(customer_id, token)
        return await recommend(wish.question(customer_id), now, caller)

    @app.post("/v1/recommendations", tags=["recommend"], responses=PROBLEMS)
    async def recommendations(
        question: schemas.RecommendationBody,
        caller: Annotated[Caller, may_read],
        now: Annotated[Engine, Depends(engine)],
        token: CustomerToken = None,
    ) -> schemas.Recommendations:
        """The best products for a customer or a visitor, with what they have just done."""
        caller.may_speak_of(question.customer_id, token)
        return await recommend(question, now, caller)

    def product_route(name: str, about: str) -> None:
        async def route(
            product_id: ProductId,
            wish: Annotated[schemas.ProductQuery, Query()],
            caller: Annotated[Caller, may_read],
            now: Annotated[Engine, Depends(engine)],
        ) -> schemas.ProductList:
            return related(name, product_id, wish.k, now, caller.kept)

        responses = {**PROBLEMS, 404: {"model": schemas.Problem, "description": "No such product."}}
        app.get(
            f"/v1/products/{{product_id:id}}/{name}", tags=["products"], responses=responses, summary=about,
            operation_id=name,
        )(route)  # fmt: skip

    product_route("similar", "What could stand in for a product")
    product_route("complements", "What is bought along with a product and serves another need")
    product_route("upsell", "What could stand in for a product and is dearer")

    @app.get("/v1/trending", tags=["products"], responses=PROBLEMS)
    async def trending(
        wish: Annotated[schemas.TrendingQuery, Query()],
        caller: Annotated[Caller, may_read],
        now: Annotated[Engine, Depends(engine)],
    ) -> schemas.ProductList:
        """What sells more of late than it used to."""
        found, score = now.trending
        if wish.category is not None:
            state = now.recommender.state
            keep = state.categories[state.category[found]] == wish.category
            found, score = found[keep], score[keep]
        return _shelf(now, caller.kept, found, score, wish.k, source="trending", reason="on the rise")

    @app.post("/v1/events", tags=["events"], responses=PROBLEMS)
    def record_events(
        batch: schemas.EventBatch, caller: Annotated[Caller, may_send], token: CustomerToken = None
    ) -> schemas.Recorded:
        """Say what visitors did. Answered once it is on disk; safe to send again.

        Events that are wrong are left out and named in `refused`; where all are, that is a 422.
        """
        caller.pay(EVENT * len(batch.events))
        now, refused = caller.now, dict[int, str]()
        oldest = min(OLDEST_EVENT_DAYS, settings.api.keep_event_days - 1)
        events = dict[int, Event]()
        for number, event in enumerate(batch.events):
            found = _as_event(event, number, len(batch.events), caller, oldest, live.engine)
            if isinstance(found, schemas.WrongEvent):
                refused[number] = found.why
            else:
                events[number] = found
        for customer in {event.customer_id for event in events.values()}:
            caller.may_speak_of(customer, token)
        written = live.write(lambda: live.online.record(list(events.values()), now)) if events else WriteResult(0, {})
        places = list(events)
        refused |= {places[number]: why for number, why in written.refused.items()}
        told = [schemas.RefusedEvent(number=number, message=refused[number]) for number in sorted(refused)]
        if len(refused) == len(batch.events):
            raise NothingTaken(told)
        metrics.recorded(written.new)
        return schemas.Recorded(new=written.new, known=len(batch.events) - written.new - len(told), refused=told)

    @app.put("/v1/products/{product_id:id}/availability", tags=["administration"], responses=PROBLEMS)
    def set_availability(
        product_id: ProductId, wish: schemas.Availability, caller: Annotated[Caller, may_administer]
    ) -> schemas.ProductAvailability:
        """Take a product out of all answers at once, or put it back."""
        live.write(lambda: live.online.set_available(product_id, wish.available))
        known = live.engine is not None and product_id in live.engine.recommender.place
        return schemas.ProductAvailability(product_id=product_id, available=wish.available, in_catalog=known)

    @app.delete("/v1/customers/{customer_id:id}", tags=["administration"], responses=PROBLEMS)
    def forget_customer(customer_id: CustomerId, caller: Annotated[Caller, may_administer]) -> schemas.Forgotten:
        """Forget a customer: their events and all answers that rest on what is known of them, at once."""
        deleted = live.write(lambda: live.online.forget(customer_id, dt.datetime.now(dt.timezone.utc)))
        is_known = live.engine is not None and live.engine.answerer.is_known(customer_id)
        return schemas.Forgotten(customer_id=customer_id, events_deleted=deleted, in_index=is_known)

    @app.get("/health/live", tags=["health"])
    async def is_alive() -> schemas.Health:
        """The process answers."""
        return schemas.Health(status="ok")

    @app.get("/health/ready", tags=["health"], responses={503: {"model": schemas.Health}})
    def is_ready(response: Response) -> schemas.Health:
        """Requests can be answered: an index is loaded and the database answers; `warnings` name what else is wrong."""
        missing, loaded = live.ready(), live.engine
        response.status_code = 503 if missing else 200
        return schemas.Health(
            status="not ready" if missing else "ok",
            missing=missing,
            warnings=live.warnings(),
            model_version=loaded.published.version if loaded else None,
            as_of=loaded.published.as_of if loaded else None,
        )

    @app.get("/metrics", tags=["health"], response_class=Response)
    def show_metrics() -> Response:
        """Counters and latencies for Prometheus; nothing in them names a customer."""
        return Response(shared.text(), media_type=metrics.media_type)

    key = settings.api.storefront_key
    add_pages(app, live, key.get_secret_value() if key else None, secret)
    handle_errors(app)

    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(settings.api.allowed_origins),
        allow_methods=["GET", "POST"],
        allow_headers=["X-API-Key", "X-Customer-Token", "Content-Type"],
        max_age=600,
    )
    for middleware in (RawAddresses, SafeHeaders):
        app.add_middleware(middleware)
    app.add_middleware(Observe, metrics=metrics)
    return app


@functools.cache
def _say_that_a_proxy_is_unknown() -> None:
    """Say it once, because any caller can cause it."""
    _log.warning(
        "requests come with X-Forwarded-For, and REC_API__TRUSTED_PROXIES is empty: if they come through a proxy, name "
        "its address there, or the limits take all its visitors for one caller"
    )


def _done_since(live: ServingRuntime, question: schemas.RecommendationBody, now: Engine) -> list[tuple[str, str, str]]:
    if question.customer_id is None and question.session_id is None:
        return []
    try:
        return live.ask(lambda: live.online.events_of(question.customer_id, question.session_id, now.since))
    except SQLAlchemyError:
        return []


def _authorize(key: Key | None, scope: str, *, has_key: bool) -> Key:
    asks = {"WWW-Authenticate": "X-API-Key"}
    if not has_key:
        raise Refused(401, "no_key", "send a key in the header X-API-Key; `rec-assets keys add` makes one", asks)
    if key is None:
        raise Refused(401, "wrong_key", "this key is not known, or was taken back", asks)
    if key.has_expired(dt.datetime.now(dt.timezone.utc)):
        raise Refused(401, "expired_key", "this key has expired; `rec-assets keys add` makes another", asks)
    if scope not in key.scopes:
        raise Refused(403, "wrong_scope", f"this takes a key with the scope {scope!r}")
    return key


def _as_event(
    event: schemas.NewEvent | schemas.WrongEvent,
    number: int,
    count: int,
    caller: Caller,
    oldest: int,
    engine: Engine | None,
) -> Event | schemas.WrongEvent:
    if isinstance(event, schemas.WrongEvent):
        return event
    if event.type in MONEY and SALES not in caller.key.scopes:
        return schemas.WrongEvent(
            f"type: a {event.type} takes a key with the scope {SALES!r}, which belongs to the shop's server"
        )
    usual = None if engine is None or event.unit_price is None else engine.recommender.price_of(event.product_id)
    if usual and event.unit_price is not None and event.unit_price > DEAREST * usual:
        return schemas.WrongEvent(
            f"unit_price: {event.unit_price:g} is more than {DEAREST} times the catalog's price of {usual:g}; send "
            "the price of one piece, in the catalog's currency and not in cents"
        )
    # Without times, the events of a batch happened in its order.
    now = caller.now
    happened = min(event.time or now - dt.timedelta(microseconds=count - number), now)
    if happened < now - dt.timedelta(days=oldest):
        return schemas.WrongEvent(f"time: must lie within the last {oldest} days, or be left out")
    sender = sender_of(event.customer_id, event.session_id, is_public=caller.key.is_public)
    return Event(**{**event.model_dump(), "time": happened, "sender": sender})


def _shown(entries: list[RecommendedItem], now: Engine, recommendation_id: str) -> dict[str, Any]:
    return {
        "recommendation_id": recommendation_id,
        "model_version": now.published.version,
        "as_of": now.published.as_of,
        "items": [_item(rank, entry) for rank, entry in enumerate(entries, start=1)],
    }


def _item(rank: int, entry: RecommendedItem) -> schemas.Item:
    shown = {name: value for name, value in vars(entry).items() if name != "propensity"}
    return schemas.Item(rank=rank, **{**shown, "score": round(entry.score, 6)})  # float32 tells no more


def _shelf(
    now: Engine, kept: OnlineSnapshot, found: np.ndarray, score: np.ndarray, k: int, *, source: str, reason: str
) -> schemas.ProductList:
    keep = np.flatnonzero(now.may_be_shown(kept.unavailable)[found])[:k]
    entries = [now.answerer.entry(int(found[i]), float(score[i]), source, reason) for i in keep]
    return schemas.ProductList(**_shown(entries, now, uuid.uuid4().hex))


_REASONS = {"similar": "alike", "complements": "bought together", "upsell": "alike, and finer"}
_TAGS = [
    {"name": "recommend", "description": "What a shopper should see. Scope: `read`."},
    {"name": "products", "description": "What goes with a product, and what is on the rise. Scope: `read`."},
    {
        "name": "events",
        "description": "What visitors did: it changes the next answer. Scope: `events`; purchases and "
        "returns take `sales`, too.",
    },
    {"name": "administration", "description": "Stock, and customers' right to be forgotten. Scope: `admin`."},
    {"name": "health", "description": "For load balancers and Prometheus. No key."},
]
_DESCRIPTION = """
Recommendations from a shop's purchase logs, with the visitor's last click taken into account.

Every request but those of *health* takes a key in the header `X-API-Key`; `rec-assets keys add NAME --scope read` makes
one. Press **Authorize**, paste it, and try the calls on this page.

Typical use: ask `GET /v1/customers/{id}/recommendations`, show the items with their `reason`, send `impression` and
`click` events with the answer's `recommendation_id` to `POST /v1/events`, and ask again: the answer has changed.
"""
