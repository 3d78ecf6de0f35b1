"""A disk of this machine's own that is full."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from storage.records.errors import InvalidInput

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MORE = "give its spool, beside the models' cache, more disk, and submit the training again"


@contextmanager
def room_for(what: str, advice: str = _MORE) -> Iterator[None]:
    """``InvalidInput`` (``no_room``) where what is written inside finds the disk full: that is no
    trouble that passes by waiting, and another machine may have more."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise InvalidInput(
            f"this machine has no room for {what} ({error.strerror}): {advice}",
            code="no_room",
        ) from error
