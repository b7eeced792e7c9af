"""The API: builds the FastAPI app of one worker from the routes, handlers and middleware in `http/`."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from threadpoolctl import threadpool_limits

from rec_assets.recsys.experiments.experiments_file import Experiments, read_experiments
from rec_assets.recsys.rules.rules_file import EMPTY_RULE_SETS, read_rules
from rec_assets.serving.database.online_state import OnlineState
from rec_assets.serving.http.administration import add_administration_routes
from rec_assets.serving.http.browser_pages import add_pages
from rec_assets.serving.http.dependencies import WorkerState
from rec_assets.serving.http.errors import add_error_handlers
from rec_assets.serving.http.events import add_event_routes
from rec_assets.serving.http.health import add_health_routes
from rec_assets.serving.http.metrics import Metrics, MetricsMiddleware
from rec_assets.serving.http.middleware import RawPathMiddleware, SecurityHeadersMiddleware
from rec_assets.serving.http.products import add_product_routes
from rec_assets.serving.http.ranking_queue import RankingQueue
from rec_assets.serving.http.rate_limit import RateLimit
from rec_assets.serving.http.recommendations import add_recommendation_routes
from rec_assets.serving.http.shared_metrics import SharedMetrics
from rec_assets.serving.index_files.folder import ServingFolder
from rec_assets.serving.runtime import ServingRuntime
from rec_assets.serving.watched_file import WatchedFile
from rec_assets.settings import Settings, get_settings


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the app of one worker."""
    settings = settings or get_settings()
    if settings.api.database_url is None:
        with suppress(OSError):  # /health/ready reports it
            settings.serving.mkdir(parents=True, exist_ok=True)
    rules = WatchedFile(settings.rules, read_rules, EMPTY_RULE_SETS, lambda rules: rules.files)
    experiments = WatchedFile(settings.experiments, read_experiments, Experiments())
    runtime = ServingRuntime(ServingFolder(settings.serving), OnlineState(settings.online_url), rules, experiments)
    metrics, limit = Metrics(), RateLimit(settings.api.requests_per_second, settings.api.burst)
    state = WorkerState(settings, runtime, metrics, limit, RankingQueue())
    shared_metrics = SharedMetrics(metrics, lambda: metrics.set_index(runtime.engine))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        threadpool_limits(1)  # each worker has one core: math that waits for other cores is slower under load
        runtime.start()
        gc.collect()
        gc.freeze()  # else each full pass of the garbage collector visits the index and all modules
        shared_metrics.start()
        yield
        gc.unfreeze()
        shared_metrics.stop()
        runtime.stop()

    app = FastAPI(
        title="rec_assets",
        summary="Product recommendations in real time.",
        description=_DESCRIPTION,
        version="1",
        lifespan=lifespan,
        openapi_tags=_TAGS,
        redirect_slashes=False,
        docs_url=None,  # `browser_pages.py` serves /docs with local scripts; FastAPI's page loads them from a CDN
        redoc_url=None,
        max_body_size=settings.api.max_body_kb * 1024,
    )
    app.state.runtime = runtime
    add_recommendation_routes(app, state)
    add_product_routes(app, state)
    add_event_routes(app, state)
    add_administration_routes(app, state)
    add_health_routes(app, runtime, shared_metrics)
    add_pages(app, state)
    add_error_handlers(app)

    app.add_middleware(
        CORSMiddleware, allow_origins=list(settings.api.allowed_origins), allow_methods=["GET", "POST"],
        allow_headers=["X-API-Key", "X-Customer-Token", "Content-Type"], max_age=600,
    )  # fmt: skip
    app.add_middleware(RawPathMiddleware)
    app.add_middleware(SecurityHeadersMiddleware)
    app.add_middleware(MetricsMiddleware, metrics=metrics)
    return app


_TAGS = [
    {"name": "recommendations", "description": "Recommendations for a shopper. Scope: `read`."},
    {"name": "products", "description": "Related and trending products. Scope: `read`."},
    {
        "name": "events",
        "description": "What shoppers did. The next response takes it into account. Scope: `events`; purchases and "
        "returns also need `sales`.",
    },
    {"name": "administration", "description": "Availability and the right to erasure. Scope: `admin`."},
    {"name": "health", "description": "For load balancers and Prometheus. No key."},
]
_DESCRIPTION = """
Recommendations from a shop's purchase logs and the shopper's latest clicks.

Every request needs a key in the header `X-API-Key`, except for *health*. Create one with
`rec-assets keys add NAME --scope read`. Press **Authorize**, paste the key, and try the requests on this page.

Typical use:

1. Request `GET /v1/customers/{id}/recommendations`.
2. Show the items with their `reason`.
3. Send `impression` and `click` events with the response's `recommendation_id` to `POST /v1/events`.
4. Request again: the recommendations take the events into account.
"""
