"""Multipart uploads, streamed to a temporary file: memory holds a chunk, never the file.

Writing and hashing happen on the upload lane; the event loop only cuts the parts apart.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from producers.api.bodies import chunks
from producers.api.lanes import Lane
from storage.records.errors import InvalidInput, TooLarge, Unavailable, UnsupportedMedia

FLUSH_BYTES = 1 << 20
MAX_FIELD_BYTES = 4 << 20
OVERHEAD_BYTES = 64 << 10  # boundaries and part headers around the file
_MEDIA_TYPE = re.compile(r"[a-zA-Z0-9!#$&^_.+-]{1,80}/[a-zA-Z0-9!#$&^_.+-]{1,80}")


@dataclass(frozen=True, slots=True)
class Upload:
    """A received file, on disk until the request ends, and the fields beside it."""

    path: Path
    filename: str
    content_type: str
    size_bytes: int
    digest: str
    fields: dict[str, bytes]


@dataclass(slots=True)
class _Parts:
    """What the parser's callbacks collect."""

    known_fields: Collection[str]
    max_file_bytes: int
    pending: bytearray = field(default_factory=bytearray)
    fields: dict[str, bytearray] = field(default_factory=dict)
    filename: str = ""
    content_type: str = "application/octet-stream"
    has_file: bool = False
    ended: bool = False
    file_bytes: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: str = ""
    header_name: bytes = b""
    header_value: bytes = b""

    def on_part_begin(self) -> None:
        self.headers = {}

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self.header_name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self.header_value += data[start:end]

    def on_header_end(self) -> None:
        self.headers[self.header_name.lower()] = self.header_value
        self.header_name = self.header_value = b""

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self.headers.get(b"content-disposition", b""))
        self.name = options.get(b"name", b"").decode("utf-8", "replace")
        if self.name == "file" and not self.has_file:
            self.has_file = True
            self.filename = _plain_name(options.get(b"filename", b"").decode("utf-8", "replace"))
            media_type = self.headers.get(b"content-type", b"").decode("latin-1").partition(";")[0]
            if _MEDIA_TYPE.fullmatch(media_type.strip()):
                self.content_type = media_type.strip().lower()
        elif self.name in self.known_fields and self.name not in self.fields:
            self.fields[self.name] = bytearray()
        else:
            takes = ", ".join(["file", *self.known_fields])
            raise InvalidInput(
                f"the form has a part {self.name[:80]!r} too many; it takes {takes}, each once",
                code="unknown_field",
                field=self.name[:80] or None,
            )

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self.name == "file":
            self.file_bytes += end - start
            if self.file_bytes > self.max_file_bytes:
                raise too_large_file(self.max_file_bytes)
            self.pending += data[start:end]
            return
        content = self.fields[self.name]
        content += data[start:end]
        if len(content) > MAX_FIELD_BYTES:
            raise TooLarge(f"{self.name} is larger than {MAX_FIELD_BYTES} bytes", field=self.name)

    def on_end(self) -> None:
        self.ended = True


@asynccontextmanager
async def receive(
    request: Request, lane: Lane, *, max_file_bytes: int, fields: Collection[str] = ()
) -> AsyncIterator[Upload]:
    """The upload of this request; its temporary file goes when the block ends."""
    parts = _Parts(fields, max_file_bytes)
    parser = MultipartParser(_boundary(request), _callbacks(parts))
    digest = hashlib.sha256()
    file: BinaryIO = await lane.run(
        lambda: tempfile.NamedTemporaryFile(prefix="forebay-upload-", delete=False)  # type: ignore[arg-type,return-value]  # noqa: SIM115
    )
    path = Path(file.name)
    try:

        def flush() -> None:
            piece = bytes(parts.pending)
            parts.pending.clear()
            digest.update(piece)
            try:
                file.write(piece)
                file.flush()
            except OSError as error:
                raise Unavailable(
                    f"no room to receive the upload ({error.strerror})", code="no_space"
                ) from None

        limit = max_file_bytes + MAX_FIELD_BYTES * len(fields) + OVERHEAD_BYTES
        async for chunk in chunks(request, limit_bytes=limit):
            try:
                parser.write(chunk)
            except FormParserError as error:
                raise _broken_form(str(error)) from None
            if len(parts.pending) >= FLUSH_BYTES:
                await lane.run(flush)
        if not parts.ended:
            raise _broken_form("it ends too early")
        if not parts.has_file:
            raise InvalidInput("file is missing", code="missing_field", field="file")
        await lane.run(flush)
        file.close()
        yield Upload(
            path,
            parts.filename,
            parts.content_type,
            parts.file_bytes,
            digest.hexdigest(),
            {name: bytes(content) for name, content in parts.fields.items()},
        )
    finally:
        file.close()
        with suppress(FileNotFoundError):
            path.unlink()


def _callbacks(parts: _Parts) -> Any:
    names = ("part_begin", "header_field", "header_value", "header_end", "headers_finished")
    return {f"on_{n}": getattr(parts, f"on_{n}") for n in (*names, "part_data", "end")}


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data":
        raise UnsupportedMedia("send the file as Content-Type: multipart/form-data")
    if not 1 <= len(boundary) <= 200:
        raise _broken_form("its Content-Type names no boundary")
    return boundary


def _plain_name(text: str) -> str:
    """The last part of the name, for people to see; nothing is ever stored under it."""
    name = re.sub(r"[\x00-\x1f\x7f\ud800-\udfff]", "", re.split(r"[/\\]", text)[-1]).strip()
    return name[:255] or "file"


def _broken_form(why: str) -> InvalidInput:
    return InvalidInput(f"the multipart form is broken: {why[:200]}", code="invalid_multipart")


def too_large_file(limit_bytes: int) -> TooLarge:
    """The error for a file over its limit."""
    return TooLarge(f"the file is larger than {limit_bytes} bytes", field="file")
