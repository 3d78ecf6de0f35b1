"""Whether the quotes of each line are as RFC 4180 has them, told for a whole block at once.

A line that passes is read alike by every parser and ends where it ends: no quote reaches into the
next one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from workers.bulk.ports import Positions
from workers.bulk.reading.lines import Bools, Lines

_QUOTE, _CR = ord('"'), ord("\r")


def badly_quoted(lines: Lines, delimiter: str) -> Bools:
    """Which lines have a quote where none may be, or a carriage return inside."""
    wrong = np.zeros(len(lines), np.bool_)
    every = np.frombuffer(lines.data, np.uint8)
    if b"\r" in lines.data:
        wrong[lines.owners(np.flatnonzero(every == _CR))[1]] = True
    if b'"' in lines.data:
        quotes, owner = lines.owners(np.flatnonzero(every == _QUOTE))
        if len(quotes):
            _check(lines, every, quotes, owner, ord(delimiter), wrong)
    return wrong


def _check(
    lines: Lines,
    every: npt.NDArray[np.uint8],
    quotes: Positions,
    owner: Positions,
    delimiter: int,
    wrong: Bools,
) -> None:
    """Mark the lines whose quotes are wrong.

    Counted from its line's start, every other quote opens: it stands at a value's start, or right
    behind one that closed (inside a quoted value two are one). The others close: the value ends
    there, or the next one opens at once. None may be left open.
    """
    first = np.searchsorted(owner, np.arange(len(lines) + 1))  # of each line, among the quotes
    wrong |= np.diff(first) % 2 == 1
    opens = (np.arange(len(quotes)) - first[owner]) % 2 == 0
    before, behind = quotes - 1, quotes + 1  # behind a quote there is at least the line break
    at_start = quotes == lines.starts[owner]
    opens_well = at_start | (every[before] == delimiter) | (every[before] == _QUOTE)
    closes_well = (
        (behind == lines.ends[owner]) | (every[behind] == delimiter) | (every[behind] == _QUOTE)
    )
    wrong[owner[~np.where(opens, opens_well, closes_well)]] = True
