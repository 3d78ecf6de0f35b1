"""TensorFlow and Keras, imported and configured once per process.

Some settings only work before the framework starts, so this is the one way to reach it. The
supervisor has chosen the device by then (``CUDA_VISIBLE_DEVICES``): a process sees one at most.
"""

from __future__ import annotations

import os
import threading
from typing import Any, NamedTuple

_lock = threading.Lock()
_imported: list[Framework] = []
_started: list[Framework] = []


class Framework(NamedTuple):
    """The two modules, untyped as they are."""

    tf: Any
    keras: Any


def imported(device: str) -> Framework:
    """Import, which takes seconds, and choose the device; how many threads compute is still open.
    The first call decides. For who does not know yet what is to be computed: ``start`` follows."""
    with _lock:
        return _import(device)


def start(device: str, threads: int | None = None) -> Framework:
    """Import and configure; the first call decides, later ones get the same. Takes seconds."""
    with _lock:
        if not _started:
            framework = _import(device)
            if threads is not None:
                _set_threads(framework, threads)
            _started.append(framework)
        return _started[0]


def _import(device: str) -> Framework:
    if _imported:
        return _imported[0]
    # Keras reads its backend at import, from here or from a file in somebody's home directory.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    if device.startswith("cpu"):
        tf.config.set_visible_devices([], "GPU")
    for gpu in tf.config.get_visible_devices("GPU"):
        # Otherwise the first process takes the whole device.
        tf.config.experimental.set_memory_growth(gpu, True)
    import keras

    keras.config.disable_interactive_logging()
    _imported.append(Framework(tf, keras))
    return _imported[0]


def _set_threads(framework: Framework, threads: int) -> None:
    """Before anything is computed: TensorFlow refuses it afterwards."""
    config = framework.tf.config.threading
    config.set_intra_op_parallelism_threads(threads)
    config.set_inter_op_parallelism_threads(max(1, min(2, threads)))


def device_kind(framework: Framework) -> str:
    """What this process computes on: ``cpu``, or the GPU's name."""
    config = framework.tf.config
    for gpu in config.get_visible_devices("GPU"):
        return str(config.experimental.get_device_details(gpu).get("device_name", "gpu"))
    return "cpu"


def is_models_fault(framework: Framework, error: Exception) -> bool:
    """Whether no other worker and no later time could make this load succeed."""
    if isinstance(error, MemoryError):
        return False
    if isinstance(error, OSError):
        return error.errno is None  # h5py's complaints about the file's content have no number
    errors = framework.tf.errors
    passing = (
        errors.ResourceExhaustedError,
        errors.InternalError,
        errors.UnknownError,
        errors.UnavailableError,
        errors.AbortedError,
        errors.CancelledError,
        errors.DeadlineExceededError,
    )
    return not isinstance(error, passing)
