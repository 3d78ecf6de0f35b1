"""``forebay evaluate``: what a version is worth on some data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from producers.cli.bulk import column_options, condition, share, uploading
from producers.cli.bulk_answers import wait_for_bulk
from producers.cli.connection import be_patient, connect
from producers.cli.evaluation_answers import end_of_evaluation
from producers.cli.exits import Exit, usage
from producers.cli.options import (
    AsJson,
    ExpiresInS,
    IdempotencyKey,
    Metadata,
    RunTimeoutS,
    TimeoutS,
    key_values,
)
from producers.cli.output import note, say, say_json

if TYPE_CHECKING:
    from producers.client import Forebay, Job

Label = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="The right answers; of pictures: folder, its name."),
]
Slices = Annotated[
    list[str] | None,
    typer.Option("--slice", metavar="COLUMN", help="Measure by its values as well; repeatable."),
]
Format = Annotated[
    str | None,
    typer.Option("--format", help="parquet, csv, jsonl, npy, npz, images, uris or requests."),
]
Columns = Annotated[
    str | None, typer.Option(metavar="A,B,…", help="Columns of the model's one input.")
]
Column = Annotated[
    list[str] | None,
    typer.Option(metavar="INPUT=A,B,…", help="Columns of the input of that name."),
]
Where = Annotated[
    list[str] | None,
    typer.Option(metavar="'COLUMN OP VALUE'", help="Only such rows: = != < <= > >= in …"),
]
Examples = Annotated[
    int | None, typer.Option(min=0, max=100, help="So many disagreements are shown.")
]
Tolerance = Annotated[
    float | None, typer.Option(min=0, max=1, help="Numbers that differ by less agree (relative).")
]
MaxErrors = Annotated[
    str | None, typer.Option(metavar="SHARE", help="Stop when more rows fail, as in 1%.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait, and show what was measured.")]
Priority = Annotated[int | None, typer.Option(min=0, max=9, help="2 unless given.")]


def evaluate(
    model: Annotated[str, typer.Argument(help="NAME, NAME:VERSION or NAME@ALIAS.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[INPUT…]",
            help="Addresses (s3://in/*.parquet), or files and patterns of this machine, which are"
            " uploaded.",
        ),
    ] = None,
    job: Annotated[
        str | None, typer.Option(metavar="JOB", help="The rows of this bulk job or evaluation.")
    ] = None,
    group: Annotated[
        str | None, typer.Option(metavar="GROUP", help="The inputs of this group's jobs.")
    ] = None,
    label: Label = None,
    slices: Slices = None,
    against: Annotated[
        str | None, typer.Option(metavar="JOB", help="Say what changed since this job.")
    ] = None,
    format_: Format = None,
    columns: Columns = None,
    column: Column = None,
    where: Where = None,
    examples: Examples = None,
    tolerance: Tolerance = None,
    max_errors: MaxErrors = None,
    wait: Wait = False,
    priority: Priority = None,
    custom_id: Annotated[str | None, typer.Option(help="Your own name for it.")] = None,
    metadata: Metadata = None,
    expires_in_s: ExpiresInS = None,
    run_timeout_s: RunTimeoutS = None,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Told when the job is over.")
    ] = None,
    idempotency_key: IdempotencyKey = None,
    timeout_s: TimeoutS = None,
    as_json: AsJson = False,
) -> None:
    """Measure a version: accuracy and more, with intervals, by slices, or what it changes."""
    if sum(bool(given) for given in (inputs, job, group)) != 1:
        raise usage("say which rows: INPUT…, or --job JOB, or --group GROUP; one of them")
    options: dict[str, Any] = {
        "job": job,
        "group": group,
        "label": label,
        "slices": slices,
        "against": against,
        **rows_options(format_, columns, column, where),
        "examples": examples,
        "tolerance": tolerance,
        "max_error_share": None if max_errors is None else share(max_errors),
        "custom_id": custom_id,
        "priority": priority,
        "expires_in_s": expires_in_s,
        "run_timeout_s": run_timeout_s,
        "metadata": key_values(metadata or [], "--metadata") or None,
        "webhook": webhook,
        "idempotency_key": idempotency_key,
    }
    with connect() as client:
        told = on_upload(as_json)
        made = client.evaluate(model, inputs or None, **options, on_upload=told)
        finish(client, made, wait=wait, timeout_s=timeout_s, as_json=as_json)


def finish(
    client: Forebay, job: Job, *, wait: bool, timeout_s: float | None, as_json: bool
) -> None:
    """Wait for it and print what it found, or print which job it is."""
    if wait:
        be_patient(client)
        wait_for_bulk(job, timeout_s, quiet=as_json)
        raise typer.Exit(end_of_evaluation(job, as_json=as_json))
    if as_json:
        say_json(job.document)
    else:
        say(job.id)
        note(f"{job.state}, {job.model}; what it found: forebay jobs wait {job.id}")
    raise typer.Exit(Exit.GOOD)


def rows_options(
    format_: str | None,
    columns: str | None,
    column: list[str] | None,
    where: list[str] | None,
) -> dict[str, Any]:
    """Which rows of the files, as the SDK takes it."""
    return {
        "format": format_,
        "columns": column_options(columns, column or []),
        "where": [condition(text) for text in where or []] or None,
    }


def on_upload(as_json: bool) -> Any:
    """Who is told of a file before it is uploaded."""
    return None if as_json else uploading
