"""Data of a training in a folder, prepared as a trainer does it."""

from __future__ import annotations

import gzip
import io
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from storage.records.training import (
    Named,
    Network,
    Preparation,
    Split,
    TextPreparation,
    TrainingData,
    TrainingSpec,
)
from tests.support.bulk_files import FolderShelf
from tests.support.household import Household
from workers.bulk.places import Places
from workers.training.data.kept_rows import KeptRows
from workers.training.data.prepare import prepare
from workers.training.ports import Part

SPARSE = Named("sparse_categorical_crossentropy")
NUMBERS = Named("mean_squared_error")


class WordCounter:
    """A vectorizer without TensorFlow: words between spaces."""

    def __init__(self, options: TextPreparation) -> None:
        self._options = options
        self.learned_from: list[str] = []

    def learn(self, texts: Callable[[], Iterable[Sequence[str]]]) -> tuple[str, ...]:
        self.learned_from = [one for batch in texts() for one in batch]
        counts = Counter(word for text in self.learned_from for word in text.split())
        ordered = sorted(counts, key=lambda word: (-counts[word], word))
        return tuple(ordered[: self._options.max_tokens - 2])

    def apply(self, vocabulary: Sequence[str], texts: Sequence[str]) -> Any:
        ids = {word: at + 2 for at, word in enumerate(vocabulary)}
        block = np.zeros((len(texts), self._options.length), np.int32)
        for row, text in enumerate(texts):
            words = [ids.get(word, 1) for word in text.split()][: self._options.length]
            block[row, : len(words)] = words
        return block


class DataDesk:
    """A folder that may be read, and what comes of preparing files in it."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "listed"
        self.folder.mkdir()
        self._kept, self._numbers = tmp_path / "kept", count()
        self.house = house = Household.on_sqlite(tmp_path)
        self.places = Places(house.database, house.objects, [f"file://{self.folder}"], [])
        self.shelf = FolderShelf(self.folder)
        self.vectorizers: list[WordCounter] = []
        self.told: list[int] = []

    def uri(self, name: str) -> str:
        return f"file://{self.folder}/{name}"

    def write(self, name: str, data: bytes | str) -> str:
        return self.shelf.write(name, data.encode() if isinstance(data, str) else data)

    def csv(self, name: str, header: str, rows: Iterable[str]) -> str:
        return self.write(name, "\n".join([header, *rows]) + "\n")

    def prepare(
        self,
        spec: TrainingSpec,
        still: Callable[[], bool] = lambda: True,
        **options: Any,
    ) -> KeptRows:
        folder = self._kept / str(next(self._numbers))
        folder.mkdir(parents=True)

        def vectorizer_of(options: TextPreparation) -> WordCounter:
            self.vectorizers.append(WordCounter(options))
            return self.vectorizers[-1]

        rows = prepare(
            self.places, "ayla", spec, folder, vectorizer_of, self.told.append, still, **options
        )
        assert isinstance(rows, KeptRows)
        return rows


def spec_of(
    *uris: str,
    label: str | None = "label",
    loss: Named = SPARSE,
    data: Mapping[str, Any] | None = None,
    prepare: Preparation | None = None,
    split: Split | None = None,
    batch_size: int = 1,
    **rest: Any,
) -> TrainingSpec:
    """A spec about data; nothing else of it matters here."""
    return TrainingSpec(
        data=replace(TrainingData(uris, label=label), **(data or {})),
        network=Network(recipe="dense"),
        loss=loss,
        prepare=prepare or Preparation(),
        split=split or Split(0.25, 0.25, 7),
        batch_size=batch_size,
        **rest,
    )


def everything(rows: KeptRows, part: Part = Part.TRAIN) -> Any:
    """All rows of a part, in their order."""
    return rows.take(part, np.arange(rows.prepared.rows[part]))


def idx(array: Any, *, packed: bool = False) -> bytes:
    """An IDX file as MNIST's."""
    codes = {"u1": 8, "i1": 9, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder(">"))
    head = struct.pack(">BBBB", 0, 0, codes[array.dtype.str[1:]], array.ndim)
    data = head + struct.pack(f">{array.ndim}I", *array.shape) + plain.tobytes()
    return gzip.compress(data, 1, mtime=0) if packed else data


def png(pixels: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
