"""Rows that are there twice: 16 bytes of each row's hash are kept, and the first one stays."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from workers.training.data.complaints import Mask
from workers.training.data.inputs import Input

_HASH_BYTES = 16


class Hashes:
    """Of all rows that were kept: their features and their label."""

    def __init__(self) -> None:
        self._seen: list[bytes] = []

    def add(self, inputs: Sequence[Input], labels: npt.NDArray[np.generic], keep: Mask) -> None:
        """The rows of a piece; each input has just read it."""
        hashes = [hashlib.blake2b(label, digest_size=_HASH_BYTES) for label in _each(labels)]
        for one in inputs:
            for hash_, data in zip(hashes, one.bytes_of(keep), strict=True):
                hash_.update(len(data).to_bytes(8, "little"))
                hash_.update(data)
        self._seen.append(b"".join(one.digest() for one in hashes))

    def firsts(self) -> Mask:
        """Which rows are the first of their kind."""
        halves = np.frombuffer(b"".join(self._seen), np.uint64).reshape(-1, 2)
        order = np.lexsort((halves[:, 1], halves[:, 0]))  # stable: equals stay in their order
        ordered = halves[order]
        new = np.ones(len(order), np.bool_)
        new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        first = np.zeros(len(order), np.bool_)
        first[order[new]] = True
        return first


def _each(labels: npt.NDArray[np.generic]) -> list[bytes]:
    data, width = np.ascontiguousarray(labels).tobytes(), labels.itemsize
    return [data[at : at + width] for at in range(0, len(data), width)]
