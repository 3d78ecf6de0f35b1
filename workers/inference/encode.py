"""From a batch of outputs to one JSON text per row; vectorised, as it runs once per batch.

A row that holds NaN or infinity has no JSON and fails alone. orjson writes float32 with the
fewest digits that read back to the same float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import orjson

from storage.records.errors import ItemError
from storage.records.push_options import ScoreKind
from storage.records.signatures import Signature, label_output_of
from workers.inference.ports import Array, Ragged

_NARROW = 64  # numbers a row, up to which cutting is cheaper than a call for each row
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY


def encode_rows(
    signature: Signature, outputs: Mapping[str, Ragged], rows: int
) -> list[bytes | ItemError]:
    """One answer per row: ``{"outputs": {...}}``, with ``label`` and ``top`` where there are any.

    ``rows`` is what the caller scored; any other count is a fault of ours, never an item's.
    """
    finite = np.ones(rows, dtype=np.bool_)
    parts: list[list[bytes]] = []
    for name, output in outputs.items():
        if len(output) != rows:
            raise RuntimeError(f"output {name!r} has {len(output)} answers for {rows} rows")
        finite &= _finite(output, rows)
        parts.append([orjson.dumps(name) + b":" + text for text in _texts(output)])
    tails = _tails(signature, outputs, rows, finite)
    return [
        b'{"outputs":{' + b",".join(row) + b"}" + tail + b"}" if ok else _not_finite()
        for ok, tail, *row in zip(finite.tolist(), tails, *parts, strict=True)
    ]


def encode_items(results: Sequence[bytes | ItemError]) -> bytes:
    """The answer to an input of ``items``: each in its place, an error where there is one."""
    return b'{"items":[' + b",".join(_result_or_error(result) for result in results) + b"]}"


def _result_or_error(result: bytes | ItemError) -> bytes:
    if isinstance(result, bytes):
        return result
    return orjson.dumps({"error": {"code": result.stable_code, "message": result.message}})


def _not_finite() -> ItemError:
    return ItemError("the model answered with NaN or infinity", code="non_finite_output")


def _finite(output: Ragged, rows: int) -> Array:
    """Which rows hold nothing but numbers."""
    if isinstance(output, list):
        return np.array([a.dtype.kind != "f" or bool(np.isfinite(a).all()) for a in output])
    if output.dtype.kind != "f":
        return np.ones(rows, dtype=np.bool_)
    return np.asarray(np.isfinite(output).all(axis=tuple(range(1, output.ndim))))


def _texts(output: Ragged) -> list[bytes]:
    """The JSON of each row; a narrow table is written at once and cut into its rows."""
    if (
        isinstance(output, list)
        or output.dtype.kind in "OS"  # which are lists of texts then
        or output.ndim > 2
        or output.size > _NARROW * len(output)
    ):
        each = [_plain(row) for row in output] if isinstance(output, list) else _plain(output)
        return [orjson.dumps(row, option=_OPTIONS) for row in each]
    text = orjson.dumps(_plain(output), option=_OPTIONS)
    if output.ndim == 1:
        return text[1:-1].split(b",") if len(output) else []
    return [b"[" + row + b"]" for row in _cut_rows(text)]


def _cut_rows(table: bytes) -> list[bytes]:
    """What stands between the inner brackets of ``[[…],[…]]``."""
    return table[2:-2].split(b"],[") if len(table) > 2 else []


def _plain(array: Array) -> Array | list[Any]:
    """The array in a type and layout orjson can write."""
    if array.dtype.kind in "OS":  # strings arrive as bytes
        texts = [_text(value) for value in array.ravel().tolist()]
        listed: list[Any] = np.array(texts, dtype=object).reshape(array.shape).tolist()
        return listed
    if array.dtype.kind not in "biuf":
        raise RuntimeError(f"an output of type {array.dtype} cannot be written as JSON")
    return np.ascontiguousarray(array)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _tails(
    signature: Signature, outputs: Mapping[str, Ragged], rows: int, finite: Array
) -> list[bytes]:
    """Per row what a person reads: the best label and the first ``top_k`` with their scores."""
    if not signature.labels:
        return [b""] * rows
    labelled = outputs[label_output_of(signature).name]
    assert not isinstance(labelled, list), "a labelled output has one length"
    raw = labelled.reshape(rows, -1)
    scores = label_scores(raw, signature.scores, len(signature.labels), finite)
    count = min(signature.top_k, len(signature.labels))
    # A stable sort of the negated scores: of equal ones the earlier label comes first.
    best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    values = np.ascontiguousarray(np.take_along_axis(scores, best, axis=1))
    texts = _cut_rows(orjson.dumps(values, option=_OPTIONS))
    labels = signature.labels
    return [
        _tail([_quoted(labels[place]) for place in places], text.split(b","))
        for places, text in zip(best.tolist(), texts, strict=True)
    ]


def _tail(labels: list[bytes], scores: list[bytes]) -> bytes:
    top = [
        b'{"label":%b,"score":%b}' % (label, score)
        for label, score in zip(labels, scores, strict=True)
    ]
    return b',"label":%b,"top":[%b]' % (labels[0], b",".join(top))


@lru_cache(maxsize=8192)
def _quoted(label: str) -> bytes:
    return orjson.dumps(label)


def label_scores(raw: Array, kind: ScoreKind, labels: int, finite: Array) -> Array:
    """Scores between 0 and 1, one column per label; a single output is the second of two."""
    values = np.where(finite[:, np.newaxis], raw, 0).astype(np.float32)
    if values.shape[1] == 1 and labels == 2:
        if kind is ScoreKind.LOGITS:
            values = (1 / (1 + np.exp(-np.clip(values, -80, 80)))).astype(np.float32)
        return np.concatenate([1 - values, values], axis=1)
    if kind is ScoreKind.LOGITS:
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)
    return values
