"""The short way from the socket to a handler.

Our handlers take the request and nothing else, so most of what the framework does for a request
(dependencies, exit stacks, telemetry, one route after the other) is done for nothing: it took more
time than the handler. This finds the handler by two look-ups and calls it. Whatever it does not
know (documentation, wrong paths, wrong methods) goes on to the framework, whose routes are the
same ones; it also draws the OpenAPI from them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producers.api import problems
from producers.api.routes import Handler
from storage.records.errors import ForebayError


@dataclass(frozen=True, slots=True)
class Way:
    """One route, as it is matched here."""

    route: APIRoute
    handler: Handler
    pattern: re.Pattern[str]


class Front:
    """ASGI. ``app`` is the framework with all the routes."""

    def __init__(self, app: FastAPI) -> None:
        self._app: ASGIApp = app
        self._framework = app
        self._plain: dict[tuple[str, str], Way] = {}
        self._patterns: dict[tuple[str, int], list[Way]] = {}
        for route in app.routes:
            if isinstance(route, APIRoute):
                self._learn(route)

    def _learn(self, route: APIRoute) -> None:
        way = Way(route, route.endpoint, route.path_regex)
        for method in route.methods or ():
            if "{" in route.path:
                self._patterns.setdefault((method, route.path.count("/")), []).append(way)
            else:
                self._plain.setdefault((method, route.path), way)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self.find(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        way, params = found
        scope["app"] = self._framework
        scope["route"], scope["path_params"] = way.route, params
        await _answer(way.handler, Request(scope, receive), scope, receive, send)

    def find(self, method: str, path: str) -> tuple[Way, Mapping[str, str]] | None:
        """The route for this method and path, and what its path holds."""
        way = self._plain.get((method, path))
        if way is not None:
            return way, {}
        for way in self._patterns.get((method, path.count("/")), ()):
            if match := way.pattern.match(path):
                return way, match.groupdict()
        return None


async def _answer(
    handler: Handler, request: Request, scope: Scope, receive: Receive, send: Send
) -> None:
    """Call the handler and send what it gives; an error of ours is an answer too."""
    started = False

    async def watched(message: Message) -> None:
        nonlocal started
        started = True
        await send(message)

    try:
        response = await handler(request)
        await response(scope, receive, watched)
    except ForebayError as error:
        if started:
            raise
        await (await problems.on_own(request, error))(scope, receive, send)
    except HTTPException as error:
        if started:
            raise
        await (await problems.on_http(request, error))(scope, receive, send)
