"""Shape buckets: which items may share a pass, what they cost, and how they are padded and cut.

A model with axes of any length (tokens, a picture's sides) is padded along them only where its
pusher declared sizes for them (``serving.pad``): padding changes what a model answers unless it
masks, and only its maker knows that. Without the declaration items share a pass when their shapes
are equal. A mask is ours to fill: 1 where there is data, 0 where there is padding.

A bucket is spelled as its lengths: ``128`` for a sequence, ``64x96`` for a picture, joined by
commas where several inputs vary; ``""`` where none does. Pure numpy.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence

import numpy as np

from storage.records.errors import InvalidInput, ItemError
from storage.records.serving import Cost, Pad, Serving
from storage.records.serving_check import check_lengths, fill_of
from storage.records.signatures import InputSpec, Signature
from workers.inference.ports import Array, Follows, LoadedModel, Ragged, Row

FIXED = ""  # the bucket of models without axes of any length
MIXED = "*"  # a list job whose rows fall into several

Lengths = tuple[int, ...]


def allowed_sizes(serving: Serving, most: int) -> tuple[int, ...]:
    """The batch sizes of a version on a worker that takes batches of ``most`` rows."""
    most = min(most, serving.max_batch)
    if serving.batch_sizes:
        return tuple(size for size in serving.batch_sizes if size <= most) or (most,)
    return tuple(1 << power for power in range(max(1, most).bit_length()))


def check_row(signature: Signature, row: Row, where: str) -> None:
    """Raise ``ItemError`` (``too_long``) when the row fits into none of the allowed sizes."""
    for spec in signature.varying:
        pad = signature.serving.pad.get(spec.name)
        if pad is not None:
            try:
                check_lengths(spec, pad, row[spec.name].shape, where)
            except InvalidInput as error:
                raise ItemError(error.message, code=error.stable_code, field=where) from None


def shape_of(signature: Signature, rows: Sequence[Row]) -> str:
    """The bucket of these rows, ``MIXED`` when they fall into several."""
    if not signature.varying or not rows:
        return FIXED
    first = _bucket(signature, rows[0])
    if any(_bucket(signature, row) != first for row in rows[1:]):
        return MIXED
    return first


def cost_of(signature: Signature, rows: Sequence[Row]) -> float:
    """What all these rows cost, padded to their buckets."""
    if signature.serving.cost is Cost.ROWS:
        return float(len(rows))
    return sum(cost_per_row(signature, shape_of(signature, [row])) for row in rows)


def cost_per_row(signature: Signature, shape: str) -> float:
    """What one row costs in a bucket."""
    if signature.serving.cost is Cost.ROWS:
        return 1.0
    image = signature.image
    if image is not None and image.height is not None and image.width is not None:
        return float(image.height * image.width)
    found = lengths_of(signature, shape).values()
    return float(max((math.prod(lengths) for lengths in found), default=1))


def lengths_of(signature: Signature, shape: str) -> dict[str, Lengths]:
    """The bucket read back: the lengths of each varying input's axes of any length."""
    parts = shape.split(",") if shape else []
    return {
        spec.name: tuple(map(int, part.split("x")))
        for spec, part in zip(signature.varying, parts, strict=True)
    }


def stack(signature: Signature, rows: Sequence[Row], shape: str, bucket: int) -> dict[str, Array]:
    """The batch: rows padded to ``shape`` with their masks, then up to ``bucket`` rows.

    The batch axis is padded by repeating the first row, so that it cannot put a NaN or an unknown
    word into the model. Rows may be shorter than ``shape``.
    """
    lengths = lengths_of(signature, shape)
    batch: dict[str, Array] = {}
    for spec in signature.asked:
        given = [row[spec.name] for row in rows]
        if spec.name in lengths:
            batch |= _padded(signature, spec, given, lengths[spec.name], bucket)
        else:
            batch[spec.name] = _stacked(given, bucket)
    return batch


def join(
    signature: Signature, blocks: Sequence[Mapping[str, Array]], bucket: int
) -> dict[str, Array]:
    """The batch of whole blocks of rows, for models whose inputs have one shape; padded as in
    ``stack``. A block that fills it by itself is not copied."""
    batch: dict[str, Array] = {}
    for spec in signature.asked:
        given = [block[spec.name] for block in blocks]
        if len(given) == 1 and len(given[0]) == bucket:
            batch[spec.name] = given[0]
            continue
        whole = np.empty((bucket, *given[0].shape[1:]), dtype=given[0].dtype)
        at = 0
        for array in given:
            whole[at : at + len(array)] = array
            at += len(array)
        whole[at:] = whole[0]
        batch[spec.name] = whole
    return batch


