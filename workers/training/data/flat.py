"""Rows of one width, one behind the other in a file: written once, read from anywhere.

Not mapped into memory: pages of a map count as the process's own, and a training would seem to
need all of its data.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from workers.training.room import room_for

BLOCK_BYTES = 4 << 20
Indices = npt.NDArray[np.int64]


def bytes_view(block: npt.NDArray[Any]) -> memoryview:
    """The bytes of a contiguous block, without a copy."""
    return block.reshape(-1).view(np.uint8).data


def room_for_rows() -> AbstractContextManager[None]:
    """``InvalidInput`` (``no_room``) where the disk is full."""
    advice = "give its spool more disk, or train on fewer rows or columns"
    return room_for("the prepared rows", advice)


class FlatFile:
    """One file. Written by ``append``, then, after ``seal``, read by any number of threads."""

    def __init__(self, path: Path, dtype: str, shape: tuple[int, ...]) -> None:
        self.path, self.dtype, self.shape = path, np.dtype(dtype), shape
        self.rows = 0
        self.row_bytes = self.dtype.itemsize * math.prod(shape)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._digest = hashlib.sha256()

    @property
    def size_bytes(self) -> int:
        return self.rows * self.row_bytes

    @property
    def digest(self) -> str:
        """SHA-256 of all its bytes: however they came in pieces, the same rows have the same."""
        return self._digest.hexdigest()

    @property
    def block_rows(self) -> int:
        """How many rows are worked on at once: by the width alone, so that sums are the same
        sums whatever the files were cut into."""
        return max(1, BLOCK_BYTES // max(self.row_bytes, 1))

    def append(self, block: Any) -> None:
        """More rows. ``InvalidInput`` (``no_room``) where the disk is full."""
        data = bytes_view(np.ascontiguousarray(block, self.dtype))
        self._digest.update(data)
        at = self.size_bytes
        while data:
            with room_for_rows():
                written = os.pwrite(self._file, data, at)
            data, at = data[written:], at + written
        self.rows += len(block)

    def read(self, start: int, stop: int) -> Any:
        """These rows."""
        block = np.empty((stop - start, *self.shape), self.dtype)
        self._fill(bytes_view(block), start)
        return block

    def blocks(self) -> Iterator[tuple[int, Any]]:
        """All rows, and where each block begins."""
        for start in range(0, self.rows, self.block_rows):
            yield start, self.read(start, min(start + self.block_rows, self.rows))

    def gather(self, indices: Indices) -> Any:
        """These rows in this order; those that lie beside each other are read at once."""
        block = np.empty((len(indices), *self.shape), self.dtype)
        if not len(indices):
            return block
        if int(indices.min()) < 0 or int(indices.max()) >= self.rows:
            raise IndexError("there is no such row")
        view, width = bytes_view(block), self.row_bytes
        begins = np.flatnonzero(np.diff(indices, prepend=indices[0] - 2) != 1)
        ends = np.append(begins[1:], len(indices))
        file, preadv = self._file, os.preadv
        spots = zip(
            (begins * width).tolist(),
            (ends * width).tolist(),
            (indices[begins] * width).tolist(),
            strict=True,
        )
        for begin, end, offset in spots:
            if preadv(file, (view[begin:end],), offset) != end - begin:
                self._fill(view[begin:end], offset // width)
        return block

    def close(self) -> None:
        """Let go of it; the file stays."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def remove(self) -> None:
        """Close and delete it."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _fill(self, view: memoryview, start: int) -> None:
        at = start * self.row_bytes
        while view:
            got = os.preadv(self._file, (view,), at)
            if not got:
                raise OSError(f"{self.path.name} is shorter than what was written to it")
            view, at = view[got:], at + got
