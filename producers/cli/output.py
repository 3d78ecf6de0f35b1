"""What a verb prints: neat for a person, one JSON document for a program.

Answers go to standard output, everything else (progress, errors) to standard error.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from producers.cli.exits import Failure

PLAIN_EVERY_S = 2.0  # how often a line of progress is written when there is no terminal


def say(text: str = "") -> None:
    """One line of the answer."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """One line beside the answer."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def say_json(document: Any, *, compact: bool = False) -> None:
    """The answer as JSON: indented, or on one line."""
    indent = None if compact else 2
    say(json.dumps(document, indent=indent, ensure_ascii=False, default=str))


def say_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, empty: str) -> None:
    """Aligned columns; what is missing shows as a dash."""
    if not rows:
        say(empty)
        return
    cells = [["-" if cell is None or cell == "" else str(cell) for cell in row] for row in rows]
    widths = [
        max(len(name), *(len(row[place]) for row in cells)) for place, name in enumerate(columns)
    ]
    for row in ([name.upper() for name in columns], *cells):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        say(line.rstrip())


def say_fields(fields: Mapping[str, Any]) -> None:
    """Name and value, one a line; what is missing is left out."""
    shown = {name: value for name, value in fields.items() if value not in (None, "", {}, [])}
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value
        say(f"{name.ljust(width)}  {text}")


def complain(failure: Failure, *, as_json: bool) -> None:
    """An expected failure, on the error stream."""
    if as_json:
        note(json.dumps(failure.as_json(), ensure_ascii=False, default=str))
        return
    field = failure.details.get("field")
    note(f"forebay: {failure.message}" + (f"  (in {field})" if field else ""))
    for entry in list(failure.details.get("errors", ()))[:10]:
        says = entry.get("detail") or entry.get("message")
        if says:  # others are told by the message already
            note(f"  {entry.get('field', '')}: {says}")
    if failure.hint:
        note(f"  {failure.hint}")


Show = Callable[[Mapping[str, Any]], None]
Step = Callable[[int, int, str], None]  # done, total, what else there is to say


@contextmanager
def progress(title: str, *, quiet: bool) -> Iterator[Step]:
    """A bar on a terminal, a line now and then otherwise, nothing when ``quiet``."""
    if quiet:
        yield lambda done, total, text: None
    elif sys.stderr.isatty():
        with _bar(title) as step:
            yield step
    else:
        yield _lines(title)


@contextmanager
def _bar(title: str) -> Iterator[Step]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, text="")
        yield lambda done, total, text: bar.update(task, completed=done, total=total, text=text)


@contextmanager
def displayed(
    bar: Callable[[], AbstractContextManager[Show]],
    told: Callable[[Mapping[str, Any]], str],
    *,
    quiet: bool,
) -> Iterator[Show]:
    """The bar on a terminal, what is told of a state as a line now and then otherwise, nothing when
    ``quiet``."""
    if quiet:
        yield lambda state: None
    elif sys.stderr.isatty():
        with bar() as show:
            yield show
    else:
        yield _told_lines(told)


def _told_lines(told: Callable[[Mapping[str, Any]], str]) -> Show:
    """Each new state as a line, not too often; the last one always."""
    last: tuple[float, str] = (-PLAIN_EVERY_S, "")

    def show(state: Mapping[str, Any]) -> None:
        nonlocal last
        now, text = time.monotonic(), told(state)
        over = state.get("state") == "ended"
        if text != last[1] and (now - last[0] >= PLAIN_EVERY_S or over):
            note(text)
            last = (now, text)

    return show


def _lines(title: str) -> Step:
    last: tuple[float, int] = (-PLAIN_EVERY_S, -1)

    def step(done: int, total: int, text: str) -> None:
        nonlocal last
        now = time.monotonic()
        if done != last[1] and (now - last[0] >= PLAIN_EVERY_S or done == total):
            note(f"{title}: {done}/{total}" + (f"  {text}" if text else ""))
            last = (now, done)

    return step
