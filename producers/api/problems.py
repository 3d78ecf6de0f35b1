"""Every error as problem+json (RFC 9457), with a stable ``code`` and never a stack trace.

Whatever nobody foresaw is logged whole under an incident id, and the caller gets only that id.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Mapping
from http import HTTPStatus

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producers.api.codes import CODES
from storage.records.errors import ForebayError, InvalidInput, Unavailable

_LOG = logging.getLogger("forebay.api")
MEDIA_TYPE = "application/problem+json"
DEFAULT_RETRY_AFTER_S = 2.0


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    more: Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """One error answer."""
    body = {
        "type": f"urn:forebay:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        **(more or {}),
    }
    return Response(
        orjson.dumps(body), status, {"cache-control": "no-store", **(headers or {})}, MEDIA_TYPE
    )


def problem_of(error: ForebayError) -> Response:
    """The answer for an error of our own tree."""
    more: dict[str, object] = {}
    if error.field:
        more["field"] = error.field
    if error.details:
        more["errors"] = error.details
    headers: dict[str, str] = {}
    wait_s = error.retry_after_s
    if wait_s is None and isinstance(error, Unavailable):
        wait_s = DEFAULT_RETRY_AFTER_S
    if wait_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(wait_s)))
    if error.http_status == 401:
        headers["www-authenticate"] = "Bearer"
    status = error.http_status
    if status >= 500 and not isinstance(error, Unavailable):
        return _incident(error)
    return problem(status, error.stable_code, public_words(error), more=more, headers=headers)


def public_words(error: ForebayError) -> str:
    """The error's message; of a part that is down only that it is, not where it lives."""
    if not isinstance(error, Unavailable):
        return error.message
    return CODES.get(error.stable_code, CODES["unavailable"])


def _incident(error: BaseException) -> Response:
    incident = secrets.token_hex(8)
    _LOG.error("incident %s", incident, exc_info=error)
    detail = "an unexpected error; the operator finds it in the log under the incident's id"
    return problem(500, "internal", detail, more={"incident": incident})


async def on_own(request: Request, error: Exception) -> Response:
    """An error of our own tree; trouble with a part is logged now and then."""
    assert isinstance(error, ForebayError)
    if isinstance(error, Unavailable) and request.app.state.service.is_news(error.stable_code):
        _LOG.warning("%s: %s", error.stable_code, error.message)
    return problem_of(error)


async def on_http(request: Request, error: Exception) -> Response:
    """404 and 405 of the router, and what Starlette refuses by itself."""
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    if error.status_code == 404:
        return problem(404, "no_such_route", f"there is nothing at {path!r}")
    if error.status_code == 405:
        allowed = _methods_at(request)
        headers = {"allow": ", ".join(sorted(allowed))}
        detail = f"{path!r} takes {', '.join(sorted(allowed))}, not {request.method[:20]}"
        return problem(405, "method_not_allowed", detail, headers=headers)
    return problem(error.status_code, "http_error", str(error.detail)[:200])


def _methods_at(request: Request) -> set[str]:
    """What the path takes. The router itself only names the first route it met.

    A path that is spelled out (``/v1/jobs/many``) is not also somebody's id.
    """
    routes = [r for r in request.app.routes if r.matches(request.scope)[0] is not Match.NONE]
    exact = [r for r in routes if getattr(r, "path", None) == request.scope["path"]]
    return {m for r in exact or routes for m in getattr(r, "methods", None) or ()}


async def _on_framework(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem_of(InvalidInput("a parameter of the request is not valid"))


def install(app: FastAPI) -> None:
    """Have every error answered here."""
    app.add_exception_handler(ForebayError, on_own)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, _on_framework)


class LastResort:
    """Outermost: no exception leaves the application, whatever raised it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            return
        except ForebayError as error:
            if started:
                _LOG.warning("an answer broke off: %s", error.message)
                raise
            await problem_of(error)(scope, receive, send)
        except Exception as error:
            answer = _incident(error)
            if started:  # too late to say so: break the connection, never pretend an end
                raise
            await answer(scope, receive, send)
