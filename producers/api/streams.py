"""Answers that are objects: read a piece at a time, whatever their size."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from urllib.parse import quote

from starlette.responses import StreamingResponse

from producers.api.service import Service
from storage.objects import Objects
from storage.records.errors import Gone, NotFound

PIECE_BYTES = 1 << 20

Stored = tuple[str, int]  # key and size in bytes


async def stored(
    service: Service,
    objects: Objects,
    pieces_of: Iterable[Stored],
    *,
    filename: str,
    media_type: str,
    gone: Gone,
) -> StreamingResponse:
    """These objects, one behind the other, always as an attachment: nothing stored is ever shown
    by a browser. ``gone`` if the first is not there."""
    objects_in_order = list(pieces_of)
    pieces = _pieces(service, objects, objects_in_order)
    try:
        first = await anext(pieces, b"")
    except NotFound:
        raise gone from None

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return StreamingResponse(
        whole(),
        media_type=media_type,
        headers={
            "content-length": str(sum(size_bytes for _, size_bytes in objects_in_order)),
            "content-disposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}",
            "x-content-type-options": "nosniff",
            "content-security-policy": "sandbox",
        },
    )


async def _pieces(
    service: Service, objects: Objects, in_order: Iterable[Stored]
) -> AsyncIterator[bytes]:
    for key, size_bytes in in_order:
        for start in range(0, size_bytes, PIECE_BYTES):
            length = min(PIECE_BYTES, size_bytes - start)

            def piece(key: str = key, start: int = start, length: int = length) -> bytes:
                return objects.get_range(key, start, length)

            yield await service.reads.run(piece)
