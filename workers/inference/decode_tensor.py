"""Tensors as callers write them: nested lists, ``{dtype, shape, b64}``, .npy bytes, strings.

Strict on purpose: a bool is no number, 3.5 is no integer, 300 is no uint8, and NaN is nothing.
Numbers are widened or narrowed to the model's type only where their value survives.
"""

from __future__ import annotations

import io
from itertools import chain
from typing import Any

import numpy as np
import pybase64

from storage.records.errors import ItemError
from storage.records.input_check import check_binary_tensor, check_shape
from storage.records.signatures import InputSpec, Signature
from workers.inference.ports import Array, Row


def decode_inputs(signature: Signature, content: object, where: str, *, bools: bool = True) -> Row:
    """Every named tensor of the model, none missing and none besides."""
    if not isinstance(content, dict):
        raise ItemError("inputs must be an object", code="wrong_form", field=where)
    specs = signature.by_name
    for name in content:
        if name not in specs:
            raise ItemError(
                f"the model has no input {name[:80]!r}", code="unknown_input", field=where
            )
    missing = [name for name in specs if name not in content]
    if missing:
        raise ItemError(f"input {missing[0]!r} is missing", code="missing_input", field=where)
    return {
        name: decode_tensor(spec, content[name], f"{where}.{name}", bools=bools)
        for name, spec in specs.items()
    }


def decode_tensor(spec: InputSpec, content: object, where: str, *, bools: bool = True) -> Array:
    """One tensor, of exactly the model's type and shape; ``bools`` as there may be some in it."""
    if isinstance(content, dict):
        return fit(spec, _from_base64(content, where), where)
    if spec.dtype == "string":
        return _strings(spec, content, where)
    array = _from_lists(content, where, bools)
    if array.dtype.kind == "f" and spec.dtype == "uint64":
        array = _whole(content, array)
    return fit(spec, array, where)


def decode_npy(signature: Signature, data: bytes, where: str) -> Row:
    """An array in numpy's own file format, for a model with one tensor. Never a pickle."""
    if len(signature.asked) != 1:
        raise ItemError(
            "an .npy holds one array; the model takes several", code="wrong_form", field=where
        )
    spec = signature.asked[0]
    stream = io.BytesIO(data)
    try:
        # The header is read first: its shape must be the model's before room is made for it.
        version = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(stream)
        if dtype.hasobject or dtype.itemsize * int(np.prod(shape, dtype=object)) > len(data):
            raise ValueError("it declares more than it holds, or Python objects")
        stream.seek(0)
        array = np.lib.format.read_array(stream, allow_pickle=False)
    except (ValueError, SyntaxError, EOFError, OSError) as error:
        raise ItemError(f"not a readable .npy: {error}", code="bad_npy", field=where) from None
    if spec.dtype == "string":
        raise ItemError("the model takes strings", code="wrong_dtype", field=where)
    return {spec.name: fit(spec, array, where)}


def text_row(spec: InputSpec, content: object, where: str) -> Row:
    """Raw text for a model that cuts it into tokens itself."""
    return {spec.name: text_cell(spec, _text(content, where))}


def text_cell(spec: InputSpec, text: str) -> Array:
    """One string in the shape the model has for it: a scalar, or a list of one."""
    return np.array([text], dtype=object).reshape((1,) * len(spec.shape))


def fit(spec: InputSpec, array: Array, where: str) -> Array:
    """The array in the model's type, or ``ItemError``: shape, kind, range, finiteness."""
    check_shape(spec, array.shape, where)
    want = np.dtype(spec.dtype)
    if array.dtype == want:
        fitted = array
    elif want.kind == "b" or array.dtype.kind not in "iuf" or want.kind not in "iuf":
        raise _wrong_dtype(f"{_kind(array)} where the model takes {spec.dtype}", where)
    elif want.kind == "f":
        with np.errstate(over="ignore"):
            fitted = array.astype(want)
    else:
        fitted = _to_integers(array, want, where)
    if want.kind == "f" and not np.isfinite(fitted).all():
        if np.isfinite(array).all():
            raise _range(f"a value does not fit {spec.dtype}", where)
        raise ItemError("NaN and infinity are not numbers", code="not_finite", field=where)
    return np.ascontiguousarray(fitted).reshape(array.shape)


