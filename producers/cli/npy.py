"""A ``.npy`` file as a tensor on the wire, without NumPy (the bare install has none)."""

from __future__ import annotations

import ast
import base64
import math
import re
from pathlib import Path
from typing import Any

from producers.cli.exits import usage

_MAGIC = b"\x93NUMPY"
_KINDS = {"f": "float", "i": "int", "u": "uint"}
_MAX_HEADER_BYTES = 65_536


def read_npy(path: Path) -> dict[str, Any]:
    """``{dtype, shape, b64}``; anything but a plain numeric array is refused."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise usage(f"cannot read {path}: {error.strerror or error}") from error
    if not data.startswith(_MAGIC) or len(data) < 12:
        raise usage(f"{path} is not a .npy file", "save one with numpy.save(path, array)")
    wide = data[6] >= 2  # version 1 has a header length of two bytes, later ones of four
    start = 12 if wide else 10
    length = int.from_bytes(data[8:start], "little")
    dtype, shape, width = _header(data[start : start + min(length, _MAX_HEADER_BYTES)], path)
    body = data[start + length :]
    if len(body) != math.prod(shape) * width:
        raise usage(f"{path} is truncated: its shape is {shape}, but {len(body)} bytes follow")
    return {"dtype": dtype, "shape": list(shape), "b64": base64.b64encode(body).decode("ascii")}


def _header(text: bytes, path: Path) -> tuple[str, tuple[int, ...], int]:
    try:
        header = ast.literal_eval(text.decode("utf-8").strip())
        descr, fortran, shape = header["descr"], header["fortran_order"], tuple(header["shape"])
        sizes_fit = all(isinstance(size, int) and size >= 0 for size in shape)
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise usage(f"{path} has a damaged header") from error
    if fortran and len(shape) > 1:
        raise usage(f"{path} is in Fortran order", "save numpy.ascontiguousarray(array) instead")
    if descr == "|b1":
        return "bool", shape, 1
    match = re.fullmatch(r"[<|]([fiu])([1248])", str(descr))
    if match is None or not sizes_fit:
        raise usage(f"{path} holds {descr!r}; only little-endian numbers and booleans can be sent")
    width = int(match[2])
    return f"{_KINDS[match[1]]}{width * 8}", shape, width