def unpad(
    model: LoadedModel, outputs: Mapping[str, Array], rows: Sequence[Row]
) -> dict[str, Ragged]:
    """The outputs of exactly these rows: no padding along any axis is left."""
    return cut(model.signature, model.plan.follows, outputs, rows)


def cut(
    signature: Signature,
    follows: Mapping[str, Sequence[Follows | None]],
    outputs: Mapping[str, Array],
    rows: Sequence[Row],
) -> dict[str, Ragged]:
    """As ``unpad``, where there is no loaded model yet."""
    specs = signature.by_name
    return {
        name: [
            answer[_extent(specs, follows[name], row)]
            for answer, row in zip(array[: len(rows)], rows, strict=True)
        ]
        if name in follows
        else array[: len(rows)]
        for name, array in outputs.items()
    }


def exact_shape(signature: Signature, row: Row) -> str:
    """The row's own lengths, spelled as a bucket's."""
    return ",".join(["x".join(map(str, _lengths(s, None, row[s.name]))) for s in signature.varying])


def free_axes(spec: InputSpec) -> tuple[int, ...]:
    """Which axes have any length."""
    return tuple(index for index, axis in enumerate(spec.shape) if axis is None)


def _bucket(signature: Signature, row: Row) -> str:
    return ",".join(
        [
            "x".join(map(str, _lengths(spec, signature.serving.pad.get(spec.name), row[spec.name])))
            for spec in signature.varying
        ]
    )


def _lengths(spec: InputSpec, pad: Pad | None, array: Array) -> Lengths:
    have = tuple(n for n, axis in zip(array.shape, spec.shape, strict=True) if axis is None)
    if pad is None:
        return have
    return tuple(pad.sizes[bisect_left(pad.sizes, n)] for n in have)


def _stacked(given: Sequence[Array], bucket: int) -> Array:
    count, shape = len(given), given[0].shape
    batch = np.empty((bucket, *shape), dtype=given[0].dtype)
    if shape:  # half the time of a copy for each row
        np.concatenate(given, out=batch[:count].reshape(count * shape[0], *shape[1:]))
    else:
        batch[:count] = [array[()] for array in given]
    batch[count:] = batch[0]
    return batch


def _padded(
    signature: Signature, spec: InputSpec, given: Sequence[Array], lengths: Lengths, bucket: int
) -> dict[str, Array]:
    pad = signature.serving.pad.get(spec.name)
    if pad is None:
        return {spec.name: _stacked(given, bucket)}
    shape = _with_lengths(spec, lengths)
    dtype = object if spec.dtype == "string" else np.dtype(spec.dtype)
    batch = np.full((bucket, *shape), fill_of(pad, spec.dtype), dtype=dtype)
    for index, array in enumerate(given):
        batch[index][tuple([slice(n) for n in array.shape])] = array
    batch[len(given) :] = batch[0]
    if pad.mask is None:
        return {spec.name: batch}
    return {spec.name: batch, pad.mask: _mask(signature, spec, pad.mask, given, lengths, bucket)}


def _mask(
    signature: Signature,
    spec: InputSpec,
    name: str,
    given: Sequence[Array],
    lengths: Lengths,
    bucket: int,
) -> Array:
    mask = next(one for one in signature.inputs if one.name == name)
    axes = free_axes(spec)
    batch = np.zeros((bucket, *lengths), dtype=np.dtype(mask.dtype))
    for index, array in enumerate(given):
        batch[index][tuple([slice(array.shape[axis]) for axis in axes])] = 1
    batch[len(given) :] = batch[0]
    return batch.reshape((bucket, *_with_lengths(mask, lengths)))


def _with_lengths(spec: InputSpec, lengths: Lengths) -> tuple[int, ...]:
    """The input's shape with its axes of any length closed."""
    closed = iter(lengths)
    return tuple(next(closed) if axis is None else axis for axis in spec.shape)


def _extent(
    specs: Mapping[str, InputSpec], follows: Sequence[Follows | None], row: Row
) -> tuple[slice, ...]:
    """How much of each axis of an output belongs to this row."""
    cut = []
    for one in follows:
        if one is None:
            cut.append(slice(None))
        else:
            axis = free_axes(specs[one.input])[one.axis]
            cut.append(slice(one.length(row[one.input].shape[axis])))
    return tuple(cut)
