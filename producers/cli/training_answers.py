"""A training for people: how far it is, its log, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from producers.cli.bulk_answers import duration, left_s
from producers.cli.exits import Exit, of_states, usage
from producers.cli.output import Show, displayed, note, say, say_fields, say_json
from producers.cli.plot import spark

if TYPE_CHECKING:
    from producers.client import Job

MAX_MEASURES, SPARKS = 4, 24


def wait_for_training(job: Job, timeout_s: float | None, *, quiet: bool) -> None:
    """Wait with a bar and the loss's line on a terminal, a line now and then otherwise. Whoever
    interrupts it is told how to come back: the training goes on."""
    try:
        with displayed(_bar, told, quiet=quiet) as show:
            show(job.training)
            job.wait(timeout_s, on_progress=lambda seen: show(seen.training))
    except KeyboardInterrupt:
        note(f"the training goes on; come back to it with: forebay jobs wait {job.id}")
        note(f"its curves: forebay jobs show {job.id}   end it: forebay jobs cancel {job.id}")
        raise


def told(training: Mapping[str, Any]) -> str:
    """``epoch 3 of 10, step 1,200 of 4,000 (30 %), loss 0.12, 1,900 rows/s, 8 s left``."""
    state = str(training.get("state") or "waiting")
    if state == "waiting":
        return state
    if state == "preparing":
        read = training.get("rows_read")
        return f"preparing, {read:,} rows read" if read else state
    epoch, epochs = training.get("epoch") or 0, training.get("epochs") or 0
    step, steps = training.get("step") or 0, training.get("steps") or 0
    words = [f"epoch {epoch} of {epochs}" if epochs else f"epoch {epoch}"]
    if steps:
        percent = 100 * float(training.get("share") or 0)
        words.append(f"step {step:,} of {steps:,} ({percent:.0f} %)")
    latest = training.get("latest") or {}
    words += [f"{name} {value:.4g}" for name, value in list(latest.items())[:MAX_MEASURES]]
    if state == "training":
        if training.get("rows_per_s"):
            words.append(f"{training['rows_per_s']:,.0f} rows/s")
        if left := left_s(training.get("estimated_end_at"), time.time()):
            words.append(f"{duration(left)} left")
    return ", ".join(words if state in ("training", "ended") else [*words, state])


def say_log(job: Job) -> None:
    """All lines so far."""
    for line in job.log():
        say(f"{line['at']}  {line['text']}")


def save_picture(job: Job, path: Path) -> None:
    """Draw the curves into a file; ``Failure`` if it cannot be written."""
    try:
        job.curves_png(path)
    except OSError as error:
        raise usage(
            f"the picture cannot be written: {path}: {error.strerror}",
            f"draw it elsewhere: forebay jobs show {job.id} --png FILE",
        ) from None


def end_of_training(job: Job, *, as_json: bool, name: str | None = None) -> Exit:
    """Print how it ended."""
    result = job.result if job.state == "succeeded" else None
    if as_json:
        say_json(dict(job.document) | ({"result": result} if result is not None else {}))
    elif result is None:
        why = f": {job.error.get('code')}: {job.error.get('message')}" if job.error else ""
        note(f"forebay: job {job.id} {job.state}{why}")
        if job.training.get("epoch"):
            note(f"  {told(job.training)}; what it said: forebay jobs show {job.id} --log")
    else:
        _say_result(job, result, name)
    return of_states([job.state])


def _say_result(job: Job, result: Mapping[str, Any], name: str | None) -> None:
    evaluation: Mapping[str, Any] = result.get("evaluation") or {}
    macro = evaluation.get("macro") or {}
    figures = {
        **(evaluation.get("metrics") or {}),
        **{key: value for key, value in evaluation.items() if key != "rows"},
        **{f"macro {key}": value for key, value in macro.items()},
    }
    numbers = {key: f"{value:.4g}" for key, value in figures.items() if type(value) in (int, float)}
    version = str(result.get("version") or job.model)
    best = result.get("best_epoch")
    epochs = f"{result.get('epochs')}" + (f", the best was {best}" if best else "")
    held_out = evaluation.get("on")
    say_fields(
        {
            "job": name,
            "version": version,
            "epochs": epochs,
            "ended by": result.get("stopped"),
            "trained": duration(float(result.get("seconds") or 0)),
            "measured on": f"{evaluation.get('rows', 0):,} rows of {held_out}"
            if held_out
            else None,
            **numbers,
            "note": evaluation.get("note"),
        }
    )
    note(f"serve it with: forebay submit {version} …   its curves: forebay jobs show {job.id}")


@contextmanager
def _bar() -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    losses: dict[int, float] = {}  # by step, as they were seen
    columns = (
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("[cyan]{task.fields[curve]}"),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("steps", total=None, text="", curve="")

        def show(training: Mapping[str, Any]) -> None:
            loss = (training.get("latest") or {}).get("loss")
            if loss is not None:
                losses[int(training.get("step") or 0)] = float(loss)
            bar.update(
                task,
                completed=float(training.get("share") or 0),
                total=1.0 if training.get("steps") else None,
                text=told(training),
                curve=spark(list(losses.values()), SPARKS),
            )

        yield show
