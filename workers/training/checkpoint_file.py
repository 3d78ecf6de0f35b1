"""What a checkpoint's object holds: a zip of ``.npy`` arrays and a JSON head. Nothing is pickled.

::

    head.json     {"v": 1, "spec": sha256, "prepared": sha256, "at": {…}, "state": [name, …],
                   "best": [name, …] | null, "dtypes": {name: dtype, …}}
    state/0.npy   the learner's state, in the order of the head's names
    best/0.npy    the best epoch's weights, where early stopping keeps them

Numbers that the format does not know (``bfloat16``) are kept as whole numbers of their bits;
``dtypes`` tells what they are, and is missing in files of before.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from storage.records.errors import ObjectCorrupt
from workers.training.ports import Array
from workers.training.position import Snapshot, position_of

_VERSION = 1
_WHEN = (1980, 1, 1, 0, 0, 0)  # equal states, equal bytes
_MAX_HEAD_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class CheckpointFile:
    """What was read of one."""

    snapshot: Snapshot
    spec: str
    prepared: str


def write_checkpoint(path: Path, snapshot: Snapshot, *, spec: str, prepared: str) -> None:
    """``spec`` and ``prepared`` are digests of what it belongs to."""
    every = {**snapshot.state, **(snapshot.best or {})}
    head = {
        "v": _VERSION,
        "spec": spec,
        "prepared": prepared,
        "at": snapshot.at.to_json(),
        "state": list(snapshot.state),
        "best": None if snapshot.best is None else list(snapshot.best),
        "dtypes": {name: one.dtype.name for name, one in every.items() if _is_foreign(one.dtype)},
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        archive.writestr(zipfile.ZipInfo("head.json", _WHEN), json.dumps(head))
        _write_arrays(archive, "state", snapshot.state)
        if snapshot.best is not None:
            _write_arrays(archive, "best", snapshot.best)


def read_checkpoint(path: Path) -> CheckpointFile:
    """``ObjectCorrupt`` for anything that ``write_checkpoint`` did not write."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("head.json").file_size > _MAX_HEAD_BYTES:
                raise ValueError("its head is too large")
            head: Mapping[str, Any] = json.loads(archive.read("head.json"))
            if head["v"] != _VERSION:
                raise ValueError(f"it is of version {head['v']!r}")
            dtypes, names = head.get("dtypes", {}), head["best"]
            state = _read_arrays(archive, "state", head["state"], dtypes)
            best = None if names is None else _read_arrays(archive, "best", names, dtypes)
            snapshot = Snapshot(position_of(head["at"]), state, best)
            return CheckpointFile(snapshot, str(head["spec"]), str(head["prepared"]))
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError) as error:
        raise ObjectCorrupt(f"not a checkpoint: {type(error).__name__}: {error}") from error


def _write_arrays(archive: zipfile.ZipFile, folder: str, arrays: Mapping[str, Array]) -> None:
    for index, array in enumerate(arrays.values()):
        kept = np.asanyarray(array)
        if _is_foreign(kept.dtype):
            kept = kept.view(f"u{kept.dtype.itemsize}")
        info = zipfile.ZipInfo(f"{folder}/{index}.npy", _WHEN)
        with archive.open(info, "w", force_zip64=True) as member:
            np.lib.format.write_array(member, kept, allow_pickle=False)


def _read_arrays(
    archive: zipfile.ZipFile, folder: str, names: list[str], dtypes: Mapping[str, str]
) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for index, name in enumerate(names):
        with archive.open(f"{folder}/{index}.npy") as member:
            array = np.lib.format.read_array(member, allow_pickle=False)
        arrays[str(name)] = array.view(_dtype_of(dtypes[name])) if name in dtypes else array
    return arrays


def _is_foreign(dtype: np.dtype[Any]) -> bool:
    """Whether it is not numpy's own: its files would say ``V2`` of it, bytes of no meaning."""
    return dtype.kind == "V" and dtype.names is None and dtype.name[:4] != "void"


def _dtype_of(name: str) -> np.dtype[Any]:
    import ml_dtypes  # noqa: F401  (tells numpy the names; it comes with TensorFlow)

    return np.dtype(name)
