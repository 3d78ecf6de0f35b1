"""A bulk job for people: how far it is, what came of it, what a dry run found."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from os import PathLike
from typing import TYPE_CHECKING, Any

from producers.cli.exits import Exit, of_states
from producers.cli.output import Show, displayed, note, say, say_fields, say_json, say_table

if TYPE_CHECKING:
    from producers.client import Job

CELL, COLUMNS, ROWS = 24, 8, 10  # of a table of first rows


def wait_for_bulk(job: Job, timeout_s: float | None, *, quiet: bool) -> None:
    """Wait with a bar on a terminal, a line now and then otherwise."""
    with displayed(_bar, told, quiet=quiet) as show:
        show(job.progress)
        job.wait(timeout_s, on_progress=lambda seen: show(seen.progress))


def end_of_bulk(
    job: Job,
    *,
    as_json: bool,
    folder: str | PathLike[str] | None = None,
    name: str | None = None,
) -> Exit:
    """Print how it ended."""
    result = job.result if job.state == "succeeded" else None
    if as_json:
        say_json(dict(job.document) | ({"result": result} if result is not None else {}))
    elif result is None:
        why = f": {job.error.get('code')}: {job.error.get('message')}" if job.error else ""
        note(f"forebay: job {job.id} {job.state}{why}")
        if job.progress.get("rows_done"):
            note(f"  {told(job.progress)}; what is done is kept: forebay jobs retry {job.id}")
    elif result.get("dry_run"):
        _say_dry_run(result)
    else:
        _say_result(job, result, folder, name)
    return of_states([job.state])


def told(progress: Mapping[str, Any]) -> str:
    """``1,200 of 10,000 rows (12 %), 350 rows/s, 3 failed, 8 s left``."""
    done = sum(progress.get(f"rows_{name}") or 0 for name in ("done", "failed", "skipped"))
    total = progress.get("rows_total")
    rows = f"{done:,} of {total:,} rows" if total is not None else f"{done:,} rows"
    percent = 100 * float(progress.get("share") or 0)
    # Of a file whose rows nobody has counted, only what is committed tells how far it is.
    words = [f"{rows} ({percent:.0f} %)" if percent or total is not None else rows]
    if progress.get("rows_per_s"):
        words.append(f"{progress['rows_per_s']:,.0f} rows/s")
    if progress.get("rows_failed"):
        words.append(f"{progress['rows_failed']:,} failed")
    if left := left_s(progress.get("estimated_end_at"), time.time()):
        words.append(f"{duration(left)} left")
    state = progress.get("state")
    return ", ".join(words if state in ("running", "ended", None) else [*words, str(state)])


def left_s(end_at: object, now_s: float) -> float | None:
    """Seconds until then."""
    if not isinstance(end_at, str):
        return None
    try:
        end = datetime.fromisoformat(end_at).astimezone(UTC).timestamp()
    except ValueError:
        return None
    return max(0.0, end - now_s)


def duration(seconds: float) -> str:
    """``8 s``, ``3 min``, ``2.5 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def size(bytes_: float) -> str:
    """``12.3 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if bytes_ < 1000:
            return f"{bytes_:.0f} {unit}" if unit == "B" else f"{bytes_:.1f} {unit}"
        bytes_ /= 1000
    return f"{bytes_:.1f} TB"


def _say_result(
    job: Job, result: Mapping[str, Any], folder: str | PathLike[str] | None, name: str | None
) -> None:
    wall_s = float(result.get("wall_s") or 0)
    rows = int(result.get("rows") or 0) + int(result.get("failed") or 0)
    fetch = None if folder or result.get("output") else f"forebay jobs download {job.id} DIR"
    again = f"forebay jobs retry {job.id} --failed-rows" if result.get("failed") else None
    say_fields(
        {
            "job": name,
            "rows": f"{result.get('rows', 0):,}",
            "failed": f"{result['failed']:,}" if result.get("failed") else None,
            "skipped": f"{result['skipped']:,}" if result.get("skipped") else None,
            "parts": result.get("parts"),
            "size": size(float(result.get("size_bytes") or 0)),
            "time": duration(wall_s) + (f", {rows / wall_s:,.0f} rows/s" if wall_s else ""),
            "device": f"{float(result.get('device_s') or 0):,.1f} s",
            "output": str(folder) if folder else result.get("output"),
        }
    )
    for hint, command in (("fetch it with", fetch), ("score the failed rows with", again)):
        if command:
            note(f"{hint}: {command}")


def _say_dry_run(result: Mapping[str, Any]) -> None:
    total = result.get("rows_total")
    failed, sample = result.get("failed") or 0, result.get("sample_rows") or 0
    estimated = result.get("estimated_s")
    output_bytes = result.get("estimated_output_bytes")
    say_fields(
        {
            "rows": ("about " if result.get("rows_are_estimated") else "") + f"{total or 0:,}",
            "sample": f"{sample:,} rows" + (f", {failed:,} of them failed" if failed else ""),
            "shards": result.get("shards"),
            "estimated time": None if estimated is None else duration(float(estimated)),
            "estimated output": None if output_bytes is None else size(float(output_bytes)),
        }
    )
    first = [row for row in result.get("first_rows") or () if isinstance(row, Mapping)][:ROWS]
    if first:
        names = list(dict.fromkeys(name for row in first for name in row))
        say("")
        shown = names[:COLUMNS]
        say_table(shown, [[_cell(row.get(name)) for name in shown] for row in first], empty="")
        if len(names) > COLUMNS:
            note(f"and {len(names) - COLUMNS} more columns")
    for error in list(result.get("errors") or ())[:ROWS]:
        note(f"{error.get('row_id')}  {error.get('code')}: {error.get('message')}")


def _cell(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = "[" + ", ".join(str(_cell(one)) for one in value) + "]"
    text = str(value)
    return text if len(text) <= CELL else text[: CELL - 1] + "…"


@contextmanager
def _bar() -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[text]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("rows", total=None, text="")

        def show(progress: Mapping[str, Any]) -> None:
            known = progress.get("state") not in ("waiting", "planning")
            done = float(progress.get("share") or 0)
            bar.update(task, completed=done, total=1.0 if known else None, text=told(progress))

        yield show
