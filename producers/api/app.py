"""Puts the service together, and runs it on a socket.

``create_app`` has no side effects: no thread, no connection before the first request.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from producers import collection
from producers.api import (
    bulk,
    cards,
    docs,
    evaluations,
    events,
    files,
    groups,
    health,
    jobs,
    lifecycle,
    models,
    openai,
    openapi,
    problems,
    promotion,
    training,
    trials,
    webhooks,
)
from producers.api.auth import is_loopback
from producers.api.front import Front
from producers.api.metrics import Measured
from producers.api.parts import ApiParts
from producers.api.protocol import http_protocol
from producers.api.service import Service

KEEP_ALIVE_S = 75
BACKLOG_CONNECTIONS = 2048


def create_app(parts: ApiParts) -> FastAPI:
    """The ASGI application over these parts."""
    service = Service(parts)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.watcher.close()
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="Forebay",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    for noun in (
        jobs,
        events,
        bulk,
        training,
        groups,
        files,
        models,
        lifecycle,
        cards,
        promotion,
        trials,
        evaluations,
        webhooks,
        openai,
        health,
        docs,
    ):
        # Flat, not by include_router: one level to match, and every route's methods in sight.
        app.router.routes.extend(noun.router.routes)
    problems.install(app)
    openapi.install(app)
    return app


def asgi(app: FastAPI) -> ASGIApp:
    """What is served: the routes of ``app`` on their short way, measured, every error answered."""
    service: Service = app.state.service
    # The outermost comes first: even what the measuring raises gets an answer.
    return openai.Envelope(
        problems.LastResort(
            Measured(Front(app), metrics=service.metrics, now_s=service.parts.clock.monotonic_s)
        )
    )


class _Server(uvicorn.Server):
    """uvicorn, told to wake the waiting before it waits for them, and to leave signals be."""

    def __init__(
        self, config: uvicorn.Config, service: Service, started: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._service = service
        self._say_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._say_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.watcher.close()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the serving and nothing else: the root has more to put away."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {sig: signal.signal(sig, self.handle_exit) for sig in STOPS}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)


STOPS = (signal.SIGTERM, signal.SIGINT)


class ApiServer:
    """The service on a port. ``run`` blocks; ``stop`` may come from any thread."""

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        service: Service = app.state.service
        service.keyless = is_loopback(host)
        config = uvicorn.Config(
            asgi(app),
            host=host,
            port=port,
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, round(service.settings.shutdown_grace_s)),
            backlog=BACKLOG_CONNECTIONS,
            http=http_protocol(),
            lifespan="on",
            ws="none",
        )
        self._app = app
        self._ready: Callable[[str], None] | None = None
        self._host = host
        self._server = _Server(config, service, self._started)

    def run(self, ready: Callable[[str], None] | None = None) -> None:
        """Serve until ``stop`` or a signal. ``ready`` gets the address once it is listened on."""
        self._ready = ready
        if threading.current_thread() is threading.main_thread():
            collection.settle()  # the process is there to serve, so it is ours to tune
        self._server.run()

    def stop(self) -> None:
        """End it gently: waiting callers are answered, running requests get their grace."""
        self._server.should_exit = True

    def _started(self) -> None:
        if self._ready is None:
            return
        listening = self._server.servers[0].sockets[0].getsockname()
        host = f"[{self._host}]" if ":" in self._host else self._host
        self._ready(f"http://{host}:{listening[1]}")


def serve(app: FastAPI, host: str, port: int, ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then return."""
    ApiServer(app, host, port).run(ready)
