"""Pictures: upright, in the model's size and scale; bad ones are refused before they cost much."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from storage.records.errors import ItemError
from storage.records.push_options import parse_push_options
from storage.records.signatures import InputSpec, Signature, build_signature
from workers.inference.decode import decode_input


def model(shape: tuple = (2, 2, 1), dtype: str = "float32", **image: object) -> Signature:
    options = parse_push_options({"input": "image", "image": image})
    return build_signature([InputSpec("x", dtype, shape)], options)


def encoded(
    array: object, format: str = "PNG", mode: str | None = None, **options: object
) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.asarray(array, dtype=np.uint8), mode).save(out, format, **options)
    return out.getvalue()


def decode(signature: Signature, data: bytes, **options: object) -> np.ndarray:
    payload = orjson.dumps({"image": base64.b64encode(data).decode()})
    row = decode_input(signature, payload, **options).rows[0]
    assert not isinstance(row, ItemError)
    return row["x"]


def error_of(signature: Signature, data: bytes, **options: object) -> ItemError:
    with pytest.raises(ItemError) as caught:
        decode(signature, data, **options)
    return caught.value


GREY = [[0, 51], [102, 255]]


def test_grey_values_are_scaled_to_0_to_1() -> None:
    got = decode(model(), encoded(GREY))
    assert got.shape == (2, 2, 1) and got.dtype == np.float32
    np.testing.assert_allclose(got[:, :, 0], np.array(GREY) / 255, rtol=1e-6)


def test_scale_mean_std_invert_order_and_layout_do_what_they_say() -> None:
    data = encoded(GREY)
    normalised = decode(model(scale=1.0, mean=51, std=[51]), data)
    np.testing.assert_allclose(normalised[:, :, 0], (np.array(GREY) - 51) / 51, rtol=1e-6)
    np.testing.assert_allclose(
        decode(model(invert=True), data)[:, :, 0], 1 - np.array(GREY) / 255, rtol=1e-6
    )
    assert decode(model((2, 2), "uint8"), data).tolist() == GREY
    pixel = encoded([[[10, 20, 30]]])
    assert decode(model((1, 1, 3), "uint8"), pixel).tolist() == [[[10, 20, 30]]]
    assert decode(model((1, 1, 3), "uint8", order="bgr"), pixel).tolist() == [[[30, 20, 10]]]
    first = decode(model((3, 5, 6), "uint8"), encoded([[[10, 20, 30]] * 6] * 5))
    assert first.shape == (3, 5, 6) and first[:, 0, 0].tolist() == [10, 20, 30]
    assert decode(model((1, 1, 4), "uint8"), pixel).tolist() == [[[10, 20, 30, 255]]]


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_the_usual_formats_are_read(format: str) -> None:
    got = decode(model((8, 8, 3)), encoded(np.full((8, 8, 3), 128), format))
    np.testing.assert_allclose(got, 128 / 255, atol=0.02)


@pytest.mark.parametrize("format", ["TIFF", "PPM", "ICO"])
def test_other_formats_are_refused(format: str) -> None:
    error = error_of(model((16, 16, 3)), encoded(np.zeros((16, 16, 3)), format))
    assert error.stable_code == "bad_image"


def test_an_animation_gives_its_first_picture() -> None:
    first, second = (Image.new("L", (2, 2), level) for level in (255, 0))
    out = io.BytesIO()
    first.save(out, "GIF", save_all=True, append_images=[second])
    assert decode(model(), out.getvalue()).min() == 1.0


def test_a_turned_photograph_stands_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to show it
    data = encoded([[0, 255], [0, 255]], exif=exif)
    assert decode(model((2, 2), "uint8"), data).tolist() == [[0, 0], [255, 255]]


def test_resizing_stretches_fits_or_crops() -> None:
    wide = encoded(np.repeat([[0] * 4 + [255] * 4], 4, axis=0))
    stretched = decode(model((4, 4), "uint8", resample="nearest"), wide)
    assert stretched[0].tolist() == [0, 0, 255, 255]
    fitted = decode(model((4, 4), "uint8", resize="fit", resample="nearest", background=7), wide)
    assert fitted[0].tolist() == [7] * 4 and fitted[1].tolist() == [0, 0, 255, 255]
    cropped = decode(model((4, 4), "uint8", resize="crop", resample="nearest"), wide)
    assert cropped[0].tolist() == [0, 0, 255, 255]
    colour = encoded(np.zeros((2, 8, 3)))
    for channels in (3, 4):
        assert decode(model((4, 4, channels), "uint8", resize="fit"), colour)[0, 0, 0] == 255


def test_transparency_lies_on_the_background() -> None:
    clear = encoded([[[0, 0, 0, 0]]])
    assert decode(model((1, 1), "uint8"), clear).item() == 255
    assert decode(model((1, 1), "uint8", background=9), clear).item() == 9
    palette = Image.new("P", (1, 1))
    palette.putpalette([200, 0, 0])
    out = io.BytesIO()
    palette.save(out, "PNG", transparency=0)
    assert decode(model((1, 1, 3), "uint8"), out.getvalue()).tolist() == [[[255, 255, 255]]]


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    deep = Image.fromarray(np.array([[0, 0x8000], [0x4000, 0xFFFF]], dtype=np.uint16))
    out = io.BytesIO()
    deep.save(out, "PNG")
    assert decode(model((2, 2), "uint8"), out.getvalue()).tolist() == [[0, 128], [64, 255]]


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(side: int) -> bytes:
    """A PNG of a few kilobytes that unpacks to ``side`` × ``side`` black pixels."""
    rows = zlib.compress(bytes(1000), 9)
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", rows)


@pytest.mark.parametrize("side", [8_000, 12_000, 20_000, 60_000])
def test_a_pixel_bomb_is_refused_by_its_header(side: int) -> None:
    assert error_of(model(), bomb(side)).stable_code == "image_too_large"


def test_the_limit_on_pixels_can_be_set() -> None:
    data = encoded(np.zeros((10, 10)))
    assert error_of(model(), data, max_pixels=99).stable_code == "image_too_large"
    assert decode(model(), data, max_pixels=100).shape == (2, 2, 1)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a_truncated_picture_is_refused(format: str) -> None:
    chance = np.random.default_rng(1)
    whole = encoded(chance.integers(0, 255, (64, 64, 3)), format)
    for share in (0.0, 0.1, 0.5, 0.9):
        error = error_of(model(), whole[: int(len(whole) * share)] or b"x")
        assert error.stable_code == "bad_image", share


def test_what_is_no_picture_is_refused_with_the_formats_that_are() -> None:
    error = error_of(model(), b"<svg onload=alert(1)>")
    assert error.stable_code == "bad_image" and "PNG" in error.message


@pytest.mark.parametrize(
    "text", ["not base64!", "aGk", "aGk=\n", "ä", "data:image/png;base64,aGk="]
)
def test_what_is_not_base64_is_refused(text: str) -> None:
    with pytest.raises(ItemError) as caught:
        decode_input(model(), orjson.dumps({"image": text}))
    assert caught.value.stable_code == "bad_base64"


def test_a_reference_to_a_picture_is_its_bytes() -> None:
    decoded = decode_input(model(), b'{"ref": "r"}', fetch_ref=lambda _: encoded(GREY))
    row = decoded.rows[0]
    assert not isinstance(row, ItemError) and row["x"].shape == (2, 2, 1)


SOUND = {
    format: encoded(np.random.default_rng(2).integers(0, 255, (12, 12, 3)), format)
    for format in ("PNG", "JPEG", "GIF", "WEBP", "BMP")
}


@pytest.mark.filterwarnings("ignore")
@given(st.sampled_from(sorted(SOUND)), st.data())
@settings(max_examples=300, deadline=None)
def test_damage_is_an_item_error_or_a_picture_never_a_crash(format: str, data) -> None:
    damaged = bytearray(SOUND[format])
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert decode(model(), bytes(damaged)).shape == (2, 2, 1)
    except ItemError as error:
        assert error.stable_code in {"bad_image", "image_too_large"}


def photograph(width: int, height: int, **options: object) -> bytes:
    y, x = np.mgrid[0:height, 0:width]
    colours = [128 + 100 * np.sin(x / 37 + y / 53), x * 255 / width, y * 255 / height]
    return encoded(np.stack(colours, axis=2), "JPEG", "RGB", quality=90, **options)


@pytest.mark.parametrize("resize", ["stretch", "fit", "crop"])
def test_a_drafted_photograph_differs_little_and_only_when_asked_for(resize: str) -> None:
    data = photograph(1600, 1200)
    exact = decode(model((64, 48, 3), resize=resize), data)
    drafted = decode(model((64, 48, 3), resize=resize, draft=True), data)
    difference = np.abs(exact - drafted)
    assert 0 < difference.mean() < 1.5 / 255 and difference.max() < 0.1


def test_a_draft_is_never_smaller_than_the_model_however_it_is_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = photograph(600, 100, exif=exif)
    exact = decode(model((90, 30, 3)), data)
    drafted = decode(model((90, 30, 3), draft=True), data)
    assert np.array_equal(exact, drafted), "the short side leaves no room to draft"


def test_a_picture_without_an_orientation_and_one_with_are_both_upright() -> None:
    grey = np.zeros((8, 8), dtype=np.uint8)
    grey[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 3
    plain = decode(model((8, 8, 1)), encoded(grey, "JPEG", quality=100))
    turned = decode(model((8, 8, 1)), encoded(grey, "JPEG", quality=100, exif=exif))
    assert plain[0].mean() > 0.9 and turned[-1].mean() > 0.9
