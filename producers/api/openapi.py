"""The OpenAPI document: what FastAPI gathers from the routes, our schemas, and the words around it.

The stable codes of problems are part of it (``codes``).
"""

from __future__ import annotations

from importlib import metadata
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from producers.api.codes import CODES, JOB_CODES
from producers.api.evaluation_documents import EVALUATION_SCHEMAS
from producers.api.schemas import SCHEMAS

ABOUT = """\
Submit work, wait for it, read the answers.

Every error is application/problem+json with a stable `code`. Times are RFC 3339 in UTC. Lists are
{data, has_more, next}; pass `next` as `after`. A key goes into `Authorization: Bearer <key>`;
without one only loopback is answered, as tenant `default`.
"""


def install(app: FastAPI) -> None:
    """Have ``app`` serve this document."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _build(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def version() -> str:
    """The installed version of Forebay."""
    try:
        return metadata.version("forebay")
    except metadata.PackageNotFoundError:
        return "0"


def _build(app: FastAPI) -> dict[str, Any]:
    lists = (
        ("Codes of problems", CODES),
        ("Codes in the `error` of a job, of an item, of a broken version", JOB_CODES),
    )
    document = get_openapi(
        title="Forebay",
        version=version(),
        description=ABOUT + "".join(f"\n{title}:\n{_listed(codes)}\n" for title, codes in lists),
        routes=app.routes,
    )
    components = document.setdefault("components", {})
    components["schemas"] = {**SCHEMAS, **EVALUATION_SCHEMAS}
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"key": []}, {}]
    return document


def _listed(codes: dict[str, str]) -> str:
    return "\n".join(f"- `{code}`: {says}" for code, says in codes.items())
