"""The first thing that the network does to its numbers, learned on the training rows."""

from __future__ import annotations

import numpy as np

from storage.records.training import Preparation, Scaling
from workers.training.data.complaints import Mask
from workers.training.data.inputs import KeptInput
from workers.training.data.learned import moments_of
from workers.training.ports import Scale


def scale_of(kept: KeptInput, prepare: Preparation, train: Mask) -> tuple[Scale | None, list[str]]:
    """The scale, None where nothing is to be scaled; and the names of what is constant."""
    width = _width(kept)
    if prepare.scale is Scaling.NONE or kept.file.dtype == np.int32:
        return None, []
    if kept.scaled is not None and not kept.scaled.any():
        return None, []
    if prepare.scale is Scaling.DIVIDE:
        factor = np.float64(1 / prepare.divide_by)
        if kept.scaled is None or kept.scaled.all():
            return Scale(np.array(0, np.float32), np.array(factor, np.float32)), []
        factors = np.where(kept.scaled, factor, 1.0)
        return Scale(np.zeros(width, np.float32), factors.astype(np.float32)), []
    moments = moments_of(kept.file, train, width)
    if prepare.scale is Scaling.STANDARD:
        offset, spread = moments.mean, moments.deviation
    else:
        offset, spread = moments.least, moments.most - moments.least
    constant = moments.least == moments.most
    factors = np.where(constant, 1.0, 1 / np.where(constant, 1.0, spread))
    if kept.scaled is not None:
        offset = np.where(kept.scaled, offset, 0.0)
        factors = np.where(kept.scaled, factors, 1.0)
        constant = constant & kept.scaled
    names = kept.names or tuple(f"{kept.name}[{at}]" for at in range(width))
    told = [name for name, one in zip(names, constant.tolist(), strict=True) if one]
    if width == 1 and len(kept.file.shape) != 1:
        offset, factors = offset.reshape(()), factors.reshape(())
    return Scale(offset.astype(np.float32), factors.astype(np.float32)), told


def _width(kept: KeptInput) -> int:
    """How many scales there are: one for each number of a vector and for each channel of a
    picture. A grey picture has a single one, whether it has an axis for it or not."""
    shape = kept.file.shape
    if not shape or (len(shape) == 2 and kept.file.dtype == np.uint8):
        return 1
    return shape[-1]
