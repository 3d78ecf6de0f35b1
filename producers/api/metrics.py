"""Prometheus figures of this process. What the whole installation does is in ``system_metrics``."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
BUCKETS_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60)


class Metrics:
    """A registry of our own, so that two applications in one process do not meet."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.submitted = Counter(
            "forebay_jobs_submitted", "Jobs accepted by this process.", registry=self.registry
        )
        self.waiting = Gauge(
            "forebay_waiting_callers", "Long-polls and event streams.", registry=self.registry
        )
        self.requests = Counter(
            "forebay_http_requests",
            "Requests answered.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "forebay_http_request_seconds",
            "Time until the answer began, long-polls included.",
            ["method", "route"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )

    def page(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)


class Measured:
    """Counts every answer by its route's pattern, never by its path."""

    def __init__(self, app: ASGIApp, metrics: Metrics, now_s: Callable[[], float]) -> None:
        self._app = app
        self._metrics = metrics
        self._now_s = now_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s = self._now_s()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")
                method = scope["method"] if scope["method"] in METHODS else "other"
                self._metrics.requests.labels(method, route, message["status"]).inc()
                self._metrics.seconds.labels(method, route).observe(self._now_s() - began_s)
            await send(message)

        await self._app(scope, receive, counted)
