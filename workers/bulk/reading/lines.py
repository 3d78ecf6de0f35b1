"""Lines of an object, cut by numpy: whole ones of a range of bytes, a block's worth at a time.

A range holds the lines that begin in it; its last one may end behind it, and a range that begins
inside a line leaves that one to the range before. So however a file is cut, each line is read once.
A line ends at LF or CR LF, or with the file (a CR before that is none of it); an empty one is none.
A position is the byte at which a line begins; a byte order mark at the file's start belongs to the
first line and is not given.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from workers.bulk.ports import Positions, RowError
from workers.bulk.reading.blocks import BLOCK_BYTES, Readable, read_blocks

MAX_LINE_BYTES = 16 << 20
_MOST_LINES = 1 << 18  # at a time: a block of lines of one byte has millions
MARK = b"\xef\xbb\xbf"  # of the byte order: UTF-8 needs none, and some programs write it
_PARSE_BYTES = 1 << 20
_LF, _CR = 10, 13

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Lines:
    """Whole lines beside each other in ``data``, and what is wrong with those left out."""

    data: bytes  # ends with a line break
    starts: Positions  # in data
    ends: Positions  # behind the last character, before the line break
    breaks: Positions  # behind the line break
    positions: Positions  # of the lines, in the object
    errors: tuple[RowError, ...]  # ascending
    next: int  # every line that begins before it, in the range, was given by now

    def __len__(self) -> int:
        return len(self.starts)

    def text(self, index: int) -> bytes:
        """One line, without its line break."""
        return self.data[self.starts[index] : self.ends[index]]

    def pick(self, chosen: Bools | Positions) -> Lines:
        """Some of the lines, with no errors."""
        return Lines(
            self.data,
            self.starts[chosen],
            self.ends[chosen],
            self.breaks[chosen],
            self.positions[chosen],
            (),
            self.next,
        )

    def joined(self) -> memoryview:
        """The lines with their line breaks and nothing in between; a copy only if there was."""
        if not len(self):
            return memoryview(b"")
        begin, end = int(self.starts[0]), int(self.breaks[-1])
        span = memoryview(self.data)[begin:end]
        if np.array_equal(self.breaks[:-1], self.starts[1:]):
            return span
        step = np.zeros(end - begin + 1, np.int8)
        step[self.starts - begin] += 1
        step[self.breaks - begin] -= 1
        wanted = np.cumsum(step[:-1], dtype=np.int8).view(np.bool_)
        return np.frombuffer(span, np.uint8)[wanted].data

    @property
    def parse_bytes(self) -> int:
        """How much of the lines a parser had best take at a time: what fits the processor's cache,
        but no less than a line."""
        return max(_PARSE_BYTES, int((self.breaks - self.starts).max()) + 1)

    def owners(self, places: Positions) -> tuple[Positions, Positions]:
        """Those of ascending ``places`` in data that are in a line, and the index of each one's."""
        owner = np.searchsorted(self.starts, places, side="right") - 1
        inside = owner >= 0
        inside[inside] = places[inside] < self.ends[owner[inside]]
        return places[inside], owner[inside]


def read_lines(
    place: Readable,
    size_bytes: int,
    start: int,
    stop: int,
    *,
    gzip: bool,
    block_bytes: int = BLOCK_BYTES,
    max_line_bytes: int = MAX_LINE_BYTES,
) -> Iterator[Lines]:
    """The lines that begin in ``start … stop``. What is wrong with a line (``line_too_long``,
    ``bad_utf8``) is told and reading goes on behind it, in bounded memory; ``InvalidInput`` as
    ``read_blocks`` has it."""
    if start >= (stop if gzip else min(stop, size_bytes)):
        return
    first = max(start - 1, 0)  # the byte before tells whether a line begins at start
    blocks = read_blocks(place, size_bytes, first, stop, gzip=gzip, block_bytes=block_bytes)
    cutter = _Cutter(first, start, stop, None if gzip else size_bytes, max_line_bytes)
    for block in blocks:
        yield from cutter.take(block)
        if cutter.done:
            return
    yield from cutter.end()


