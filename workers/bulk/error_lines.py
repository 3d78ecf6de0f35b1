"""Rows without a prediction, as JSON lines: written beside each part, merged at the end, read again
to score only them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import orjson

from storage.records.bulk import Part, row_id
from storage.records.errors import ObjectCorrupt
from workers.bulk.part_files import DigestingFile
from workers.bulk.ports import Positions, RowError

MAX_MESSAGE_CHARS = 500
_READ_BYTES = 1 << 20
_READERS = 8  # a run may have thousands of small error parts: one after another would take minutes

ReadRange = Callable[[str, int, int], bytes]
"""Key below the run's base, offset and length, as ``Objects.get_range``."""


@dataclass(frozen=True, slots=True)
class ErrorsSummary:
    """The merged file."""

    lines: int
    size_bytes: int
    sha256_hex: str


def row_errors(positions: Positions, errors: Iterable[tuple[int, str, str]]) -> Iterator[RowError]:
    """Errors by index as a stage tells them, by position."""
    for index, code, message in errors:
        yield RowError(int(positions[index]), code, message)


def error_lines(
    file: int, errors: Iterable[RowError], custom_ids: Mapping[int, str] | None = None
) -> bytes:
    """One line for each, by position; ``custom_ids`` by position, for those that have one."""
    named = custom_ids or {}
    lines = []
    for error in sorted(errors, key=lambda one: one.position):
        line = {
            "row_id": row_id(file, error.position),
            "code": error.code,
            "message": _clean(error.message[:MAX_MESSAGE_CHARS]),
        }
        if error.position in named:
            line["custom_id"] = _clean(named[error.position])
        lines.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    return b"".join(lines)


def merge(parts: Iterable[Part], read: ReadRange, path: Path) -> ErrorsSummary:
    """All error parts in one file at ``path``, in the order of the input. Holds a few MiB.

    Raises what ``read`` does; then there is no file.
    """
    ordered = sorted(parts, key=lambda one: (one.file, one.part.start))
    sink, lines = DigestingFile(path), 0
    try:
        for piece in _pieces(ordered, read):
            sink.write(piece)
            lines += piece.count(b"\n")
    except BaseException:
        sink.close()
        path.unlink(missing_ok=True)
        raise
    sink.close()
    return ErrorsSummary(lines, sink.size_bytes, sink.sha256_hex)


def row_ids(lines: Iterable[bytes]) -> Iterator[str]:
    """The ids in an error file, in its order."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _id_in(line, number)


def _pieces(parts: Sequence[Part], read: ReadRange) -> Iterator[bytes]:
    """The bytes of the parts one after another, read some steps ahead."""
    ahead: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(_READERS, thread_name_prefix="bulk-errors") as readers:
        try:
            for place in _places(parts):
                ahead.append(readers.submit(read, *place))
                if len(ahead) >= 2 * _READERS:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for one in ahead:
                one.cancel()


def _places(parts: Sequence[Part]) -> Iterator[tuple[str, int, int]]:
    for one in parts:
        key, size_bytes = one.part.errors_key, one.part.errors_bytes
        if key is None:
            continue
        for offset in range(0, size_bytes, _READ_BYTES):
            yield key, offset, min(_READ_BYTES, size_bytes - offset)


def _id_in(line: bytes, number: int) -> str:
    try:
        found = orjson.loads(line)["row_id"]
        file, colon, position = found.partition(":")
        if colon and file.isdecimal() and position.isdecimal():
            return str(found)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        pass
    raise ObjectCorrupt(f"line {number:,} of the error file is not one that a run wrote")


def _clean(text: str) -> str:
    """Without what is no UTF-8: half of a surrogate pair, as the cut may leave it."""
    return text.encode("utf-8", "replace").decode()
