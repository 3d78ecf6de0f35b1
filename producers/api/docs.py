"""The documentation page: one file, nothing loaded from elsewhere, so that it works offline.

It draws ``/openapi.json`` with a few lines of script of our own. The content security policy lets
nothing else in.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from fastapi import APIRouter, Request
from starlette.responses import Response

router = APIRouter(include_in_schema=False)


def _read(name: str) -> str:
    return resources.files("producers.api").joinpath(name).read_text("utf-8")


def page() -> tuple[str, str]:
    """The HTML and its content security policy."""
    script, style = _read("docs.js"), _read("docs.css")
    hashes = {
        kind: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for kind, text in (("script", script), ("style", style))
    }
    html = _read("docs.html").replace("/*style*/", style).replace("/*script*/", script)
    policy = (
        "default-src 'none'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none';"
        f" script-src 'sha256-{hashes['script']}'; style-src 'sha256-{hashes['style']}'"
    )
    return html, policy


@router.get("/docs")
async def docs(_: Request) -> Response:
    """The page."""
    html, policy = page()
    headers = {"content-security-policy": policy, "x-content-type-options": "nosniff"}
    return Response(html, headers=headers, media_type="text/html")


@router.get("/")
async def root(_: Request) -> Response:
    """Where to look."""
    return Response(status_code=307, headers={"location": "/docs"})