class _Cutter:
    """What is left of the blocks so far: the beginning of a line, or a line to be passed over."""

    def __init__(
        self, first: int, start: int, stop: int, size_bytes: int | None, max_line_bytes: int
    ) -> None:
        self._stop = stop
        self._size_bytes = size_bytes  # if it is known
        self._max_line_bytes = max_line_bytes
        self._at = first  # the position of what comes next
        self._line = first  # where the line that is not complete begins
        self._parts: list[bytes] = []  # of it
        self._passing = start > 0  # to its end; of the line before start there is one byte
        self._error: RowError | None = None  # of the line that is passed over
        self.done = False  # every line that begins before stop was given

    def take(self, block: bytes) -> Iterator[Lines]:
        """The lines that this block completes."""
        self._at += len(block)
        if self._at == self._size_bytes and not block.endswith(b"\n"):
            block += b"\n"  # so that the last line does not come alone
            self._at += 1
        if self._passing:
            end = block.find(b"\n") + 1
            self._line = self._at - len(block) + end  # if there is one
            self.done = self._line >= self._stop if end else self._at >= self._stop
            if self.done or not end:
                yield from self._told()
                return
            self._passing, block = False, block[end:]
        end = block.rfind(b"\n") + 1
        if not end:
            self._keep(block)
            yield from self._told()
            return
        data, begins = b"".join([*self._parts, block[:end]]), self._line
        self._parts, self._line = [], begins + len(data)
        self._keep(block[end:])
        yield from self._cut(data, begins)
        yield from self._told()

    def end(self) -> Iterator[Lines]:
        """The last line, which has no line break, at the object's end."""
        if self._parts:
            yield from self._cut(b"".join([*self._parts, b"\n"]), self._line)

    def _keep(self, rest: bytes) -> None:
        """The beginning of a line, unless that is too long already."""
        self.done = self._line >= self._stop
        if not rest or self.done:
            return
        self._parts.append(rest)
        # The mark and a CR that a LF may follow do not count.
        if self._at - self._line > self._max_line_bytes + len(MARK) + 1:
            self._parts, self._passing = [], True
            self._error = self._too_long(self._line)

    def _told(self) -> Iterator[Lines]:
        """The error of a line that is passed over, once, as soon as it is known."""
        if self._error is not None:
            none = np.empty(0, np.int64)
            # Reading would begin inside the line and pass over the rest of it.
            going_on = min(self._error.position + 1, self._stop)
            yield Lines(b"", none, none, none, none, (self._error,), going_on)
            self._error = None

    def _too_long(self, position: int) -> RowError:
        return RowError(
            position,
            "line_too_long",
            f"the line is longer than {self._max_line_bytes} bytes; nothing of it was read",
        )

    def _cut(self, data: bytes, begins: int) -> Iterator[Lines]:
        every = np.frombuffer(data, np.uint8)
        breaks = np.flatnonzero(every == _LF) + 1
        starts = np.empty_like(breaks)
        starts[0], starts[1:] = 0, breaks[:-1]
        within = int(np.searchsorted(starts, self._stop - begins))  # those that begin before stop
        has_cr, is_ascii = b"\r" in data, data.isascii()
        for first in range(0, within, _MOST_LINES):
            last = min(first + _MOST_LINES, within)
            some, behind = starts[first:last], breaks[first:last]
            ends, positions = behind - 1, some + begins
            if has_cr:
                ends -= (every[ends - 1] == _CR) & (ends > some)
            if positions[0] == 0 and data.startswith(MARK):
                some[0] = len(MARK)
            going_on = min(begins + int(behind[-1]), self._stop)
            lines = Lines(data, some, ends, behind, positions, (), going_on)
            yield self._checked(lines, is_ascii)

    def _checked(self, lines: Lines, is_ascii: bool) -> Lines:
        """Without the lines that are empty, too long or not UTF-8."""
        length = lines.ends - lines.starts
        good, errors = length > 0, []
        if length.max() > self._max_line_bytes:
            too_long = length > self._max_line_bytes
            errors = [self._too_long(int(one)) for one in lines.positions[too_long]]
            good &= ~too_long
        if not is_ascii:
            for index, message in _not_utf8(lines):
                if good[index]:
                    good[index] = False
                    errors.append(RowError(int(lines.positions[index]), "bad_utf8", message))
        if good.all():
            return lines
        errors.sort(key=lambda one: one.position)
        return replace(lines.pick(good), errors=tuple(errors))


def _not_utf8(lines: Lines) -> Iterator[tuple[int, str]]:
    """Which lines are not UTF-8, and where. All of them are looked at at once first."""
    begin, end = lines.starts[0], lines.breaks[-1]
    try:
        str(memoryview(lines.data)[begin:end], "utf-8")
        return
    except UnicodeDecodeError:
        pass
    high = np.flatnonzero(np.frombuffer(lines.data, np.uint8)[begin:end] >= 0x80) + begin
    for index in np.unique(lines.owners(high)[1]):
        try:
            lines.text(index).decode()
        except UnicodeDecodeError as error:
            where = f"{error.reason} at its byte {error.start}"
            yield int(index), f"the line is not UTF-8: {where}; save the file as UTF-8"
