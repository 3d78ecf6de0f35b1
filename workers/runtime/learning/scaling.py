"""The first layers: what callers have, brought to the size that trains well."""

from __future__ import annotations

from typing import Any

import numpy as np

from workers.runtime.framework import Framework
from workers.training.ports import Feature, Scale

_CONSTANT = 1e30  # the variance of a column that is to count nothing


def scaled(framework: Framework, tensor: Any, feature: Feature, scale: Scale | None) -> Any:
    """``(x - offset) * factor`` as a layer of the network, float32. Whole numbers become floats
    even without a scale, by a layer that tells whoever serves that 0 to 255 is expected."""
    layers, own = framework.keras.layers, feature.name.replace("/", "_")
    if scale is None:
        if not feature.dtype.startswith("uint"):
            return tensor
        return layers.Rescaling(1.0, name=f"{own}_numbers")(tensor)
    offset = np.asarray(scale.offset, np.float64)
    factor = np.asarray(scale.factor, np.float64)
    name = f"{own}_scale"
    if not offset.any():  # a mere factor
        return layers.Rescaling(factor.tolist(), name=name)(tensor)
    # Not as x * factor + shift: of large numbers that lie close together nothing would be left.
    variance = np.where(factor == 0, _CONSTANT, 1 / np.square(np.where(factor == 0, 1, factor)))
    axis = None if offset.ndim == factor.ndim == 0 else -1
    if axis is not None:
        width = feature.shape[-1]
        offset, variance = (np.broadcast_to(one, (width,)) for one in (offset, variance))
    return layers.Normalization(
        axis=axis, mean=offset.tolist(), variance=variance.tolist(), name=name
    )(tensor)
