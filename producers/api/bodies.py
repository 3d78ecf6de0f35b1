"""Reading what a caller sends: bounded while it streams, and of the type the route takes.

A page in a browser may send forms and plain text to any address without asking first; JSON it may
not. So insisting on ``application/json`` also keeps other sites' pages out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from fastapi import Request
from starlette.requests import ClientDisconnect

from producers.requests import IDEMPOTENCY_KEY
from producers.shapes import Shape, Wrong, show
from storage import strict_json
from storage.records.errors import InvalidInput, TooLarge, UnsupportedMedia

MAX_SMALL_BODY_BYTES = 64 << 10


async def chunks(request: Request, *, limit_bytes: int) -> AsyncIterator[bytes]:
    """The body as it comes; ``TooLarge`` as soon as it is known to be."""
    _must_be_plain(request, limit_bytes)
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        yield chunk


async def json_body(request: Request, *, limit_bytes: int) -> bytes:
    """The bytes of a JSON body."""
    _must_be_json(request)
    return await _whole(request, limit_bytes)


async def _whole(request: Request, limit_bytes: int) -> bytes:
    """The same as joining the ``chunks``; most bodies come in one piece, and cheaper."""
    _must_be_plain(request, limit_bytes)
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        if not message.get("more_body", False):
            return b"".join(pieces) if len(pieces) > 1 else pieces[0]


async def parsed_body(
    request: Request, shape: Shape, *, may_be_empty: bool = False
) -> dict[str, object]:
    """A small JSON body, parsed and checked."""
    if not may_be_empty:
        _must_be_json(request)
    body = await _whole(request, MAX_SMALL_BODY_BYTES)
    if may_be_empty:
        if not body:
            return {}
        _must_be_json(request)
    value = strict_json.parse(body)
    check(shape, value)
    assert isinstance(value, dict)
    return value


async def no_body(request: Request) -> None:
    """For verbs without wishes: nothing, or an empty object. A field would be ignored, so it is
    refused."""
    body = await _whole(request, MAX_SMALL_BODY_BYTES)
    if not body:
        return
    _must_be_json(request)
    value = strict_json.parse(body)
    if value != {}:
        name = next(iter(value)) if isinstance(value, dict) else None
        raise InvalidInput(
            "this request takes no fields" + (f"; {show(name)} would be ignored" if name else ""),
            code="unknown_field",
            field=name,
        )


def check(shape: Shape, value: object, *where: str) -> None:
    """The shape's check, with the error that callers get."""
    try:
        shape.check(value)
    except Wrong as wrong:
        raise wrong.under(*where).error() from None


def idempotency_key(request: Request) -> str | None:
    """The ``Idempotency-Key``, checked."""
    keys = request.headers.getlist("idempotency-key")
    if not keys:
        return None
    if len(keys) > 1:
        raise InvalidInput("there are several Idempotency-Key headers", field="Idempotency-Key")
    check(IDEMPOTENCY_KEY, keys[0], "Idempotency-Key")
    return keys[0]


def query(
    request: Request, known: Mapping[str, Shape], *, besides: str | None = None
) -> dict[str, object]:
    """The query's parameters, checked; numbers are numbers. An unknown one is refused.

    Those that start with ``besides`` are the caller's to read.
    """
    values: dict[str, object] = {}
    if not request.scope["query_string"]:
        return values
    for name, text in request.query_params.multi_items():
        if besides is not None and name.startswith(besides):
            continue
        shape = known.get(name)
        if shape is None:
            raise InvalidInput(
                f"there is no parameter {show(name)} here; known are {', '.join(known) or 'none'}",
                code="unknown_parameter",
                field=name[:80],
            )
        if name in values:
            raise InvalidInput(f"{name} is given twice", code="repeated_parameter", field=name)
        kind = shape.schema().get("type")
        value = text if kind == "string" else _number(text)
        check(shape, value, name)
        values[name] = value
    return values


def _must_be_plain(request: Request, limit_bytes: int) -> None:
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:19]) > limit_bytes:
        raise _too_large(limit_bytes)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedMedia(f"content encoding {show(encoding)} is not taken; send it plain")


def _number(text: str) -> object:
    """The number a text spells in JSON's way, or the text itself (which no number shape takes)."""
    try:
        value = strict_json.parse(text.encode())
    except (InvalidInput, UnicodeEncodeError):
        return text
    return value if type(value) in (int, float) else text


def _must_be_json(request: Request) -> None:
    media_type, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if media_type.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        raise UnsupportedMedia("send the body as Content-Type: application/json, in UTF-8")


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit_bytes} bytes")
