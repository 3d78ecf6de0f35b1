"""``forebay models compare`` and ``forebay models evaluations``: what versions are worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from producers.cli.bulk import share
from producers.cli.bulk_answers import told
from producers.cli.connection import be_patient, connect
from producers.cli.evaluate import (
    Column,
    Columns,
    Examples,
    Format,
    Label,
    MaxErrors,
    Priority,
    Slices,
    Tolerance,
    Where,
    on_upload,
    rows_options,
)
from producers.cli.evaluation_answers import number, say_against
from producers.cli.exits import usage
from producers.cli.options import AsJson, TimeoutS
from producers.cli.output import note, say, say_fields, say_json, say_table

if TYPE_CHECKING:
    from producers.client import Comparison, Job

_OVERLAP = {None: None, True: "overlap", False: "apart"}
_LEADING = ("accuracy", "f1", "auc", "log_loss", "mae", "rmse", "r2", "disagreement")
SHOWN = 4  # metrics in a line


def compare(
    first: Annotated[str, typer.Argument(metavar="FIRST", help="As digits:3 or digits@prod.")],
    second: Annotated[str, typer.Argument(metavar="SECOND", help="As digits:4.")],
    on: Annotated[
        list[str] | None,
        typer.Option(
            "--on",
            metavar="INPUT",
            help="Addresses, or files and patterns of this machine; else what either was last"
            " evaluated on.",
        ),
    ] = None,
    label: Label = None,
    slices: Slices = None,
    format_: Format = None,
    columns: Columns = None,
    column: Column = None,
    where: Where = None,
    examples: Examples = None,
    tolerance: Tolerance = None,
    max_errors: MaxErrors = None,
    priority: Priority = None,
    timeout_s: TimeoutS = None,
    as_json: AsJson = False,
) -> None:
    """Run both on the same data: metrics side by side, where they disagree, examples."""
    rows = rows_options(format_, columns, column, where)
    if on is None and any(rows.values()):
        raise usage("--format, --columns, --column and --where say which rows of --on INPUT")
    with connect() as client:
        be_patient(client)
        found = client.models.compare(
            first,
            second,
            on,
            label=label,
            slices=slices,
            **rows,
            examples=examples,
            tolerance=tolerance,
            max_error_share=None if max_errors is None else share(max_errors),
            priority=priority,
            timeout_s=timeout_s,
            on_progress=None if as_json else _progress(),
            on_upload=on_upload(as_json),
        )
    if as_json:
        say_json(found.as_json())
    else:
        say_comparison(found)


def say_comparison(found: Comparison) -> None:
    """Both as a table, and what they disagree on."""
    data = found.second.get("data") or {}
    say_fields(
        {
            "first": f"{found.first_model}, job {found.first_job}",
            "second": f"{found.second_model}, job {found.second_job}",
            "label": data.get("label"),
            "rows": f"{found.second.get('rows') or 0:,}",
        }
    )
    rows = [
        (
            one.name,
            number(one.first),
            number(one.second),
            None if one.difference is None else _signed(one.difference),
            _OVERLAP[one.overlap],
        )
        for one in found.metrics
    ]
    if rows:
        say()
        columns = ("metric", found.first_model, found.second_model, "difference", "intervals")
        say_table(columns, rows, empty="")
    if found.against:
        say()
        say_against(found.against)


def evaluations(
    ref: Annotated[
        str, typer.Argument(metavar="NAME[:V]", help="As digits:3, digits@prod, or the newest.")
    ],
    limit: Annotated[int, typer.Option(min=1, max=100, help="At most so many.")] = 20,
    job: Annotated[str | None, typer.Option(metavar="JOB", help="This job's alone.")] = None,
    full: Annotated[
        bool, typer.Option("--full", help="With --json: each with its whole document.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """What a version was measured to be worth, newest first."""
    with connect() as client:
        found = client.models.evaluations(ref, limit=limit, job=job, full=full)
    if as_json:
        say_json(found)
        return
    rows = [
        (
            one["job"],
            one.get("created_at"),
            f"{one['rows']:,}",
            (one.get("data") or {}).get("label"),
            str(one["data_digest"])[:12],
            _figures(one.get("metrics") or {}),
        )
        for one in found
    ]
    columns = ("job", "created", "rows", "label", "data", "metrics")
    say_table(columns, rows, empty="no evaluations: forebay evaluate MODEL INPUT --label COLUMN")


def _figures(metrics: Mapping[str, Any]) -> str:
    known = [(name, number(metrics.get(name))) for name in _LEADING]
    shown = [f"{name} {value}" for name, value in known if value is not None]
    return "  ".join(shown[:SHOWN])


def _signed(value: float) -> str:
    text = number(value)
    return f"+{text}" if value > 0 else str(text)


def _progress() -> Callable[[Job], object]:
    """A line when a job begins and ends, as there are two of them."""
    seen: dict[str, str] = {}

    def show(job: Job) -> None:
        if seen.get(job.id) != job.state:
            seen[job.id] = job.state
            note(f"{job.model}, job {job.id}: {job.state}, {told(job.progress)}")

    return show


VERBS = (compare, evaluations)  # of ``forebay models``
