"""An encoded picture to a tensor. The header's size is checked before a pixel is decoded.

Whatever a decoder raises on a caller's bytes is that item's fault, so the net is wide here and
only here; running out of memory is not caught.
"""

from __future__ import annotations

import io

import numpy as np
import pybase64
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from storage.records.errors import ItemError
from storage.records.image_spec import ChannelOrder, ImageSpec, Layout, Resample, Resize
from workers.inference.decode_png import read_plain_png
from workers.inference.ports import Array

MAX_PIXELS = 50_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_DRAFT_MARGIN = 2  # a drafted picture is larger than the model's by this at least

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_FILTERS = {
    Resample.NEAREST: Image.Resampling.NEAREST,
    Resample.BILINEAR: Image.Resampling.BILINEAR,
    Resample.BICUBIC: Image.Resampling.BICUBIC,
    Resample.LANCZOS: Image.Resampling.LANCZOS,
}


def decode_base64(content: object, where: str) -> bytes:
    """Strict base64, as every JSON field that carries bytes has it."""
    if not isinstance(content, str) or not content:
        raise ItemError("image must be a base64 string", code="wrong_form", field=where)
    try:
        return pybase64.b64decode(content, validate=True)
    except ValueError as error:
        raise ItemError(f"not base64: {error}", code="bad_base64", field=where) from None


def decode_image(
    spec: ImageSpec, dtype: str, data: bytes, where: str, max_pixels: int = MAX_PIXELS
) -> Array:
    """The picture upright, in the model's size, channels, scale and type."""
    try:
        image = read_plain_png(data, max_pixels)
        if image is None:
            image = _read(spec, data, where, max_pixels)
        pixels = np.asarray(_resized(_in_mode(image, spec), spec))
    except (ItemError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ItemError(
            f"the picture has more than {max_pixels} pixels", code="image_too_large", field=where
        ) from None
    except UnidentifiedImageError:
        raise ItemError(
            f"this is no picture of a known format ({', '.join(FORMATS)})",
            code="bad_image",
            field=where,
        ) from None
    except Exception as error:
        raise ItemError(
            f"the picture cannot be decoded: {str(error)[:200]}", code="bad_image", field=where
        ) from None
    return _as_tensor(pixels, spec, dtype)


def _read(spec: ImageSpec, data: bytes, where: str, max_pixels: int) -> Image.Image:
    """Any picture of a known format, upright."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise _too_large(width, height, max_pixels, where)
        if spec.draft and spec.width is not None and spec.height is not None:
            # It may be turned yet: room for the longer side in both directions.
            side = _DRAFT_MARGIN * max(spec.width, spec.height)
            image.draft(None, (side, side))
        image.load()
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image


def _in_mode(image: Image.Image, spec: ImageSpec) -> Image.Image:
    mode = _MODES[spec.channels]
    if image.mode == mode:
        return image
    if image.mode.startswith(("I", "F")):  # 16 bits and more: Pillow would clip, not scale
        image = image.point(lambda value: value * (1 / 256)).convert("L")
    if mode != "RGBA" and image.has_transparency_data:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (spec.background,) * 3 + (255,))
        image = Image.alpha_composite(ground, layer)
    return image.convert(mode)


def _resized(image: Image.Image, spec: ImageSpec) -> Image.Image:
    if spec.width is None or spec.height is None:
        return image
    size = (spec.width, spec.height)
    if image.size == size:
        return image
    method = _FILTERS[spec.resample]
    if spec.resize is Resize.FIT:
        colour = tuple([spec.background] * min(spec.channels, 3) + [255] * (spec.channels == 4))
        return ImageOps.pad(image, size, method, color=colour if spec.channels > 1 else colour[0])
    if spec.resize is Resize.CROP:
        return ImageOps.fit(image, size, method)
    return image.resize(size, method)


def _as_tensor(pixels: Array, spec: ImageSpec, dtype: str) -> Array:
    if spec.invert:
        pixels = 255 - pixels
    if pixels.ndim == 2:
        pixels = pixels[:, :, np.newaxis]
    if spec.order is ChannelOrder.BGR and spec.channels >= 3:
        pixels = np.concatenate([pixels[:, :, 2::-1], pixels[:, :, 3:]], axis=2)
    if dtype.startswith("float"):
        values = pixels.astype(np.float32)
        if spec.scale != 1.0:
            values *= np.float32(spec.scale)
        if spec.mean:
            values -= np.asarray(spec.mean, dtype=np.float32)
        if spec.std:
            values /= np.asarray(spec.std, dtype=np.float32)
        pixels = values
    if spec.layout is Layout.NONE:
        pixels = pixels[:, :, 0]
    elif spec.layout is Layout.FIRST:
        pixels = pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(pixels.astype(np.dtype(dtype), copy=False))


def _too_large(width: int, height: int, max_pixels: int, where: str) -> ItemError:
    return ItemError(
        f"the picture has {width} × {height} pixels, the limit is {max_pixels} in all",
        code="image_too_large",
        field=where,
    )
