"""The bytes of one object, a block at a time: plain or gzip, one block read ahead on a thread."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Protocol

from storage.objects.protocol import Objects
from storage.records.errors import ObjectCorrupt
from workers.bulk.reading.trouble import bad_file, file_changed

BLOCK_BYTES = 8 << 20
_TAIL_BYTES = 64 << 10  # read beyond a range at once: most last lines end there
_COMPRESSED_BYTES = 1 << 20
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


class Readable(Protocol):
    """Where an object lies, and what it is called in messages."""

    @property
    def objects(self) -> Objects: ...

    @property
    def key(self) -> str: ...

    @property
    def uri(self) -> str: ...

    @property
    def filename(self) -> str: ...


def read_blocks(
    place: Readable,
    size_bytes: int,
    start: int,
    stop: int,
    *,
    gzip: bool,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[bytes]:
    """The bytes from ``start`` on, to the object's end: who has enough stops reading.

    What lies behind ``stop`` comes in small blocks first. Positions in gzip are those of the
    decompressed stream. ``InvalidInput`` (``bad_file``): not gzip, damaged or cut off, told when
    what comes before was given; ``file_changed``: the object is shorter than it was.
    """
    if gzip:
        return _ahead(_from(start, _gunzip(place, size_bytes, block_bytes)))
    near = min(stop + _TAIL_BYTES, size_bytes)
    return chain(
        _ahead(_plain(place, start, near, block_bytes, block_bytes)),
        _plain(place, max(start, near), size_bytes, _TAIL_BYTES, block_bytes),
    )


def _plain(
    place: Readable, at: int, stop: int, first_bytes: int, most_bytes: int
) -> Iterator[bytes]:
    length = min(first_bytes, most_bytes)
    while at < stop:
        block = _get(place, at, min(length, stop - at))
        at += len(block)
        yield block
        length = min(4 * length, most_bytes)


def _get(place: Readable, at: int, length: int) -> bytes:
    try:
        return place.objects.get_range(place.key, at, length)
    except ObjectCorrupt:
        raise file_changed(place.uri) from None  # it was longer


def _gunzip(place: Readable, size_bytes: int, most_bytes: int) -> Iterator[bytes]:
    """All members one behind the other, as ``gzip -d`` does it."""
    inflate = None
    for data in _plain(place, 0, size_bytes, _COMPRESSED_BYTES, _COMPRESSED_BYTES):
        while data:
            if inflate is None:
                data = data.lstrip(b"\0")  # what some writers fill their last sector with
                if not data:
                    break
                inflate = zlib.decompressobj(_GZIP_WINDOW)
            try:
                block = inflate.decompress(data, most_bytes)
            except zlib.error as error:
                raise bad_file(place.uri, f"it is not gzip, or is damaged: {error}") from None
            data = inflate.unconsumed_tail
            if inflate.eof:
                data, inflate = inflate.unused_data, None
            if block:
                yield block
    if inflate is not None:
        if rest := inflate.flush():
            yield rest
        raise bad_file(place.uri, "it is cut off: its gzip stream has no end")


def _from(start: int, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Without the first ``start`` bytes."""
    for block in blocks:
        if start >= len(block):
            start -= len(block)
            continue
        yield block[start:] if start else block
        start = 0


def _ahead(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The same blocks, the next one read while this one is worked on."""
    with ThreadPoolExecutor(1, thread_name_prefix="forebay-bulk-read") as thread:
        pending = thread.submit(next, blocks, None)
        while (block := pending.result()) is not None:
            pending = thread.submit(next, blocks, None)
            yield block


def stream_bytes(place: Readable, size_bytes: int) -> int:
    """How long a gzip file's content is: read through, as nothing in it tells. ``InvalidInput``
    (``bad_file``) if it is damaged or cut off."""
    return sum(map(len, read_blocks(place, size_bytes, 0, size_bytes, gzip=True)))
