"""Patterns of names: ``*``, ``?`` and ``[a-z]`` within a segment, ``**`` for any number of them.

A segment is matched in time that grows with its length alone (``fnmatch`` makes its expressions
so), and segments among each other by a table: no pattern takes long, however it is made.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable

_ANY = "**"


def matcher(pattern: str) -> Callable[[str], bool]:
    """Says of a path (segments parted by ``/``) whether the pattern fits all of it."""
    parts: list[re.Pattern[str] | None] = []
    for segment in pattern.split("/"):
        if segment != _ANY:
            parts.append(re.compile(fnmatch.translate(segment)))
        elif not parts or parts[-1] is not None:  # two of them say no more than one
            parts.append(None)

    def fits(path: str) -> bool:
        open_at = _past_any(parts, {0})
        for segment in path.split("/"):
            onward: set[int] = set()
            for at in open_at:
                if at == len(parts):
                    continue
                part = parts[at]
                if part is None:
                    onward.add(at)
                elif part.match(segment):
                    onward.add(at + 1)
            open_at = _past_any(parts, onward)
        return len(parts) in open_at

    return fits


def _past_any(parts: list[re.Pattern[str] | None], open_at: set[int]) -> set[int]:
    """The same places, and those behind a ``**``, which may stand for nothing."""
    beyond = {at + 1 for at in open_at if at < len(parts) and parts[at] is None}
    return open_at | beyond
