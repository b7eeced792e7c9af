"""What Prometheus is told: how many requests, how long they took, what answers rested on. No customer is named."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rec_assets.serving.folder import Published

_access = logging.getLogger("rec_assets.access")

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class Metrics:
    """The metrics of a worker; with several, PROMETHEUS_MULTIPROC_DIR names the folder in which they add them up."""

    media_type = CONTENT_TYPE_LATEST

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._registry = CollectorRegistry()
        self._shared = "PROMETHEUS_MULTIPROC_DIR" in environment
        routes = ["method", "route"]
        self._requests = Counter(
            "rec_assets_requests", "Requests by route and status.", [*routes, "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "rec_assets_request_seconds", "How long they took.", routes, buckets=_SECONDS, registry=self._registry
        )
        self._answers = Counter(
            "rec_assets_answers", "Answers by what they rest on.", ["answered_by"], registry=self._registry
        )
        self._events = Counter("rec_assets_events", "Events recorded, each once.", registry=self._registry)
        self._unexposed = Counter(
            "rec_assets_unexposed",
            "Answers that an experiment was to be part of and could not.",
            registry=self._registry,
        )
        self._version = Gauge(
            "rec_assets_model_version", "Version of the model that answers.", registry=self._registry,
            multiprocess_mode="mostrecent",
        )  # fmt: skip
        self._as_of = Gauge(
            "rec_assets_index_as_of_seconds", "Last day that the index knows, in seconds since 1970.",
            registry=self._registry, multiprocess_mode="mostrecent",
        )  # fmt: skip

    def seen(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(seconds)

    def answered(self, rests_on: str) -> None:
        """A shopper was answered."""
        self._answers.labels(rests_on).inc()

    def unexposed(self) -> None:
        """An experiment's model isn't there, or the answer could not be written down: it was given as ever."""
        self._unexposed.inc()

    def recorded(self, events: int) -> None:
        """Events were written."""
        self._events.inc(events)

    def text(self, published: Published | None) -> bytes:
        """Everything, in Prometheus' text format."""
        if published is not None:
            self._version.set(published.version)
            self._as_of.set((published.as_of.toordinal() - 719_163) * 86_400)
        registry = self._registry
        if self._shared:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
        return generate_latest(registry)


class Observe:
    """Middleware: counts and times every request, and logs it by its route's template: paths hold customers' ids."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, note)
        finally:
            seconds = time.perf_counter() - started
            method, route = scope["method"], getattr(scope.get("route"), "path", "unknown")
            self.metrics.seen(method, route, status, seconds)
            _access.info("%s %s %d %.1f ms", method, route, status, 1000 * seconds)
