"""A training's curves in the terminal: the loss and each metric, training and validation."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from producers.cli.output import say
from producers.cli.plot import Cell, Points, in_dots, in_letters, scale_of

WIDTH, HEIGHT = 60, 8
MAX_DRAWN = 6
NAMES, COLOURS = ("training", "validation"), ("cyan", "yellow")
_NOT_MEASURED = frozenset({"epoch", "seconds", "rows", "learning_rate", "step"})


@dataclass(frozen=True, slots=True)
class Curve:
    """One measure's lines: of training, then of validation if it was looked at."""

    name: str
    lines: tuple[Points, ...]
    by: str  # epoch, or step before the first epoch is over

    @property
    def title(self) -> str:
        """``loss by epoch: training 0.12, validation 0.2``."""
        last = [f"{NAMES[n]} {line[-1][1]:.4g}" for n, line in enumerate(self.lines) if line]
        return f"{self.name} by {self.by}: {', '.join(last)}"


def curves_in(told: Mapping[str, Any]) -> list[Curve]:
    """What can be drawn of a training's curves, the loss first."""
    epochs: Sequence[Mapping[str, Any]] = told.get("epochs") or ()
    steps: Mapping[str, Sequence[Any]] = told.get("steps") or {}
    if len(epochs) > 1:
        names = dict.fromkeys(
            name.removeprefix("val_") for row in epochs for name in row if name not in _NOT_MEASURED
        )
        found = [Curve(name, _by_epoch(epochs, name), "epoch") for name in names]
    else:
        counted = steps.get("step", ())
        found = [
            Curve(name, (_line(counted, values),), "step")
            for name, values in steps.items()
            if name not in _NOT_MEASURED
        ]
    found = [one for one in found if any(one.lines)]
    return sorted(found, key=lambda one: one.name != "loss")[:MAX_DRAWN]


def show_training_curves(told: Mapping[str, Any]) -> None:
    """Draw them: in colours on a terminal, in letters otherwise."""
    for curve in curves_in(told):
        say()
        if sys.stdout.isatty():
            _draw(curve)
        else:
            say(curve.title)
            for left, row in zip(
                _scale(curve), in_letters(curve.lines, WIDTH, HEIGHT), strict=True
            ):
                say(f"{left} |{''.join(cell.text for cell in row)}".rstrip())


def _by_epoch(epochs: Sequence[Mapping[str, Any]], name: str) -> tuple[Points, ...]:
    found = []
    for key in (name, f"val_{name}"):
        rows = [row for row in epochs if row.get(key) is not None]
        found.append(_line([row["epoch"] for row in rows], [row[key] for row in rows]))
    return tuple(found) if found[1] else (found[0],)


def _line(xs: Sequence[Any], ys: Sequence[Any]) -> Points:
    return [(float(x), float(y)) for x, y in zip(xs, ys, strict=False) if y is not None]


def _scale(curve: Curve) -> list[str]:
    named = scale_of(curve.lines, HEIGHT)
    width = max(map(len, named))
    return [text.rjust(width) for text in named]


def _draw(curve: Curve) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    title = Text(f"{curve.name} by {curve.by}:")
    for number, line in enumerate(curve.lines):
        if line:
            title.append(f"  ━ {NAMES[number]} {line[-1][1]:.4g}", style=COLOURS[number])
    console.print(title)
    for left, row in zip(_scale(curve), in_dots(curve.lines, WIDTH, HEIGHT), strict=True):
        console.print(Text.assemble(f"{left} │", *(_coloured(cell) for cell in row)))


def _coloured(cell: Cell) -> tuple[str, str]:
    return cell.text, "" if cell.line is None else COLOURS[cell.line]
