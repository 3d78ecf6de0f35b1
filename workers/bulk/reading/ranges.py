"""An object as a seekable file, for readers that are not ours: every read is a range.

What is known to be needed can be fetched beforehand, by several requests at once; a read inside
of it is a view.
"""

from __future__ import annotations

import contextlib
import io
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from workers.bulk.places import Place

PIECE_BYTES = 8 << 20  # of one request
MAX_GAP_BYTES = 256 << 10  # between two ranges that one request takes together
_TAIL_BYTES = 64 << 10  # where the footers are, and most of them no longer

Span = tuple[int, int]
"""The first byte, and the one behind the last."""


class Held:
    """Parts of an object on their way into memory."""

    def __init__(self, place: Place, spans: Iterable[Span], threads: Executor) -> None:
        pieces = list(pieces_of(spans))
        self._starts = [start for start, _ in pieces]
        self._stops = [stop for _, stop in pieces]
        self._parts: list[Future[bytes]] = [
            threads.submit(fetch, place, start, stop) for start, stop in pieces
        ]

    def read(self, start: int, stop: int) -> memoryview | bytes | None:
        """These bytes, or None if not all of them are held; waits until they are there."""
        index = bisect_right(self._starts, start) - 1
        parts: list[memoryview] = []
        while start < stop:
            if index < 0 or index >= len(self._starts) or start >= self._stops[index]:
                return None
            begins, ends = self._starts[index], min(stop, self._stops[index])
            data = memoryview(self._parts[index].result())
            parts.append(data[start - begins : ends - begins])
            start, index = ends, index + 1
            if start < stop and (index >= len(self._starts) or self._starts[index] != start):
                return None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def wait(self) -> None:
        """Until all is there; raises what fetching met."""
        for part in self._parts:
            part.result()


@contextlib.contextmanager
def reading_threads(count: int) -> Iterator[Executor]:
    """Threads of one reader; what they have not begun when it stops is not begun any more."""
    threads = ThreadPoolExecutor(count, "forebay-bulk-read")
    try:
        yield threads
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


def fetch(place: Place, start: int, stop: int) -> bytes:
    """These bytes of the object."""
    return place.objects.get_range(place.key, start, stop - start)


def pieces_of(spans: Iterable[Span]) -> Iterable[Span]:
    """The same bytes and those of small gaps, ascending, in requests of a bounded size."""
    merged: list[list[int]] = []
    for start, stop in sorted(spans):
        if merged and start - merged[-1][1] <= MAX_GAP_BYTES:
            merged[-1][1] = max(merged[-1][1], stop)
        else:
            merged.append([start, stop])
    for start, stop in merged:
        for at in range(start, stop, PIECE_BYTES):
            yield at, min(at + PIECE_BYTES, stop)


class RangeFile(io.RawIOBase):
    """The object, open for reading by one thread at a time."""

    def __init__(self, place: Place, size_bytes: int, held: Held | None = None) -> None:
        super().__init__()
        self._place, self._size, self._at = place, size_bytes, 0
        self._held = held
        self._tail: bytes | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def size(self) -> int:
        """In bytes; Arrow asks."""
        return self._size

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("before the beginning of the file")
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        return bytes(self._take(size))

    def read_buffer(self, size: int | None = -1) -> Any:
        """The same as a buffer of Arrow's, without a copy where it is held."""
        return pa.py_buffer(self._take(size))

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self._take(len(view))
        view[: len(data)] = data
        return len(data)

    def _take(self, size: int | None) -> bytes | memoryview:
        left = max(self._size - self._at, 0)
        start, length = self._at, left if size is None or size < 0 else min(size, left)
        self._at += length
        if not length:
            return b""
        if self._held is not None:
            held = self._held.read(start, start + length)
            if held is not None:
                return held
        begins = max(self._size - _TAIL_BYTES, 0)
        if start < begins:
            return fetch(self._place, start, start + length)
        if self._tail is None:
            self._tail = fetch(self._place, begins, self._size)
        return self._tail[start - begins :][:length]
