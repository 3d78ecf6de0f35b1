"""Texts: kept as they are until the vocabulary is learned, then as token ids alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from storage.records.errors import InvalidInput
from storage.records.training import MissingRule, Preparation, TextPreparation
from workers.bulk.kit import Stopped
from workers.training.data.complaints import Mask, Verdict
from workers.training.data.flat import FlatFile, room_for_rows
from workers.training.data.inputs import LEARNED, KeptInput, settle
from workers.training.data.pieces import ColumnInfo
from workers.training.data.roles import TEXT
from workers.training.data.trouble import bad_rule
from workers.training.data.values import number_of, replaced
from workers.training.ports import Vectorizer

BATCH_TEXTS = 1024
_ENOUGH = 10_000  # texts that are all numbers, until it is said so


class Spool:
    """Texts one behind the other in a file; where each ends is in memory, 8 bytes a text."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("w+b", buffering=1 << 20)
        self._ends: list[npt.NDArray[np.int64]] = []
        self._size = 0

    def append(self, texts: Sequence[str]) -> None:
        """More texts, in order."""
        data = [one.encode() for one in texts]
        ends = np.cumsum([len(one) for one in data], dtype=np.int64) + self._size
        with room_for_rows():
            self._file.write(b"".join(data))
        self._ends.append(ends)
        self._size = int(ends[-1]) if len(ends) else self._size

    def batches(self) -> Iterator[tuple[int, list[str]]]:
        """All texts in batches of a fixed number, and where each batch begins."""
        with room_for_rows():
            self._file.flush()
        starts = np.concatenate([np.zeros(1, np.int64), *self._ends])
        for start in range(0, len(starts) - 1, BATCH_TEXTS):
            some = starts[start : start + BATCH_TEXTS + 1].tolist()
            data = os.pread(self._file.fileno(), some[-1] - some[0], some[0])
            yield (
                start,
                [data[at - some[0] : end - some[0]].decode() for at, end in pairwise(some)],
            )

    def remove(self) -> None:
        """The texts are needed no longer."""
        self._file.close()
        self._path.unlink(missing_ok=True)


class TextInput:
    """One column of texts. ``InvalidInput`` (``text_is_numbers``) where they all are numbers."""

    def __init__(
        self,
        column: ColumnInfo,
        prepare: Preparation,
        vectorizer: Vectorizer,
        folder: Path,
        number: int,
        still: Callable[[], bool],
    ) -> None:
        assert prepare.text is not None
        self._column, self._prepare, self._vectorizer = column, prepare, vectorizer
        self._still = still
        self._options: TextPreparation = prepare.text
        if prepare.missing is MissingRule.FILL and prepare.fill.get(column.name) in LEARNED:
            raise bad_rule(
                f"column {column.name!r} holds texts and can only be filled with a text",
                "prepare.missing.fill",
            )
        self._path = folder / f"{number}.rows"
        self._spool = Spool(folder / f"{number}.texts")
        self._texts: list[str] = []
        self._numbers, self._words = 0, False

    def read(self, verdict: Verdict) -> None:
        name = self._column.name
        column = replaced(verdict.piece.columns[name], self._prepare.replace.get(name, {}))
        texts = column.to_pylist()
        holes = np.array([one is None for one in texts], np.bool_)
        if holes.any():
            settle(self._prepare, verdict, name, holes)
            fill = str(self._prepare.fill.get(name, ""))
            texts = [fill if one is None else one for one in texts]
        self._texts = [str(one) for one in texts]
        if not self._words:
            self._look_for_words(verdict.piece.uri)

    def write(self, keep: Mask) -> None:
        self._spool.append(self._kept(keep))

    def bytes_of(self, keep: Mask) -> Iterator[bytes | memoryview]:
        return (one.encode() for one in self._kept(keep))

    def finish(self, train: Mask) -> KeptInput:
        if not self._words:
            raise self._only_numbers("the data")

        def texts() -> Iterable[Sequence[str]]:
            for start, batch in self._batches():
                here = train[start : start + len(batch)]
                yield [one for one, trained in zip(batch, here, strict=True) if trained]

        vocabulary = self._vectorizer.learn(texts)
        file = FlatFile(self._path, "int32", (self._options.length,))
        empty = 0
        for _, batch in self._batches():
            ids = self._vectorizer.apply(vocabulary, batch)
            empty += int(np.count_nonzero(~ids.any(axis=1)))
            file.append(ids)
        self._spool.remove()
        note = {"texts_without_tokens": empty} if empty else {}
        return KeptInput(TEXT, file, vocabulary=tuple(vocabulary), note=note)

    def close(self) -> None:
        self._spool.remove()

    def _batches(self) -> Iterator[tuple[int, list[str]]]:
        for batch in self._spool.batches():
            if not self._still():
                raise Stopped
            yield batch

    def _kept(self, keep: Mask) -> list[str]:
        return [one for one, kept in zip(self._texts, keep, strict=True) if kept]

    def _look_for_words(self, uri: str) -> None:
        self._words = any(number_of(one) is None for one in self._texts)
        self._numbers += len(self._texts)
        if not self._words and self._numbers >= _ENOUGH:
            raise self._only_numbers(uri)

    def _only_numbers(self, where: str) -> InvalidInput:
        return InvalidInput(
            f"column {self._column.name!r} is to be the text, and holds nothing but numbers in"
            f" {where}: name the column of texts in data.features, or leave prepare.text out",
            code="text_is_numbers",
            field="prepare.text",
        )
