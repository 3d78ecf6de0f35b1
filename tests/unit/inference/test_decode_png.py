"""The short way for plain PNGs gives exactly what Pillow's own reader gives, or nothing."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from workers.inference.decode_png import read_plain_png


def png(mode: str, width: int, height: int, seed: int = 0, **options: object) -> bytes:
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, *channels))
    out = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8), mode).save(out, "PNG", **options)
    return out.getvalue()


def by_pillow(data: bytes) -> np.ndarray | None:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            image.load()
            return np.asarray(image)
    except Exception:
        return None


@given(
    st.sampled_from(["L", "RGB", "RGBA"]),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 9),
    st.integers(0, 2**32),
)
def test_plain_pictures_come_out_as_from_pillow(mode, width, height, level, seed) -> None:
    data = png(mode, width, height, seed, compress_level=level)
    image = read_plain_png(data, 10_000)
    assert image is not None and image.mode == mode
    assert np.array_equal(np.asarray(image), by_pillow(data))


@settings(max_examples=300)
@given(
    st.sampled_from([png("L", 9, 7), png("RGB", 5, 5, dpi=(72, 72))]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=3),
    st.integers(0, 40),
)
def test_damage_is_never_read_otherwise_than_pillow_does(data, changes, cut) -> None:
    damaged = bytearray(data)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    hurt = bytes(damaged[: len(damaged) - cut])
    image = read_plain_png(hurt, 10_000)
    if image is not None:
        assert np.array_equal(np.asarray(image), by_pillow(hurt))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunk(data: bytes, kind: bytes, body: bytes, *, after_pixels: bool = False) -> bytes:
    at = data.index(b"IEND") - 4 if after_pixels else 33
    return data[:at] + chunk(kind, body) + data[at:]


def palette() -> bytes:
    out = io.BytesIO()
    Image.new("P", (3, 3)).save(out, "PNG")
    return out.getvalue()


def sixteen_bits() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.zeros((3, 3), dtype=np.uint16)).save(out, "PNG")
    return out.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return png("L", 3, 4, exif=exif)


def described() -> bytes:
    told = PngImagePlugin.PngInfo()
    told.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    return png("L", 3, 4, pnginfo=told)


NOT_PLAIN = {
    "a palette": palette(),
    "16 bits": sixteen_bits(),
    "turned": turned(),
    "turned by XMP": described(),
    "transparency": png("L", 4, 4, transparency=3),
    "an Exif block behind the pixels": with_chunk(
        png("L", 3, 3), b"eXIf", b"MM\x00*\x00\x00\x00\x08", after_pixels=True
    ),
    "an animation": with_chunk(png("L", 3, 3), b"acTL", bytes(8)),
    "no end": png("L", 3, 3)[:-12],
    "too many pixels": png("L", 200, 200),
    "another format": b"\xff\xd8\xff\xe0 a photograph",
    "nothing": b"",
}


@pytest.mark.parametrize("data", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_anything_else_is_left_to_the_general_way(data: bytes) -> None:
    assert read_plain_png(data, 10_000) is None


def test_what_says_nothing_of_pixels_is_passed_over() -> None:
    data = with_chunk(png("L", 3, 3, dpi=(300, 300)), b"tIME", bytes(7), after_pixels=True)
    assert np.array_equal(np.asarray(read_plain_png(data, 100)), by_pillow(data))
