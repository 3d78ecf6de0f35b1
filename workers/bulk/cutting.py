"""How files are cut into shards; pure.

A shard is about half a minute of the device: long enough that claiming and committing it cost
nothing, short enough that its loss costs little. A run too small for that is cut finer, so that
several workers share it and end together. Small files are not packed: a shard lies in one file.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from storage.records.bulk import ShardPlan
from storage.records.errors import InvalidInput

AIM_S = 30.0  # of device time; a cut file's shards have between 2/3 and twice the aim
FINEST_S = 0.5  # a job of 5 s on two workers: 10 % more rows/s than with 2 s, and no loss on one
FEWEST_ROWS = 1_024  # unless these alone take longer than the aim
FEWEST_SHARDS = 8
SHARDS_PER_WORKER = 4
MAX_SHARDS = 20_000
ASSUMED_S_PER_ROW = 0.001

_SMALLEST, _LARGEST = 2 / 3, 2.0  # of the aim


@dataclass(frozen=True, slots=True)
class FileToCut:
    """One file of a run. ``cuts`` ascend; empty means that it may be cut anywhere."""

    file: int
    stop: int  # the position behind its last row
    rows: int | None = None
    cuts: Sequence[int] = ()
    splittable: bool = True
    bytes_per_row: float | None = None  # None: a position is a row, else a byte

    @property
    def positions_per_row(self) -> float:
        """How far apart rows lie, on average."""
        if self.bytes_per_row is None:
            return 1.0
        return self.stop / self.rows if self.rows else max(1.0, self.bytes_per_row)

    @property
    def likely_rows(self) -> float:
        """As well as it is known; 0 where the end of a file that is not cut is not."""
        if self.rows is not None:
            return self.rows
        return self.stop / self.positions_per_row if self.splittable else 0.0


def cut(
    files: Sequence[FileToCut], *, device_s_per_row: float | None, workers: int = 1
) -> list[ShardPlan]:
    """Shards, numbered in the order of files and positions, that hold every position once.

    ``device_s_per_row`` is what a row has cost so far, ``None`` where nobody knows. Raises
    ``InvalidInput`` (``too_many_files``) where the files alone are more than ``MAX_SHARDS``.
    """
    held = [one for one in files if one.stop > 0]
    if len(held) > MAX_SHARDS:
        raise InvalidInput(
            f"the input has {len(held):,} files, and {MAX_SHARDS:,} are taken in one job; join"
            " small files, or split the input over several jobs",
            code="too_many_files",
            field="input.uri",
        )
    aim_rows = _aim_rows(held, device_s_per_row or ASSUMED_S_PER_ROW, workers)
    while (count := sum(_count(one, aim_rows) for one in held)) > MAX_SHARDS:
        aim_rows *= max(1.05, count / MAX_SHARDS)
    while True:
        ranges = [(one.file, *place) for one in held for place in _ranges(one, aim_rows)]
        if len(ranges) <= MAX_SHARDS:
            return [ShardPlan(number, *place) for number, place in enumerate(ranges)]
        aim_rows *= 1.05  # the files' own cuts made a few shards more


def _count(file: FileToCut, aim_rows: float) -> int:
    """How many shards it would be without cuts of its own."""
    aim = aim_rows * file.positions_per_row
    return max(1, round(file.stop / aim)) if file.splittable else 1


def _aim_rows(files: Sequence[FileToCut], s_per_row: float, workers: int) -> float:
    """How many rows a shard had best have."""
    whole_s = s_per_row * sum(one.likely_rows for one in files)
    wanted = max(FEWEST_SHARDS, SHARDS_PER_WORKER * workers)
    aim_s = min(AIM_S, max(FINEST_S, whole_s / wanted))
    fewest = min(FEWEST_ROWS / _SMALLEST, AIM_S / s_per_row)
    return max(1.0, aim_s / s_per_row, fewest)


def _ranges(file: FileToCut, aim_rows: float) -> Iterator[tuple[int, int]]:
    aim = aim_rows * file.positions_per_row
    start = 0
    while start < file.stop:
        stop = _next_stop(file, start, aim) if file.splittable else file.stop
        yield start, stop
        start = stop


def _next_stop(file: FileToCut, start: int, aim: float) -> int:
    """Where the shard from ``start`` on ends: an equal share of what is left, or the nearest of the
    file's own cuts that leaves both sides a fair size."""
    left = file.stop - start
    share = left / max(1, round(left / aim))
    if share >= left:
        return file.stop
    ideal = start + max(1, round(share))
    lowest = start + max(share / 2, aim * _SMALLEST)
    highest = min(start + min(share * 3 / 2, aim * _LARGEST), file.stop - aim * _SMALLEST)
    first, last = bisect_left(file.cuts, lowest), bisect_right(file.cuts, highest)
    near = file.cuts[first:last]
    return min(near, key=lambda place: abs(place - ideal), default=ideal)
