"""Tells what an ``OSError`` of the directory store means, and what to do about it."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from storage.records.errors import (
    Conflict,
    ForebayError,
    InvalidInput,
    NotFound,
    ObjectsMisconfigured,
    ObjectsUnavailable,
)

_NO_LINKS = frozenset({errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.ENOSYS})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextlib.contextmanager
def explained(where: str, key: str, *, creating: bool = False) -> Iterator[None]:
    """Turns the system's errors of one verb on ``key`` into ours."""
    try:
        yield
    except OSError as error:
        raise _explain(where, key, error, creating) from error


def _explain(where: str, key: str, error: OSError, creating: bool) -> ForebayError:
    code, text = error.errno, error.strerror
    if code == errno.ENAMETOOLONG:
        return InvalidInput(f"{key[:120]!r} is too long for {where}", code="invalid_key")
    if creating and code == errno.EEXIST:
        return Conflict(f"there already is an object {key}", code="object_exists")
    if creating and code in (errno.ENOTDIR, errno.ELOOP):
        return Conflict(f"a part of {key} is an object, not a folder", code="object_exists")
    if not creating and code in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
        return NotFound(f"there is no object {key}", code="object_not_found")
    if code in _FULL:
        return ObjectsUnavailable(f"{where} is full ({text}): make room on its disk")
    if code in _REFUSED:
        return ObjectsMisconfigured(
            f"{where} refuses access ({text}): let the user that runs this process write there"
        )
    if creating and code in _NO_LINKS:
        return ObjectsMisconfigured(
            f"{where} lies on a file system without hard links ({text}): choose another"
        )
    return ObjectsUnavailable(f"{where} does not work ({text}): look after its disk")
