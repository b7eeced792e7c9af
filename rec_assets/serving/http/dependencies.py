"""What the routes share: the state of the worker, the authenticated caller of a request, and the current engine."""

import datetime as dt
import functools
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Header, Path, Request, Security
from fastapi.security import APIKeyHeader
from pydantic import AwareDatetime

from rec_assets.recsys.events import PURCHASE
from rec_assets.serving.database.guard import OnlineSnapshot
from rec_assets.serving.database.keys import Key, key_digest
from rec_assets.serving.database.tables import SIMULATE
from rec_assets.serving.engine import Engine
from rec_assets.serving.http import schemas
from rec_assets.serving.http.metrics import Metrics
from rec_assets.serving.http.ranking_queue import RankingQueue
from rec_assets.serving.http.rate_limit import KILOBYTE, SERVER_SHARE, RateLimit, caller_name
from rec_assets.serving.http.security import RequestRejected, check_customer_token
from rec_assets.serving.runtime import ServingRuntime
from rec_assets.settings import Settings

_BODY_METHODS = ("POST", "PUT")

_MIN_SIMULATED_TIME = dt.datetime(2000, 1, 1, tzinfo=dt.timezone.utc)

_log = logging.getLogger(__name__)

_header = APIKeyHeader(name="X-API-Key", auto_error=False, description="From `rec-assets keys add`.")

CustomerId = Annotated[schemas.Id, Path(description="As in the purchase logs.")]
ProductId = Annotated[schemas.Id, Path(description="As in the catalog.")]
_TOKEN = "A public key needs a token that the shop's server signed for the customer."
CustomerToken = Annotated[str | None, Header(alias="X-Customer-Token", max_length=200, description=_TOKEN)]
SimulatedTime = Annotated[
    AwareDatetime | None, Header(alias="X-Simulated-Time", description="The current time in the traffic simulator.")
]


@dataclass(frozen=True)
class WorkerState:
    """What the routes of one worker share."""

    settings: Settings
    runtime: ServingRuntime
    metrics: Metrics
    rate_limit: RateLimit
    ranking_queue: RankingQueue

    @functools.cached_property
    def event_weights(self) -> dict[str, float]:
        """Event type → weight as a signal, relative to a purchase."""
        return {**self.settings.feedback.weights, PURCHASE: 1.0}

    @property
    def customer_secret(self) -> str | None:
        """The secret that signs customer tokens; None if the shop has none."""
        secret = self.settings.api.customer_secret
        return secret.get_secret_value() if secret else None


@dataclass(frozen=True)
class Caller:
    """The authenticated caller of a request, its time, and the online snapshot that the response uses."""

    name: str
    rate_limit: RateLimit
    key: Key
    online_snapshot: OnlineSnapshot
    secret: str | None
    now: dt.datetime
    is_simulated: bool

    def charge(self, cost: float) -> None:
        """Charge a cost in addition to that of the request. Raises RequestRejected if the caller is in debt."""
        _charge(self.rate_limit, self.name, cost if self.key.is_public else cost * SERVER_SHARE, min_balance=0.0)

    def require_customer_token(self, customer_id: str | None, token: str | None) -> None:
        """Check that the caller may act for a customer. Raises RequestRejected if a public key has no valid token."""
        if customer_id is None or not self.key.is_public:
            return
        if self.secret is None or token is None:
            message = "a public key needs the X-Customer-Token of the customer; otherwise leave customer_id out"
            raise RequestRejected(403, "missing_token", message)
        check_customer_token(self.secret, customer_id, token, dt.datetime.now(dt.timezone.utc))


def require_scope(state: WorkerState, scope: str) -> Callable[..., Awaitable[Caller]]:
    """A dependency that authenticates the caller, checks the key's scope, and applies the rate limit."""
    settings, runtime, limit, secret = state.settings, state.runtime, state.rate_limit, state.customer_secret

    async def check(
        request: Request, key: Annotated[str | None, Security(_header)] = None, time: SimulatedTime = None
    ) -> Caller:
        if not settings.api.trusted_proxies and "x-forwarded-for" in request.headers:
            warn_of_unknown_proxy()
        online_snapshot = runtime.database_guard.snapshot()
        known = online_snapshot.keys.get(key_digest(key)) if key else None
        name = caller_name(known.name if known else "", request.client.host if request.client else "")
        _charge(limit, name, 1.0, min_balance=1.0)
        if key and not online_snapshot.counters:  # the keys were never read: the key may be valid
            message = "the database does not respond; see /health/ready"
            raise RequestRejected(503, "database_unavailable", message, {"Retry-After": "2"})
        authorized = _authorize(known, scope, has_key=bool(key))
        if time is not None and SIMULATE not in authorized.scopes:
            raise RequestRejected(403, "missing_scope", f"X-Simulated-Time needs a key with the scope {SIMULATE!r}")
        if time is not None and not _MIN_SIMULATED_TIME <= time <= dt.datetime.now(dt.timezone.utc):
            message = f"X-Simulated-Time must be between {_MIN_SIMULATED_TIME:%Y} and now"
            raise RequestRejected(422, "invalid_time", message)
        now = time or dt.datetime.now(dt.timezone.utc)
        caller = Caller(name, limit, authorized, online_snapshot, secret, now, time is not None)
        body = await request.body() if request.method in _BODY_METHODS else b""
        size = len(request.scope["query_string"]) + len(body)
        caller.charge(KILOBYTE * size / 1024)
        return caller

    return check


def current_engine(state: WorkerState) -> Callable[[], Awaitable[Engine]]:
    """A dependency that returns the engine of the current index."""
    runtime = state.runtime

    async def engine() -> Engine:
        if runtime.engine is None:
            message = runtime.missing().get("index", "no index is loaded")
            raise RequestRejected(503, "no_index", message, {"Retry-After": "5"})
        if not runtime.rules.is_read:  # a response must not show products that unread rules exclude
            message = "the merchandising rules can't be read; see /health/ready"
            raise RequestRejected(503, "no_rules", message, {"Retry-After": "5"})
        return runtime.engine

    return engine


def _charge(limit: RateLimit, caller: str, cost: float, *, min_balance: float) -> None:
    if wait := limit.take(caller, cost=cost, min_balance=min_balance):
        message = f"too many requests: try again in {wait:.1f} s"
        raise RequestRejected(429, "too_many_requests", message, {"Retry-After": str(math.ceil(wait))})


def _authorize(key: Key | None, scope: str, *, has_key: bool) -> Key:
    challenge = {"WWW-Authenticate": "X-API-Key"}
    if not has_key:
        message = "send a key in the header X-API-Key; create one with `rec-assets keys add`"
        raise RequestRejected(401, "missing_key", message, challenge)
    if key is None:
        message = "this key does not exist or was revoked; create one with `rec-assets keys add`"
        raise RequestRejected(401, "invalid_key", message, challenge)
    if key.has_expired(dt.datetime.now(dt.timezone.utc)):
        message = "this key has expired; create a new one with `rec-assets keys add`"
        raise RequestRejected(401, "expired_key", message, challenge)
    if scope not in key.scopes:
        raise RequestRejected(403, "missing_scope", f"this request needs a key with the scope {scope!r}")
    return key


@functools.cache
def warn_of_unknown_proxy() -> None:
    """Log a warning, once because any caller can cause it."""
    _log.warning(
        "requests have the header X-Forwarded-For, but REC_API__TRUSTED_PROXIES is empty. If they come through a "
        "proxy, add its address there; otherwise the rate limits count all its visitors as one caller"
    )
