"""``.keras`` archives put together by hand, sound and hostile, without TensorFlow."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping

HDF5 = b"\x89HDF\r\n\x1a\n" + bytes(100)


def layer(class_name: str, module: str = "keras.layers", **config: object) -> dict[str, object]:
    """One object as Keras spells it."""
    return {"module": module, "class_name": class_name, "config": config, "registered_name": None}


def input_layer(
    name: str = "x", shape: object = (None, 4), dtype: object = "float32", **more: object
) -> dict[str, object]:
    return layer("InputLayer", name=name, batch_shape=shape, dtype=dtype, **more)


def sequential(*layers: object, **more: object) -> dict[str, object]:
    """A Sequential's configuration."""
    return {**layer("Sequential", "keras", name="model", layers=list(layers)), **more}


def functional(layers: list[dict[str, object]], input_layers: object) -> dict[str, object]:
    """A Functional's configuration, as far as anyone looks at it."""
    named = [{**one, "name": one["config"]["name"], "inbound_nodes": []} for one in layers]  # type: ignore[index]
    config = {"name": "model", "layers": named, "input_layers": input_layers, "output_layers": []}
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": config,
        "registered_name": "Functional",
    }


def archive(
    config: object,
    *,
    entries: Mapping[str, bytes] | None = None,
    weights: bytes | None = HDF5,
    compression: int = zipfile.ZIP_STORED,
) -> io.BytesIO:
    """The zip, the same bytes whenever it is made. ``config`` may be bytes; ``entries`` come on
    top."""
    out = io.BytesIO()
    text = config if isinstance(config, bytes) else json.dumps(config).encode()
    members: list[tuple[str, bytes]] = [("metadata.json", b"{}"), ("config.json", text)]
    if weights is not None:
        members.append(("model.weights.h5", weights))
    with zipfile.ZipFile(out, "w") as file:
        for name, data in [*members, *(entries or {}).items()]:
            # Its default date is that of long ago; ``writestr`` by name would take the clock's.
            file.writestr(zipfile.ZipInfo(name), data, compression)
    return out
