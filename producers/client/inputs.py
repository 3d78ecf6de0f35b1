"""Python values to the wire's input: paths, bytes, arrays and records become JSON.

NumPy is not needed; arrays are recognised by what they can do.
"""

from __future__ import annotations

import base64
import io
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from producers.client.errors import BadArgument

FORMS = ("tensor", "inputs", "image", "text", "record", "ref", "items")
_PNG_COLOUR = {1: 0, 2: 4, 3: 2, 4: 6}  # channels → the colour type of a PNG header


def encode_input(given: Mapping[str, Any]) -> dict[str, Any]:
    """The one input form in ``given`` (``{"image": path}``), as the service takes it."""
    named = [form for form in FORMS if given.get(form) is not None]
    if len(named) != 1:
        listed = ", ".join(FORMS)
        found = f"{len(named)} were given ({', '.join(named)})" if named else "none was given"
        raise BadArgument(f"give exactly one input, one of {listed}; {found}")
    form = named[0]
    return {form: _ENCODERS[form](given[form])}


def _tensor(value: Any) -> Any:
    array = _as_array(value)
    if array is not None:
        little = array.astype(array.dtype.newbyteorder("<"))
        return {
            "dtype": str(array.dtype.name),
            "shape": [int(size) for size in array.shape],
            "b64": base64.b64encode(little.tobytes()).decode("ascii"),
        }
    if isinstance(value, Mapping):  # already {dtype, shape, b64}
        return dict(value)
    return plain(value)


def _as_array(value: Any) -> Any:
    """``value`` if it is an array, what a TensorFlow or torch tensor holds, or None."""
    if hasattr(value, "__array_interface__") and hasattr(value, "dtype"):
        return value
    numpy = getattr(value, "numpy", None)
    if callable(numpy):
        return numpy()
    return None


def plain(value: Any) -> Any:
    """``value`` in JSON's own types; refuses what JSON cannot say."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BadArgument(f"{value} cannot be sent as JSON; give a finite number or None")
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if hasattr(value, "tolist"):  # arrays and NumPy scalars
        return plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [plain(entry) for entry in value]
    raise BadArgument(f"a {type(value).__name__} cannot be sent as JSON")


def _inputs(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise BadArgument("inputs= takes a mapping of input name to tensor")
    return {str(name): _tensor(tensor) for name, tensor in value.items()}


def _image(value: Any) -> str:
    return base64.b64encode(image_bytes(value)).decode("ascii")


def image_bytes(value: Any) -> bytes:
    """An encoded image from a path, bytes, a Pillow image or a uint8 array."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, (str, PathLike)):
        try:
            return Path(value).read_bytes()
        except OSError as error:
            raise BadArgument(f"cannot read {value}: {error.strerror or error}") from error
    array = _as_array(value)
    if array is not None:
        return _png(array)
    if hasattr(value, "save"):  # a Pillow image
        buffer = io.BytesIO()
        value.save(buffer, format="PNG")
        return buffer.getvalue()
    raise BadArgument(
        f"image= takes a path, bytes, a Pillow image or a uint8 array, not {type(value).__name__}"
    )


def _png(array: Any) -> bytes:
    """A uint8 array of (height, width[, channels]) as PNG: lossless, and needs no Pillow."""
    shape = [int(size) for size in array.shape]
    channels = shape[2] if len(shape) == 3 else 1
    if array.dtype.name != "uint8" or len(shape) not in (2, 3) or channels not in _PNG_COLOUR:
        raise BadArgument(
            "an image array is uint8 of shape (height, width) or (height, width, 1..4), not"
            f" {array.dtype.name} of shape {tuple(shape)}; send other arrays as tensor="
        )
    height, width = shape[:2]
    data, stride = array.tobytes(), width * channels
    lines = b"".join(b"\0" + data[row * stride : (row + 1) * stride] for row in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, _PNG_COLOUR[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadArgument(f"text= takes a string, not {type(value).__name__}")
    return value


def _record(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise BadArgument("record= takes a mapping of column to value")
    return {str(column): plain(cell) for column, cell in value.items()}


def _ref(value: Any) -> str:
    return str(getattr(value, "uri", value))


def _items(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, (str, bytes, Mapping)):
        raise BadArgument('items= takes a list of inputs, as in [{"image": path}, …]')
    return [encode_input(item) for item in value]


_ENCODERS = {
    "tensor": _tensor,
    "inputs": _inputs,
    "image": _image,
    "text": _text,
    "record": _record,
    "ref": _ref,
    "items": _items,
}
