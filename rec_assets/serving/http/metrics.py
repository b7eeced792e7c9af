"""Prometheus metrics and the access log of one worker. Neither contains customer ids."""

from __future__ import annotations

import datetime as dt
import logging
import time
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rec_assets.serving.engine import Engine
from rec_assets.serving.http.rate_limit import RateLimit

_access_log = logging.getLogger("rec_assets.access")

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

disable_created_metrics()  # creation times of several workers can't be added up


class Metrics:
    """The metrics of this worker, in memory. `shared_metrics.py` adds up those of several workers.

    Attributes:
        answers: Recommendation responses, labeled with `answered_by`.
        events: New events.
        unexposed: Responses without a planned experiment.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=self.registry), partial(Gauge, registry=self.registry)
        route = ["method", "route"]
        self._requests = counter("rec_assets_requests", "Requests by route and status.", [*route, "status"])
        self._seconds = Histogram(
            "rec_assets_request_seconds", "Response time.", route, buckets=_SECONDS, registry=self.registry
        )
        based_on = "Recommendation responses by what they are based on."
        self.answers = counter("rec_assets_answers", based_on, ["answered_by"])
        self.events = counter("rec_assets_events", "New events.")
        self.unexposed = counter(
            "rec_assets_unexposed",
            "Responses without a planned experiment, because its model is missing or the exposure was not recorded.",
        )
        self._version = gauge("rec_assets_model_version", "Model version of the current index.")
        as_of = "As-of day of the current index, in seconds since 1970."
        self._as_of = gauge("rec_assets_index_as_of_seconds", as_of)

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request and its response time."""
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(seconds)

    def set_index(self, engine: Engine | None) -> None:
        """Set the gauges of the current index."""
        if engine is not None:
            self._version.set(engine.published.version)
            self._as_of.set((engine.published.as_of.toordinal() - dt.date(1970, 1, 1).toordinal()) * 86_400)


class MetricsMiddleware:
    """Counts, times and logs requests by the route's template, because paths contain customer ids.

    Of rejected requests, it logs only some: a flood of them must not fill the disk.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics
        self._limit, self._skipped = RateLimit(per_second=1, burst=60), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_and_note_status)
        finally:
            seconds = time.perf_counter() - start
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = getattr(scope.get("route"), "path", "unknown")
            self.metrics.count_request(method, route, status, seconds)
            self._log(method, route, status, seconds)

    def _log(self, method: str, route: str, status: int, seconds: float) -> None:
        if 400 <= status < 500:
            if self._limit.take("rejected"):
                self._skipped += 1
                return
            if self._skipped:
                _access_log.info("%d rejected requests were not logged", self._skipped)
                self._skipped = 0
        _access_log.info("%s %s %d %.1f ms", method, route, status, 1000 * seconds)
