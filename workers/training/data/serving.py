"""What the trained version takes from its callers: what the data had."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from storage.records.option_values import MAX_TEXT
from storage.records.push_options import MAX_COLUMNS, InputForm, PushOptions, ScoreKind
from storage.records.training import Named
from workers.training.data.inputs import KeptInput
from workers.training.data.roles import VECTOR
from workers.training.ports import Target


def options_of(
    inputs: Sequence[KeptInput], labels: Sequence[str], target: Target, loss: Named
) -> PushOptions:
    """The options with which somebody would have pushed the model."""
    told = tuple(labels) if all(1 <= len(one) <= MAX_TEXT for one in labels) else ()
    signed = target is Target.SIGNED or loss.arguments.get("from_logits") is True
    scores = ScoreKind.LOGITS if signed and told else ScoreKind.AUTO
    if len(inputs) != 1:
        return PushOptions(input=InputForm.TENSOR, labels=told, scores=scores)
    (kept,) = inputs
    if kept.file.dtype == np.int32:
        return PushOptions(input=InputForm.TEXT, labels=told, scores=scores)
    if kept.name == VECTOR and kept.columns:
        fits = len(kept.columns) <= MAX_COLUMNS and all(
            1 <= len(one.name) <= MAX_TEXT and "\x00" not in one.name for one in kept.columns
        )
        if fits:
            return PushOptions(
                input=InputForm.RECORD, labels=told, scores=scores, columns=kept.columns
            )
        return PushOptions(input=InputForm.TENSOR, labels=told, scores=scores)
    image = _image(kept)
    form = InputForm.IMAGE if image else InputForm.TENSOR
    return PushOptions(input=form, labels=told, scores=scores, image=image)


def _image(kept: KeptInput) -> dict[str, object]:
    """How a picture becomes what was trained on; empty where that are no pictures, or none that
    could be made again: pixels around 0 are scaled in a way that only their maker knows."""
    shape, is_bytes = kept.file.shape, kept.file.dtype == np.uint8
    grey = len(shape) == 2 and is_bytes
    if not grey and not (len(shape) == 3 and shape[2] in (1, 3, 4)):
        return {}
    scale = 1.0 if is_bytes else _scale_of(kept)
    if scale is None:
        return {}
    return {
        "height": shape[0],
        "width": shape[1],
        "channels": 1 if grey else shape[2],
        "scale": scale,
    }


def _scale_of(kept: KeptInput) -> float | None:
    """Of pixels from 0 to 1, or of whole ones from 0 to 255; None of all others."""
    most, whole = 0.0, True
    for _, block in kept.file.blocks():
        if block.min() < 0:
            return None
        most = max(most, float(block.max()))
        whole = whole and bool((block == np.floor(block)).all())
        if most > 255 or (most > 1 and not whole):
            return None
    return 1.0 if most > 1 else 1 / 255