def _to_integers(array: Array, want: np.dtype[Any], where: str) -> Array:
    if array.dtype.kind == "f" and array.size:
        # Lists with integers on both sides of int64's end arrive here as floats as well.
        beyond = np.isfinite(array) & (np.abs(array) >= 2.0**63) & (array == np.floor(array))
        if beyond.any():
            raise _range(f"{array[beyond][0]:g} does not fit {want.name}", where)
        raise _wrong_dtype(f"fractional numbers where the model takes {want.name}", where)
    limits = np.iinfo(want)
    if array.size and (int(array.min()) < limits.min or int(array.max()) > limits.max):
        worst = int(array.min()) if int(array.min()) < limits.min else int(array.max())
        raise _range(f"{worst} does not fit {want.name} ({limits.min} to {limits.max})", where)
    return array.astype(want)


def _from_lists(content: object, where: str, bools: bool) -> Array:
    try:
        array = np.array(content)
    except (ValueError, OverflowError) as error:
        message = str(error).split(". ")[0]
        raise ItemError(
            f"the nested lists are ragged: {message}", code="wrong_shape", field=where
        ) from None
    if bools and array.dtype.kind in "iuf" and array.size and _holds_bool(content):
        raise _wrong_dtype("true and false among numbers", where)
    if array.dtype.kind == "f" and not array.size:
        return array.astype(np.int8)  # an empty list has no type of its own
    return array


def _whole(content: object, array: Array) -> Array:
    """numpy turns a list with numbers on both sides of 2**63 into floats, which lose digits."""
    exact = np.array(content, dtype=object)
    whole = all(isinstance(value, int) and 0 <= value < 2**64 for value in exact.flat)
    return exact.astype(np.uint64) if whole else array


def _holds_bool(content: object) -> bool:
    """numpy turns a bool among numbers into 0 or 1 without a word. Never ragged here."""
    flat: list[Any] = content if isinstance(content, list) else [content]
    while flat and isinstance(flat[0], list):
        flat = list(chain.from_iterable(flat))
    return bool in set(map(type, flat))


def _from_base64(content: dict[str, object], where: str) -> Array:
    dtype, shape = check_binary_tensor(content, where)
    text = content["b64"]
    assert isinstance(text, str)
    try:
        data = pybase64.b64decode(text, validate=True)
        array = np.frombuffer(data, dtype=np.dtype(dtype).newbyteorder("<")).reshape(shape)
    except ValueError as error:
        raise ItemError(
            f"b64 is not base64 of that many bytes: {error}", code="bad_base64", field=where
        ) from None
    if dtype == "bool" and (array.view(np.uint8) > 1).any():
        raise _range("a bool is 0 or 1", where)
    return array.astype(np.dtype(dtype), copy=False)


def _strings(spec: InputSpec, content: object, where: str) -> Array:
    try:
        array = np.array(content, dtype=object)
    except ValueError:
        raise ItemError("the nested lists are ragged", code="wrong_shape", field=where) from None
    check_shape(spec, array.shape, where)
    for text in array.flat:
        _text(text, where)
    return array


def _text(content: object, where: str) -> str:
    if not isinstance(content, str):
        raise _wrong_dtype("the model takes strings", where)
    if "\x00" in content:
        raise ItemError("the text holds a NUL character", code="bad_text", field=where)
    return content


def _kind(array: Array) -> str:
    names = {"b": "true and false", "U": "strings", "O": "null or mixed values"}
    return names.get(array.dtype.kind, array.dtype.name)


def _wrong_dtype(message: str, where: str) -> ItemError:
    return ItemError(message, code="wrong_dtype", field=where)


def _range(message: str, where: str) -> ItemError:
    return ItemError(message, code="out_of_range", field=where)
