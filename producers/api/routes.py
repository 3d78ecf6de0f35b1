"""One way to declare a route, so that what it takes and gives is written beside its handler.

Handlers take the request alone: FastAPI is the router and the OpenAPI, our shapes are the checks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from producers.names import ID, NAME
from producers.requests import IDEMPOTENCY_KEY
from producers.shapes import Number, Schema, Shape, Text

Handler = Callable[[Request], Awaitable[Response]]

MODEL_NAME = Text(1, 63, f"^{NAME}$", "a name of a-z 0-9 . _ -")
PART_NAME = Text(1, 255, r"^[^/\u0000-\u001f\u007f]*$", "the name of a part")
MAX_VERSION = 999_999_999
JSON, PROBLEM = "application/json", "application/problem+json"


def answer(
    document: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(document), status, dict(headers or {}), JSON)


def named(name: str) -> Schema:
    """A reference to a schema of ``producers.api.schemas``."""
    return {"$ref": f"#/components/schemas/{name}"}


def page_of(name: str) -> Schema:
    """A keyset page."""
    return {
        "type": "object",
        "properties": {
            "data": {"type": "array", "items": named(name)},
            "has_more": {"type": "boolean"},
            "next": {"type": ["string", "null"], "description": "Pass it as after=."},
        },
        "required": ["data", "has_more", "next"],
    }


def route(
    router: APIRouter,
    method: str,
    path: str,
    summary: str,
    *,
    status: int = 200,
    gives: Schema | None = None,
    media_type: str = JSON,
    or_text: str | None = None,
    also: Mapping[int, str] | None = None,
    body: Schema | None = None,
    body_type: str = JSON,
    body_required: bool = True,
    query: Mapping[str, Shape] | None = None,
    parameters: list[Schema] | None = None,
    idempotent_by_key: bool = False,
    open_to_all: bool = False,
) -> Callable[[Handler], Handler]:
    """Register the decorated handler. ``also`` are further answers worth a sentence, ``or_text`` a
    media type of text that the same may be had in."""
    extra: dict[str, Any] = {"parameters": _path_parameters(path) + _query(query or {})}
    extra["parameters"] += parameters or []
    if idempotent_by_key:
        extra["parameters"].append(_KEY_HEADER)
    if body is not None:
        extra["requestBody"] = {"required": body_required, "content": {body_type: {"schema": body}}}
    if open_to_all:
        extra["security"] = []
    content: dict[str, dict[str, Schema]] = {}
    if gives is not None:
        content["content"] = {media_type: {"schema": gives}}
    if or_text is not None:
        content.setdefault("content", {})[or_text] = {"schema": {"type": "string"}}
    responses: dict[int | str, dict[str, Any]] = {status: {"description": "Done.", **content}}
    problem = {"content": {PROBLEM: {"schema": named("Problem")}}}
    for code, says in (also or {}).items():
        responses[code] = {"description": says} | ({} if code < 300 else problem)
    responses["default"] = {"description": "A problem; its `code` is stable.", **problem}

    def register(handler: Handler) -> Handler:
        router.add_api_route(
            path,
            handler,
            methods=[method],
            summary=summary,
            description=" ".join((handler.__doc__ or "").split()),
            status_code=status,
            response_class=Response,
            response_model=None,
            responses=responses,
            openapi_extra=extra,
            operation_id=handler.__name__,
        )
        return handler

    return register


def _path_parameters(path: str) -> list[Schema]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    schemas = {
        "id": ID.schema(),
        "version": Number(1, MAX_VERSION).schema(),
        "part": PART_NAME.schema(),
    }
    plain = MODEL_NAME.schema()
    return [
        {"name": name, "in": "path", "required": True, "schema": schemas.get(name, plain)}
        for name in names
    ]


def _query(known: Mapping[str, Shape]) -> list[Schema]:
    return [
        {"name": name, "in": "query", "required": False, "schema": shape.schema()}
        for name, shape in known.items()
    ]


_KEY_HEADER: Schema = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key with the same body is one submission, for 24 hours.",
    "schema": IDEMPOTENCY_KEY.schema(),
}
