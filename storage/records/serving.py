"""How a version is served: what its pusher may turn, with defaults that need no turning.

``{"serving": {"max_batch": 64, "latency_objective_ms": 50, "batch_sizes": [1, 8, 64],
"pad": {"tokens": {"sizes": [32, 128, 512], "mask": "mask"}}, "cost": "tokens"}}``.
It travels in the push options and is kept in the signature. Whether it fits the model is looked at
in ``serving_check``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum

from storage.records.option_values import (
    MAX_TEXT,
    as_choice,
    as_integer,
    as_number,
    as_object,
    as_text,
    no_unknown_keys,
    refuse,
)

MAX_BATCH, MAX_LENGTH, MAX_SIZES, MAX_INSTANCES = 65_536, 1 << 24, 64, 16
DEFAULT_MAX_BATCH = 512
DEFAULT_LATENCY_OBJECTIVE_MS = 25.0


class Cost(StrEnum):
    """What a batch is measured by."""

    ROWS = "rows"
    TOKENS = "tokens"  # the padded length of the variable axis, summed over the rows
    PIXELS = "pixels"  # the padded height times width, summed over the rows


class Precision(StrEnum):
    """The type a model computes in."""

    NATIVE = "native"  # as it was saved
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True, slots=True)
class Pad:
    """How one input's axes of any length are brought to a few sizes."""

    sizes: tuple[int, ...]  # allowed lengths of every variable axis, ascending
    value: float | str | None = None  # what fills it: 0, false or "" where nothing is said
    mask: str | None = None  # the input that gets 1 where there is data and 0 where there is none


@dataclass(frozen=True, slots=True)
class Serving:
    """The knobs of one version."""

    max_batch: int = DEFAULT_MAX_BATCH  # most rows in one pass
    latency_objective_ms: float = DEFAULT_LATENCY_OBJECTIVE_MS
    batch_sizes: tuple[int, ...] = ()  # allowed sizes; empty means powers of two
    pad: Mapping[str, Pad] = field(default_factory=dict)  # by input name
    cost: Cost = Cost.ROWS
    max_cost: float | None = None  # most cost in one pass, padding included
    instances: int = 1  # passes of this version that may run at once on a device
    xla: bool = False
    precision: Precision = Precision.NATIVE


def parse_serving(value: object, field_name: str) -> Serving:
    """Read the knobs strictly; what is not said keeps its default."""
    if value is None:
        return Serving()
    given = as_object(value, field_name)
    no_unknown_keys(given, {one.name for one in fields(Serving)}, field_name)
    sizes = _sizes(given.get("batch_sizes"), MAX_BATCH, f"{field_name}.batch_sizes")
    most = given.get("max_batch", sizes[-1] if sizes else DEFAULT_MAX_BATCH)
    max_batch = as_integer(most, 1, MAX_BATCH, f"{field_name}.max_batch")
    if sizes and sizes[-1] > max_batch:
        raise refuse(
            f"a batch of {sizes[-1]} is over max_batch, which is {max_batch}",
            f"{field_name}.batch_sizes[{len(sizes) - 1}]",
        )
    objective = given.get("latency_objective_ms", DEFAULT_LATENCY_OBJECTIVE_MS)
    max_cost = given.get("max_cost")
    return Serving(
        max_batch=max_batch,
        latency_objective_ms=_positive(objective, f"{field_name}.latency_objective_ms"),
        batch_sizes=sizes,
        pad=_pads(given.get("pad", {}), f"{field_name}.pad"),
        cost=Cost(as_choice(given.get("cost", Cost.ROWS), Cost, f"{field_name}.cost")),
        max_cost=None if max_cost is None else _positive(max_cost, f"{field_name}.max_cost"),
        instances=as_integer(
            given.get("instances", 1), 1, MAX_INSTANCES, f"{field_name}.instances"
        ),
        xla=_flag(given.get("xla", False), f"{field_name}.xla"),
        precision=Precision(
            as_choice(
                given.get("precision", Precision.NATIVE), Precision, f"{field_name}.precision"
            )
        ),
    )


def serving_to_json(serving: Serving) -> dict[str, object]:
    """The knobs that were turned, as ``parse_serving`` reads them; empty when none was."""
    out: dict[str, object] = {}
    for one in fields(Serving):
        value = getattr(serving, one.name)
        if value == getattr(_DEFAULTS, one.name):
            continue
        if one.name == "pad":
            value = {name: _pad_to_json(pad) for name, pad in value.items()}
        elif isinstance(value, tuple):
            value = list(value)
        out[one.name] = value.value if isinstance(value, StrEnum) else value
    if serving.batch_sizes:  # else max_batch would follow the sizes when it is read again
        out["max_batch"] = serving.max_batch
    return out


def _pads(value: object, where: str) -> dict[str, Pad]:
    given = as_object(value, where)
    return {name: _pad(pad, f"{where}.{name[:80]}") for name, pad in given.items()}


def _pad(value: object, where: str) -> Pad:
    given = as_object(value, where)
    no_unknown_keys(given, {one.name for one in fields(Pad)}, where)
    sizes = _sizes(given.get("sizes"), MAX_LENGTH, f"{where}.sizes")
    if not sizes:
        raise refuse("say the sizes that this input's axes may have", f"{where}.sizes")
    fill, mask = given.get("value"), given.get("mask")
    if fill is not None and not isinstance(fill, str):
        fill = as_number(fill, f"{where}.value")
    elif isinstance(fill, str) and (len(fill) > MAX_TEXT or "\x00" in fill):
        raise refuse(f"{where}.value must have at most {MAX_TEXT} characters", f"{where}.value")
    return Pad(sizes, fill, None if mask is None else as_text(mask, f"{where}.mask"))


def _pad_to_json(pad: Pad) -> dict[str, object]:
    out: dict[str, object] = {"sizes": list(pad.sizes)}
    if pad.value is not None:
        out["value"] = pad.value
    if pad.mask is not None:
        out["mask"] = pad.mask
    return out


def _sizes(value: object, largest: int, where: str) -> tuple[int, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_SIZES:
        raise refuse(f"{where} must be a list of 1 to {MAX_SIZES} sizes", where)
    sizes = tuple(as_integer(v, 1, largest, f"{where}[{i}]") for i, v in enumerate(value))
    for index in range(1, len(sizes)):
        if sizes[index] <= sizes[index - 1]:
            raise refuse("sizes must ascend", f"{where}[{index}]")
    return sizes


def _positive(value: object, where: str) -> float:
    number = as_number(value, where)
    if number <= 0:
        raise refuse(f"{where} must be over 0", where)
    return number


def _flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise refuse(f"{where} must be true or false", where)
    return value


_DEFAULTS = Serving()
