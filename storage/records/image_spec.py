"""How an encoded picture becomes a tensor: size, channels, scale. Derived, then overridden."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

from storage.records.option_values import (
    as_choice,
    as_integer,
    as_number,
    no_unknown_keys,
    refuse,
)

MAX_SIDE = 16_384


class Layout(StrEnum):
    """Where the channels stand."""

    LAST = "channels_last"
    FIRST = "channels_first"
    NONE = "no_channels"  # a grey picture as height × width


class Resize(StrEnum):
    """How a picture of another size is brought to the model's."""

    STRETCH = "stretch"  # both sides, whatever the proportions
    FIT = "fit"  # inside, the rest filled with the background
    CROP = "crop"  # filled, what sticks out cut from the middle


class Resample(StrEnum):
    """The filter."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"


class ChannelOrder(StrEnum):
    """The order of colour channels."""

    RGB = "rgb"
    BGR = "bgr"


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """A value becomes ``(value × scale − mean) ÷ std``; values come as 0 to 255.

    Without height and width a picture keeps its own size and is padded (``serving.pad``).
    """

    height: int | None
    width: int | None
    channels: int
    layout: Layout = Layout.LAST
    resize: Resize = Resize.STRETCH
    resample: Resample = Resample.BILINEAR
    scale: float = 1 / 255
    mean: tuple[float, ...] = ()  # empty, one for all channels, or one for each
    std: tuple[float, ...] = ()
    order: ChannelOrder = ChannelOrder.RGB
    invert: bool = False  # dark on light becomes light on dark
    background: int = 255  # under transparency and around ``fit``
    draft: bool = False  # let large JPEGs be decoded smaller: faster, a little different

    def to_json(self) -> dict[str, object]:
        """Spelled in full."""
        out = asdict(self)
        out["mean"], out["std"] = list(self.mean), list(self.std)
        if not self.draft:
            del out["draft"]  # younger than the others: who does not know it need not read it
        return {key: str(v) if isinstance(v, StrEnum) else v for key, v in out.items()}


def derive_image(
    shape: tuple[int | None, ...],
    dtype: str,
    overrides: Mapping[str, object],
    *,
    rescales_itself: bool,
    any_size: bool = False,
    field: str,
) -> ImageSpec:
    """The spec for a model whose picture input has this shape (without the batch axis).

    A model that holds a Rescaling or Normalization layer is given 0 to 255, as is one that
    takes integers; every other one is given 0 to 1. ``any_size``: the pusher said how pictures of
    other sizes are padded.
    """
    layout, height, width, channels = _axes(shape, field)
    size = {"height": height, "width": width}
    for side, known in size.items():
        asked = overrides.get(side)
        if asked is not None:
            size[side] = as_integer(asked, 1, MAX_SIDE, f"{field}.{side}")
            if known is not None and size[side] != known:
                raise refuse(f"the model's input has {side} {known}", f"{field}.{side}")
    if None in size.values() and (not any_size or set(size.values()) != {None}):
        raise refuse(
            "the model takes pictures of any size: say height and width, or how they are"
            " padded (serving.pad), so that they can be batched",
            field,
        )
    floating = dtype.startswith("float")
    base = ImageSpec(
        height=size["height"],
        width=size["width"],
        channels=channels,
        layout=layout,
        scale=1 / 255 if floating and not rescales_itself else 1.0,
    )
    spec = _override(base, overrides, field)
    if not floating and (spec.scale != 1.0 or spec.mean or spec.std):
        raise refuse(f"the model takes {dtype}: scale, mean and std need a float input", field)
    return spec


def image_from_json(value: Mapping[str, object], field: str) -> ImageSpec:
    """Read what ``to_json`` wrote."""
    base = ImageSpec(
        height=_side(value, "height", field),
        width=_side(value, "width", field),
        channels=as_integer(value.get("channels"), 1, 4, f"{field}.channels"),
    )
    rest = {k: v for k, v in value.items() if k not in {"height", "width", "channels"}}
    layout = Layout(as_choice(rest.pop("layout", Layout.LAST), Layout, f"{field}.layout"))
    return replace(_override(base, rest, field), layout=layout)


def _side(value: Mapping[str, object], side: str, field: str) -> int | None:
    if value.get(side) is None and side in value:
        return None
    return as_integer(value.get(side), 1, MAX_SIDE, f"{field}.{side}")


def _axes(shape: tuple[int | None, ...], field: str) -> tuple[Layout, int | None, int | None, int]:
    if len(shape) == 2:
        return Layout.NONE, shape[0], shape[1], 1
    if len(shape) == 3 and shape[2] in (1, 3, 4):
        return Layout.LAST, shape[0], shape[1], shape[2]
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return Layout.FIRST, shape[1], shape[2], shape[0]
    raise refuse(
        f"an input of shape {list(shape)} is no picture: that is (height, width) or"
        " (height, width, channels) with 1, 3 or 4 channels",
        field,
    )


def _override(base: ImageSpec, given: Mapping[str, object], field: str) -> ImageSpec:
    no_unknown_keys(
        given,
        {"height", "width", "channels", "resize", "resample", "scale", "mean", "std", "order"}
        | {"invert", "background", "draft"},
        field,
    )
    if given.get("channels", base.channels) != base.channels:
        raise refuse(f"the model's input has {base.channels} channel(s)", f"{field}.channels")
    for flag in ("invert", "draft"):
        if not isinstance(given.get(flag, False), bool):
            raise refuse(f"{flag} must be true or false", f"{field}.{flag}")
    std = _per_channel(given.get("std"), base.channels, f"{field}.std")
    if 0.0 in std:
        raise refuse("std must not be 0", f"{field}.std")
    return replace(
        base,
        resize=Resize(as_choice(given.get("resize", base.resize), Resize, f"{field}.resize")),
        resample=Resample(
            as_choice(given.get("resample", base.resample), Resample, f"{field}.resample")
        ),
        scale=as_number(given.get("scale", base.scale), f"{field}.scale"),
        mean=_per_channel(given.get("mean"), base.channels, f"{field}.mean"),
        std=std,
        order=ChannelOrder(as_choice(given.get("order", "rgb"), ChannelOrder, f"{field}.order")),
        invert=bool(given.get("invert", base.invert)),
        draft=bool(given.get("draft", base.draft)),
        background=as_integer(
            given.get("background", base.background), 0, 255, f"{field}.background"
        ),
    )


def _per_channel(value: object, channels: int, where: str) -> tuple[float, ...]:
    if value is None or value == []:
        return ()
    values = value if isinstance(value, list) else [value]
    if len(values) not in (1, channels):
        raise refuse(f"{where} must be one number or {channels}", where)
    return tuple(as_number(v, f"{where}[{i}]") for i, v in enumerate(values))
