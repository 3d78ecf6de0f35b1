"""All rows are there: the split, what is learned on its training rows, and what is told of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.records.errors import InvalidInput
from storage.records.training import Task, TrainingSpec
from workers.training.data.complaints import Mask
from workers.training.data.files import DataFile, note_of
from workers.training.data.flat import FlatFile, bytes_view
from workers.training.data.gathering import Gathering
from workers.training.data.inputs import KeptInput
from workers.training.data.kept_rows import KeptRows, PartRows
from workers.training.data.labels import check_classes
from workers.training.data.roles import Roles
from workers.training.data.scaling import scale_of
from workers.training.data.serving import options_of
from workers.training.data.split import Rows as Indices
from workers.training.data.split import split_rows
from workers.training.data.targets import class_weights, group_weights, target_of
from workers.training.data.trouble import data_empty
from workers.training.ports import Feature, Part, Prepared, Scale, Target

_MAX_NOTED = 1_000  # labels, constant columns


class Finishing:
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
        if not alive.any():
            dropped = sum(gathering.dropped.values())
            chosen = bool(self._spec.data.where)
            raise data_empty([one.uri for one in self._files], dropped, chosen=chosen)
        names, values = self._labels(alive)
        parts = self._split(alive, names, values)
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
        self, alive: Mask, names: tuple[str, ...], values: npt.NDArray[Any]
    ) -> dict[Part, Indices]:
        spec, count = self._spec, int(np.count_nonzero(alive))
        by_class = None
        if names and spec.split.stratify:
            by_class = values if count == len(alive) else values[alive]
        parts = split_rows(spec.split, count, by_class)
        if count < len(alive):
            which = np.flatnonzero(alive)
            parts = {part: which[rows] for part, rows in parts.items()}
        trained = len(parts[Part.TRAIN])
        if spec.batch_size > trained:
            raise InvalidInput(
                f"a batch of {spec.batch_size} is more than the {trained} rows that are trained on:"
                f" take a batch_size of {trained} or less, or give more rows",
                code="batch_too_large",
                field="batch_size",
            )
        return parts

    def _weights(
        self,
        part: Part,
        rows: Indices,
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
        if replaced := [one for one in self._roles.features if one in self._spec.prepare.replace]:
            note["replaced_before_training"] = replaced  # and not for callers of the version
        if constants:
            note["constant_columns"] = constants[:_MAX_NOTED]
        if 0 < len(names) <= _MAX_NOTED:
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
