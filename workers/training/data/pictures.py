"""A prefix of pictures: every file is a row, and the folder that it lies in is its label."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from storage.records.errors import InvalidInput, ItemError
from storage.records.image_spec import ImageSpec, Layout
from workers.bulk.kit import Stopped
from workers.bulk.reading.unchanged import pinned
from workers.inference.decode_image import decode_image
from workers.training.data.files import DataFile, unchanged
from workers.training.data.pieces import PIECE_BYTES, BrokenRow, ColumnInfo, Kind, Piece
from workers.training.data.trouble import shape_mismatch

PIXELS, LABEL = "image", "label"
MAX_PICTURE_BYTES = 64 << 20
_THREADS, _AHEAD = 4, 16


class PicturesReader:
    """Decoded to ``shape`` as uint8, a few ahead. A picture is a file of its own, so a broken one
    is named by its address."""

    def __init__(
        self,
        uris: Sequence[str],
        files: Sequence[DataFile],
        shape: tuple[int, ...],
        still: Callable[[], bool],
    ) -> None:
        self._files, self._shape, self._still = files, shape, still
        self._spec = image_spec(shape)
        self._labels = _labels(uris, files)

    def columns(self) -> tuple[ColumnInfo, ...]:
        return (
            ColumnInfo(PIXELS, Kind.TENSOR, self._shape, True, True),
            ColumnInfo(LABEL, Kind.TEXT),
        )

    def pieces(self, texts: Sequence[str], names: Sequence[str]) -> Iterator[Piece]:
        each = max(1, min(1024, PIECE_BYTES // int(np.prod(self._shape))))
        held: list[tuple[int, Any]] = []
        broken: list[tuple[int, str]] = []
        for index, picture in self._decoded():
            if isinstance(picture, str):
                broken.append((index, picture))
            else:
                held.append((index, picture))
            if len(held) + len(broken) >= each:
                yield from self._pieces(held, broken)
                held, broken = [], []
        yield from self._pieces(held, broken)

    def _pieces(
        self, held: list[tuple[int, Any]], broken: list[tuple[int, str]]
    ) -> Iterator[Piece]:
        for index, why in broken:
            yield Piece(
                self._files[index].uri,
                np.empty(0, np.int64),
                {PIXELS: np.empty((0, *self._shape), np.uint8), LABEL: pa.array([], pa.string())},
                [BrokenRow(index + 1, why)],
            )
        if held:
            indices = np.array([index for index, _ in held], np.int64)
            labels = pa.array([self._labels[index] for index in indices], pa.string())
            columns = {PIXELS: np.stack([picture for _, picture in held]), LABEL: labels}
            uris = [self._files[index].uri for index in indices]
            yield Piece(uris[0], indices + 1, columns, names=uris)

    def _decoded(self) -> Iterator[tuple[int, Any]]:
        """Every picture in its order, or why it is none."""
        with ThreadPoolExecutor(_THREADS, "forebay-train-pictures") as threads:
            queue: deque[tuple[int, Future[Any]]] = deque()
            try:
                for index, file in enumerate(self._files):
                    queue.append((index, threads.submit(self._one, file)))
                    if len(queue) > _AHEAD:
                        at, picture = queue.popleft()
                        yield at, picture.result()
                    if not self._still():
                        raise Stopped
                while queue:
                    at, picture = queue.popleft()
                    yield at, picture.result()
            finally:
                for _, picture in queue:
                    picture.cancel()

    def _one(self, file: DataFile) -> Any:
        found = pinned(file.found)
        if not 0 < found.size_bytes <= MAX_PICTURE_BYTES:
            return f"it has {found.size_bytes} bytes"
        with unchanged(file.uri):
            data = found.place.objects.get_range(found.place.key, 0, found.size_bytes)
        file.sha256 = hashlib.sha256(data).hexdigest()
        try:
            return decode_image(self._spec, "uint8", data, "data.uri")
        except ItemError as error:
            return error.message


def image_spec(shape: tuple[int, ...]) -> ImageSpec:
    """How pictures are brought to a shape. ``InvalidInput`` (``shape_mismatch``)."""
    if len(shape) == 2:
        return ImageSpec(shape[0], shape[1], 1, layout=Layout.NONE, scale=1.0)
    if len(shape) == 3 and shape[2] in (1, 3, 4):
        return ImageSpec(shape[0], shape[1], shape[2], scale=1.0)
    raise shape_mismatch(
        f"pictures need data.shape as [height, width, channels] with 1, 3 or 4 channels, and it is"
        f" {list(shape) if shape else 'missing'}"
    )


def _labels(uris: Sequence[str], files: Sequence[DataFile]) -> list[str]:
    """The first folder below the address that names them; below a pattern the last one."""
    prefixes = [uri for uri in uris if uri.endswith("/")]
    labels = []
    for file in files:
        prefix = max((one for one in prefixes if file.uri.startswith(one)), key=len, default=None)
        if prefix is not None:
            label, slash, _ = file.uri.removeprefix(prefix).partition("/")
        else:
            folder, slash, _ = file.uri.rpartition("/")
            label = folder.rpartition("/")[2]
        if not slash or not label:
            raise InvalidInput(
                f"the picture {file.uri} lies in no folder that would be its label: put each"
                " picture into a folder that is called as its label",
                code="label_missing",
                field="data.uri",
            )
        labels.append(label)
    return labels
