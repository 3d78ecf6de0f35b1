"""``forebay bulk``: every row of files scored, as one job."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from producers.cli.bulk_answers import end_of_bulk, size, wait_for_bulk
from producers.cli.connection import be_patient, connect
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

_COMPARED = re.compile(r"\s*(.+?)\s*(!=|<=|>=|=|<|>)\s*(.+?)\s*", re.DOTALL)
_ONE_OF = re.compile(r"\s*(.+?)\s+in\s+(.+?)\s*", re.DOTALL)
_PRESENCE = re.compile(r"\s*(.+?)\s+(is_null|not_null)\s*", re.DOTALL)


def bulk(
    model: Annotated[str, typer.Argument(help="NAME, NAME:VERSION or NAME@ALIAS.")],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT…",
            help="Addresses (s3://in/*.parquet), or files and patterns of this machine, which are"
            " uploaded.",
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            metavar="URI|DIR", help="Where to: an address, or with --wait a folder of this machine."
        ),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="parquet, csv, jsonl, npy, npz, images, uris or requests; else by the names.",
        ),
    ] = None,
    output_format: Annotated[str | None, typer.Option(help="parquet, jsonl or csv.")] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Columns of the model's one input.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="INPUT=A,B,…", help="Columns of the input of that name."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="'COLUMN OP VALUE'", help="Only such rows: = != < <= > >= in …"),
    ] = None,
    keep: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Columns beside the predictions.")
    ] = None,
    join: Annotated[bool, typer.Option("--join", help="All columns beside them.")] = False,
    max_errors: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Stop when more rows fail, as in 1%.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an output that is there.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Score a sample; tell what the whole would take.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait, and show how far it is.")] = False,
    priority: Annotated[int | None, typer.Option(min=0, max=9, help="2 unless given.")] = None,
    custom_id: Annotated[str | None, typer.Option(help="Your own name for it.")] = None,
    metadata: Metadata = None,
    expires_in_s: ExpiresInS = None,
    run_timeout_s: RunTimeoutS = None,
    max_attempts: Annotated[
        int | None, typer.Option(min=1, help="Deaths that one row may cause.")
    ] = None,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Told when the job is over.")
    ] = None,
    idempotency_key: IdempotencyKey = None,
    timeout_s: TimeoutS = None,
    as_json: AsJson = False,
) -> None:
    """Score every row of files, into parts beside a manifest and a file of errors."""
    folder = None if output is None or "://" in output else Path(output)
    if folder is not None and not (wait or dry_run):
        raise usage(
            f"{output} is a folder of this machine, which is filled at the end",
            "add --wait, or leave --output out and fetch it later: forebay jobs download JOB DIR",
        )
    options: dict[str, Any] = {
        "output": folder or output,
        "format": format_,
        "columns": column_options(columns, column or []),
        "where": [condition(text) for text in where or []] or None,
        "output_format": output_format,
        "keep": _words(keep, "--keep"),
        "join": join,
        "overwrite": overwrite,
        "max_error_share": None if max_errors is None else share(max_errors),
        "dry_run": dry_run,
        "custom_id": custom_id,
        "priority": priority,
        "expires_in_s": expires_in_s,
        "run_timeout_s": run_timeout_s,
        "max_attempts": max_attempts,
        "metadata": key_values(metadata or [], "--metadata") or None,
        "webhook": webhook,
        "idempotency_key": idempotency_key,
    }
    with connect() as client:
        job = client.bulk(model, inputs, **options, on_upload=None if as_json else uploading)
        be_patient(client)
        if wait or dry_run:
            wait_for_bulk(job, timeout_s, quiet=as_json or dry_run)
            raise typer.Exit(end_of_bulk(job, as_json=as_json, folder=folder))
    if as_json:
        say_json(job.document)
    else:
        say(job.id)
        note(f"{job.state}, {job.model}; how far it is: forebay jobs wait {job.id}")
    raise typer.Exit(Exit.GOOD)


def uploading(path: Path) -> None:
    """Say which file is on its way."""
    note(f"uploading {path} ({size(path.stat().st_size)})")


def condition(text: str) -> list[Any]:
    """``split = test`` as ``["split", "=", "test"]``; JSON is taken as it is."""
    if text.lstrip().startswith("["):
        try:
            told = json.loads(text)
        except ValueError as error:
            raise usage(f"--where {text!r} is not JSON: {error}") from error
        return list(told)
    if found := _PRESENCE.fullmatch(text):
        return [found[1], found[2]]
    if found := _COMPARED.fullmatch(text):
        return [found[1], found[2], _value(found[3])]
    if found := _ONE_OF.fullmatch(text):
        listed = _value(found[2])
        return [found[1], "in", listed if isinstance(listed, list) else _listed(found[2])]
    raise usage(
        f"--where {text!r} is no comparison",
        "write it as 'COLUMN OP VALUE' with one of = != < <= > >= in, or 'COLUMN is_null'",
    )


def share(text: str) -> float:
    """``1%`` or ``0.01``."""
    word = text.strip()
    try:
        found = float(word.removesuffix("%")) / (100 if word.endswith("%") else 1)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1:
        raise usage(f"--max-errors {text!r}: write a share, as 1% or 0.01")
    return found


def _value(text: str) -> Any:
    """A number, true, "quoted": what JSON knows; anything else is text as it stands."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _listed(text: str) -> list[Any]:
    return [_value(word.strip()) for word in text.split(",") if word.strip()]


def column_options(plain: str | None, named: Sequence[str]) -> Any:
    """``--columns`` and ``--column`` as the SDK takes them."""
    if plain is not None and named:
        raise usage("--columns and --column do not go together: give one kind")
    if plain is not None:
        return _words(plain, "--columns")
    pairs = key_values(named, "--column")
    return {name: _words(text, f"--column {name}") for name, text in pairs.items()} or None


def _words(text: str | None, option: str) -> list[str] | None:
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise usage(f"{option} {text!r}: write it as a,b,c")
    return words
