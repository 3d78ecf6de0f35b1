"""Memory that does not suffice, as TensorFlow says it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from workers.runtime.framework import Framework
from workers.training.ports import OutOfMemory

_SIGNS = ("out of memory", "out_of_memory", "OOM", "Dst tensor is not copied")


@contextmanager
def within_memory(framework: Framework, says: str, field: str | None = None) -> Iterator[None]:
    """``OutOfMemory`` with this message where what is done inside does not fit."""
    errors = framework.tf.errors
    try:
        yield
    except (errors.ResourceExhaustedError, MemoryError) as error:
        raise OutOfMemory(says, field=field) from error
    except errors.InternalError as error:
        if any(sign in str(error) for sign in _SIGNS):
            raise OutOfMemory(says, field=field) from error
        raise
