"""From a spec to rows that lie ready: find, read, split, learn, keep."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.records.errors import InvalidInput, NotFound
from storage.records.training import DataFormat, Task, TrainingSpec
from workers.bulk.places import Places
from workers.training.data.complaints import Mask
from workers.training.data.files import (
    DataFile,
    check_digests,
    find_files,
    format_of_files,
    note_of,
)
from workers.training.data.flat import FlatFile, bytes_view
from workers.training.data.gathering import Gathering
from workers.training.data.idx import IdxReader, labels_beside
from workers.training.data.inputs import KeptInput, NotBytes
from workers.training.data.kept_rows import BUDGET_BYTES, KeptRows, PartRows
from workers.training.data.labels import check_classes
from workers.training.data.pictures import PicturesReader
from workers.training.data.pieces import Reader
from workers.training.data.roles import Roles, roles_of
from workers.training.data.scaling import scale_of
from workers.training.data.serving import options_of
from workers.training.data.split import split_rows
from workers.training.data.tables import TableReader
from workers.training.data.targets import class_weights, group_weights, target_of
from workers.training.data.trouble import data_empty
from workers.training.ports import (
    Feature,
    Part,
    Prepared,
    Rows,
    Scale,
    Target,
    VectorizerOf,
)

_MAX_NOTED_CLASSES = 1_000


def prepare(
    places: Places,
    tenant: str,
    spec: TrainingSpec,
    folder: Path,
    vectorizer_of: VectorizerOf,
    on_rows: Callable[[int], None],
    still: Callable[[], bool],
    *,
    budget_bytes: int = BUDGET_BYTES,
) -> Rows:
    """The spec's rows, kept in ``folder``, which is empty and the caller's to delete.

    ``on_rows`` is told how many rows were read so far; when ``still`` is False ``Stopped`` is
    raised. Whatever is wrong with the data is ``InvalidInput`` or ``NotFound``; storage that does
    not answer after a few tries is raised as it is. Rows of up to ``budget_bytes`` are held in
    memory. The same files and spec give the same rows, on any machine.
    """
    files, labels_file, form = _files(places, tenant, spec, still)
    every = [*files, *([labels_file] if labels_file else [])]
    check_digests(every, spec.data.digests, still)
    reader = _reader(spec, form, files, labels_file, still)
    if not reader.columns():
        raise data_empty([one.uri for one in files], 0)
    roles = roles_of(spec, reader.columns(), form, files[0].uri)

    def gathered(*, as_bytes: bool) -> Gathering:
        gathering = Gathering(spec, roles, form, folder, vectorizer_of, as_bytes=as_bytes)
        with _closed_on_error(gathering):
            gathering.read(reader, on_rows, still)
        return gathering

    try:
        gathering = gathered(as_bytes=True)
    except NotBytes:
        gathering = gathered(as_bytes=False)
    with _closed_on_error(gathering):
        return _Finishing(spec, roles, gathering, files, every, budget_bytes).rows()


@contextlib.contextmanager
def _closed_on_error(gathering: Gathering) -> Iterator[None]:
    try:
        yield
    except BaseException:
        gathering.close()
        raise


def _files(
    places: Places, tenant: str, spec: TrainingSpec, still: Callable[[], bool]
) -> tuple[list[DataFile], DataFile | None, DataFormat]:
    """The files, that of IDX's labels, and what they hold."""
    data = spec.data
    many = data.format is DataFormat.IMAGES or (
        data.format is None and any(uri.endswith("/") for uri in data.uris)
    )
    files = find_files(places, tenant, data.uris, still, many=many)
    form = data.format or format_of_files(data.uris, files)
    if form is not DataFormat.IDX:
        return files, None, form
    uri = data.labels_uri
    if uri is None:
        # MNIST's four files often lie in one folder, and a pattern finds the labels as well.
        files = [one for one in files if "labels" not in one.uri.rpartition("/")[2]] or files
        uri = labels_beside(files[0].uri) if len(files) == 1 else None
        if uri is None:
            raise InvalidInput(
                f"say in data.labels_uri which file has the labels of {files[0].uri}",
                code="labels_needed",
                field="data.labels_uri",
            )
    else:
        files = [one for one in files if one.uri != uri] or files
    try:
        (labels,) = find_files(places, tenant, [uri], still, many=False)
    except NotFound as error:
        raise InvalidInput(
            f"{error.message}, where the labels of {files[0].uri} would be: say data.labels_uri",
            code="labels_needed",
            field="data.labels_uri",
        ) from error
    return files, labels, form


