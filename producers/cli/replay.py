"""``forebay replay``: a finished job or group scored again by another version."""

from __future__ import annotations

from typing import Annotated

import typer

from producers.cli.bulk import share
from producers.cli.connection import connect
from producers.cli.evaluate import (
    Examples,
    Label,
    MaxErrors,
    Priority,
    Slices,
    Tolerance,
    Wait,
    finish,
)
from producers.cli.options import AsJson, IdempotencyKey, TimeoutS


def replay(
    what: Annotated[
        str,
        typer.Argument(metavar="JOB|GROUP", help="A finished bulk job, evaluation or group."),
    ],
    model: Annotated[str, typer.Argument(help="NAME, NAME:VERSION or NAME@ALIAS.")],
    label: Label = None,
    slices: Slices = None,
    examples: Examples = None,
    tolerance: Tolerance = None,
    max_errors: MaxErrors = None,
    wait: Wait = False,
    priority: Priority = None,
    idempotency_key: IdempotencyKey = None,
    timeout_s: TimeoutS = None,
    as_json: AsJson = False,
) -> None:
    """Score it again with MODEL, and say what changes. What was answered stays as it is."""
    with connect() as client:
        job = client.replay(
            what,
            model,
            label=label,
            slices=slices,
            examples=examples,
            tolerance=tolerance,
            max_error_share=None if max_errors is None else share(max_errors),
            priority=priority,
            idempotency_key=idempotency_key,
        )
        finish(client, job, wait=wait, timeout_s=timeout_s, as_json=as_json)
