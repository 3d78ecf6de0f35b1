"""Lines on a terminal: of braille dots and colours, or of letters where there is no terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

Points: TypeAlias = Sequence[tuple[float, float]]

SPARKS = "▁▂▃▄▅▆▇█"
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # by row and column of a cell
_LETTERS = "*o+x"


@dataclass(frozen=True, slots=True)
class Cell:
    """One character of a drawing; ``line`` is the number of the line that it belongs to."""

    text: str
    line: int | None


@dataclass(frozen=True, slots=True)
class Frame:
    """What is seen of the plane, and on how many points."""

    left: float
    right: float
    low: float
    high: float
    width: int
    height: int

    def pixels(self, points: Points) -> set[tuple[int, int]]:
        """The points (column, row from above) of a line through all of these."""
        at = [self._pixel(x, y) for x, y in points]
        found = set(at[:1])
        for (x0, y0), (x1, y1) in pairwise(at):
            steps = max(abs(x1 - x0), abs(y1 - y0), 1)
            found |= {
                (x0 + round((x1 - x0) * n / steps), y0 + round((y1 - y0) * n / steps))
                for n in range(steps + 1)
            }
        return found

    def _pixel(self, x: float, y: float) -> tuple[int, int]:
        across = (x - self.left) / ((self.right - self.left) or 1)
        up = (y - self.low) / ((self.high - self.low) or 1)
        return (
            min(self.width - 1, max(0, round(across * (self.width - 1)))),
            min(self.height - 1, max(0, round((1 - up) * (self.height - 1)))),
        )


def spark(values: Sequence[float], width: int = 20) -> str:
    """The last values as a row of little bars."""
    seen = list(values)[-width:]
    if not seen:
        return ""
    low, high = min(seen), max(seen)
    scale = (len(SPARKS) - 1) / (high - low) if high > low else 0.0
    return "".join(SPARKS[round((value - low) * scale)] for value in seen)


def frame_of(lines: Sequence[Points], width: int, height: int) -> Frame | None:
    """Around all the lines; None where there is no point."""
    points = [point for line in lines for point in line]
    if not points:
        return None
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return Frame(min(xs), max(xs), min(ys), max(ys), width, height)


def in_dots(lines: Sequence[Points], width: int, height: int) -> list[list[Cell]]:
    """Lines as braille: eight points in a character, which has the last line's number."""
    frame = frame_of(lines, 2 * width, 4 * height)
    masks: dict[tuple[int, int], int] = {}
    owners: dict[tuple[int, int], int] = {}
    for number, line in enumerate(lines if frame else ()):
        for x, y in frame.pixels(line) if frame else ():
            cell = (x // 2, y // 4)
            masks[cell] = masks.get(cell, 0) | _DOTS[y % 4][x % 2]
            owners[cell] = number
    return [
        [
            Cell(chr(0x2800 + masks[x, y]) if (x, y) in masks else " ", owners.get((x, y)))
            for x in range(width)
        ]
        for y in range(height)
    ]


def in_letters(lines: Sequence[Points], width: int, height: int) -> list[list[Cell]]:
    """Lines as ``*`` and ``o``; where two meet, the last one is seen."""
    frame = frame_of(lines, width, height)
    owners: dict[tuple[int, int], int] = {}
    for number, line in enumerate(lines if frame else ()):
        owners |= dict.fromkeys(frame.pixels(line) if frame else (), number)
    return [
        [
            Cell(_LETTERS[owners[x, y]] if (x, y) in owners else " ", owners.get((x, y)))
            for x in range(width)
        ]
        for y in range(height)
    ]


def scale_of(lines: Sequence[Points], height: int) -> list[str]:
    """What stands left of each row: the highest value and the lowest."""
    frame = frame_of(lines, 2, 2)
    if frame is None:
        return [""] * height
    named: Mapping[int, float] = {0: frame.high, height - 1: frame.low}
    return [f"{named[row]:.4g}" if row in named else "" for row in range(height)]