def _reader(
    spec: TrainingSpec,
    form: DataFormat,
    files: list[DataFile],
    labels: DataFile | None,
    still: Callable[[], bool],
) -> Reader:
    if form in (DataFormat.IDX, DataFormat.IMAGES) and spec.data.where:
        raise InvalidInput(
            f"data.where chooses by columns, and {form} files have none",
            code="bad_where",
            field="data.where",
        )
    if form is DataFormat.IDX:
        assert labels is not None
        return IdxReader(files, labels, still)
    if form is DataFormat.IMAGES:
        return PicturesReader(spec.data.uris, files, spec.data.shape, still)
    reader = TableReader(files, form, spec.data.where, still)
    if spec.prepare.text is None and form in (DataFormat.CSV, DataFormat.JSONL):
        others = {spec.data.label, spec.weights.group, *spec.prepare.categories}
        names = [one.name for one in reader.columns()]
        reader.expect_numbers([n for n in spec.data.features or names if n not in others])
    return reader


class _Finishing:
    """All rows are there: what follows is the same whatever they were read from."""

    def __init__(
        self,
        spec: TrainingSpec,
        roles: Roles,
        gathering: Gathering,
        files: list[DataFile],
        every: list[DataFile],
        budget_bytes: int,
    ) -> None:
        self._spec, self._roles, self._gathering = spec, roles, gathering
        self._files, self._every, self._budget_bytes = files, every, budget_bytes
        self._target = target_of(spec.loss.name)
        self._note: dict[str, Any] = {}

    def rows(self) -> KeptRows:
        """The split, what is learned on its training rows, and all of it together."""
        gathering = self._gathering
        alive = gathering.alive()
        which = np.flatnonzero(alive)
        if not len(which):
            raise data_empty([one.uri for one in self._files], sum(gathering.dropped.values()))
        names, values = self._labels(alive)
        parts = self._split(which, names, values)
        train = np.zeros(len(alive), np.bool_)
        train[parts[Part.TRAIN]] = True
        inputs = [one.finish(train) for one in gathering.inputs]
        kept = {
            part: PartRows(rows, values[rows], self._weights(part, rows, names, values))
            for part, rows in parts.items()
        }
        files = {one.name: one.file for one in inputs}
        prepared = self._prepared(inputs, names, kept, train)
        return KeptRows(prepared, files, kept, self._budget_bytes)

    def _labels(self, alive: Mask) -> tuple[tuple[str, ...], npt.NDArray[Any]]:
        labels = self._gathering.labels
        if self._spec.task is Task.NUMBERS:
            return (), labels.numbers()
        names, codes = labels.classes(alive)
        counts = np.bincount(codes[alive], minlength=len(names))
        binary = self._spec.loss.name if self._target is Target.BINARY else None
        check_classes(names, counts, self._roles.label.name, binary=binary)
        return names, codes

    def _split(
        self, which: npt.NDArray[np.int64], names: tuple[str, ...], values: npt.NDArray[Any]
    ) -> dict[Part, npt.NDArray[np.int64]]:
        spec = self._spec
        by_class = values[which] if names and spec.split.stratify else None
        parts = {
            part: which[rows] for part, rows in split_rows(spec.split, len(which), by_class).items()
        }
        trained = len(parts[Part.TRAIN])
        if spec.batch_size > trained:
            raise InvalidInput(
                f"a batch of {spec.batch_size} is more than the {trained} rows that are trained on",
                code="batch_too_large",
                field="batch_size",
            )
        return parts

    def _weights(
        self,
        part: Part,
        rows: npt.NDArray[np.int64],
        names: tuple[str, ...],
        values: npt.NDArray[Any],
    ) -> npt.NDArray[np.float32] | None:
        """Of training rows: what is measured on the others is to be about rows as they come."""
        weights = self._spec.weights
        if part is not Part.TRAIN:
            return None
        counts = np.bincount(values[rows], minlength=len(names)) if names else np.zeros(0, int)
        classes = class_weights(weights, names, counts)
        every = np.ones(len(rows), np.float32)
        if classes is not None:
            every = classes[values[rows]]
        if weights.group is not None:
            words, codes = self._gathering.groups()
            every = every * group_weights(weights, words)[codes[rows]]
        return every if classes is not None or weights.group is not None else None

    def _prepared(
        self,
        inputs: list[KeptInput],
        names: tuple[str, ...],
        kept: Mapping[Part, PartRows],
        train: Mask,
    ) -> Prepared:
        spec = self._spec
        scales: dict[str, Scale] = {}
        constants: list[str] = []
        for one in inputs:
            scale, told = scale_of(one, spec.prepare, train)
            constants += told
            if scale is not None:
                scales[one.name] = scale
        features = tuple(Feature(one.name, one.file.dtype.name, one.file.shape) for one in inputs)
        vocabulary = next((one.vocabulary for one in inputs if one.vocabulary), ())
        options = options_of(inputs, names, self._target, spec.loss)
        facts = {
            "features": [asdict(one) for one in features],
            "target": self._target,
            "labels": names,
            "text": asdict(spec.prepare.text) if spec.prepare.text else None,
            "vocabulary": vocabulary,
            "options": options.to_json(),
        }
        return Prepared(
            features=features,
            target=self._target,
            labels=names,
            rows={part: len(rows.rows) for part, rows in kept.items()},
            scales=scales,
            text=spec.prepare.text,
            vocabulary=vocabulary,
            options=options,
            digest=_digest(facts, scales, {one.name: one.file for one in inputs}, kept),
            note=self._told(inputs, names, kept, constants),
            weighted=kept[Part.TRAIN].weights is not None,
        )

    def _told(
        self,
        inputs: list[KeptInput],
        names: tuple[str, ...],
        kept: Mapping[Part, PartRows],
        constants: list[str],
    ) -> dict[str, Any]:
        gathering = self._gathering
        note: dict[str, Any] = note_of(self._every)
        note["rows"] = {part.value: len(rows.rows) for part, rows in kept.items()}
        if gathering.dropped:
            note["dropped"] = dict(gathering.dropped)
        if gathering.skipped:
            note["left_out_by_where"] = gathering.skipped
        if constants:
            note["constant_columns"] = constants[:_MAX_NOTED_CLASSES]
        if 0 < len(names) <= _MAX_NOTED_CLASSES:
            counts = {
                part: np.bincount(rows.labels, minlength=len(names)).tolist()
                for part, rows in kept.items()
            }
            note["classes"] = {
                name: {part.value: counts[part][at] for part in kept}
                for at, name in enumerate(names)
            }
        for one in inputs:
            note |= one.note
        return note


def _digest(
    facts: Mapping[str, Any],
    scales: Mapping[str, Scale],
    files: Mapping[str, FlatFile],
    kept: Mapping[Part, PartRows],
) -> str:
    """Of all that is learned and kept. What the files were called or cut into is no part of it."""
    told = {
        **facts,
        "scales": {
            name: [_hex(one.offset), _hex(one.factor)] for name, one in sorted(scales.items())
        },
        "files": {name: file.digest for name, file in sorted(files.items())},
        "parts": {
            part.value: [
                _hex(rows.rows),
                _hex(rows.labels),
                None if rows.weights is None else _hex(rows.weights),
            ]
            for part, rows in sorted(kept.items())
        },
    }
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _hex(array: npt.NDArray[Any]) -> str:
    return hashlib.sha256(bytes_view(np.ascontiguousarray(array))).hexdigest()
