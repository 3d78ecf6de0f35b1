"""The plainest PNGs, read without Pillow's machinery for all the others.

A small grey or coloured picture of 8 bits is what most of this work is made of, and opening a
file costs several times what inflating its pixels does. Here the chunks are walked directly and
the pixels go to Pillow's own decoder. Whatever is not of the plainest kind (a palette,
transparency, 16 bits, interlacing, an orientation, any damage) is ``None``: for the general way,
which then also has the say about what is wrong with it.
"""

from __future__ import annotations

import struct
import zlib

from PIL import Image

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_START = _SIGNATURE + b"\x00\x00\x00\rIHDR"
_HEADER = struct.Struct(">IIBBBBBI")
_CHUNK = struct.Struct(">I4s")
_MODES = {0: "L", 2: "RGB", 6: "RGBA"}
# They say nothing that changes a pixel as Pillow gives it.
_IDLE = frozenset({b"pHYs", b"tIME", b"gAMA", b"sRGB", b"cHRM", b"bKGD", b"sBIT"})
_CRC = struct.Struct(">I")


def read_plain_png(data: bytes, max_pixels: int) -> Image.Image | None:
    """The picture, or None when it is for the general way."""
    if not data.startswith(_START) or len(data) < 33:
        return None
    width, height, depth, colour, packing, filtering, interlaced, crc = _HEADER.unpack_from(
        data, 16
    )
    mode = _MODES.get(colour)
    plain = mode is not None and depth == 8 and not (packing or filtering or interlaced)
    if not plain or not 0 < width * height <= max_pixels or crc != zlib.crc32(data[12:29]):
        return None
    pixels = _pixels(data)
    if pixels is None:
        return None
    try:
        return Image.frombytes(mode, (width, height), pixels, "zip", mode)  # type: ignore[arg-type]
    except (ValueError, OSError):
        return None


def _pixels(data: bytes) -> bytes | None:
    """The compressed pixels, when nothing else in the file has a say."""
    found: list[bytes] = []
    at, end, before = 33, len(data) - 12, b""  # a chunk is 12 bytes at least
    while at <= end:
        length, kind = _CHUNK.unpack_from(data, at)
        after = at + 12 + length
        if kind == b"IDAT" and (before == b"IDAT" or not found):
            found.append(data[at + 8 : after - 4])
        elif kind == b"IEND":
            return b"".join(found) if found else None
        elif kind not in _IDLE or after > len(data) or not _sound(data, at, after):
            return None
        at, before = after, kind
    return None


def _sound(data: bytes, at: int, after: int) -> bool:
    """Whether the chunk's checksum is right."""
    return bool(_CRC.unpack_from(data, after - 4)[0] == zlib.crc32(data[at + 4 : after - 4]))
