"""``forebay submit``: one job, or several as one group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from producers.cli.answers import brief, counts_text, end_of_group, end_of_job
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
from producers.cli.output import note, progress, say, say_json, say_table
from producers.cli.sources import gather

if TYPE_CHECKING:
    from producers.client import Forebay, Group


def submit(
    model: Annotated[str, typer.Argument(help="NAME, NAME:VERSION or NAME@ALIAS.")],
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[MORE…]", help="Further inputs of that kind.")
    ] = None,
    image: Annotated[
        list[str] | None, typer.Option("--image", metavar="FILE…", help="A picture.")
    ] = None,
    text: Annotated[list[str] | None, typer.Option("--text", metavar="TEXT…")] = None,
    json_file: Annotated[
        list[str] | None,
        typer.Option(
            "--json-file",
            metavar="FILE…",
            help="An input as JSON, a list of them, or numbers (a tensor); - reads standard"
            " input. May be spelled --json FILE.",
        ),
    ] = None,
    npy: Annotated[
        list[str] | None, typer.Option("--npy", metavar="FILE…", help="An array of numpy.save.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait, and print the results.")] = False,
    priority: Annotated[int | None, typer.Option(min=0, max=9, help="9 is most urgent.")] = None,
    custom_id: Annotated[str | None, typer.Option(help="Your own name for the one job.")] = None,
    metadata: Metadata = None,
    expires_in_s: ExpiresInS = None,
    run_timeout_s: RunTimeoutS = None,
    max_attempts: Annotated[int | None, typer.Option(min=1)] = None,
    webhook: Annotated[
        str | None,
        typer.Option("--webhook", metavar="URL", help="Told when the job, or the group, is over."),
    ] = None,
    idempotency_key: IdempotencyKey = None,
    timeout_s: TimeoutS = None,
    as_json: AsJson = False,
) -> None:
    """Submit work: one input is a job, several are one group.

    --json alone prints the answer as JSON; --json FILE is an input.
    """
    found = gather(image or [], text or [], json_file or [], npy or [], more or [])
    options: dict[str, Any] = {
        "priority": priority,
        "expires_in_s": expires_in_s,
        "run_timeout_s": run_timeout_s,
        "max_attempts": max_attempts,
        "metadata": key_values(metadata or [], "--metadata") or None,
    }
    with connect() as client:
        if len(found) == 1:
            _, item = found[0]
            own = {"custom_id": custom_id, "webhook": webhook}
            item = {**options, **{name: one for name, one in own.items() if one}, **item}
            code = _one(client, model, item, idempotency_key, wait, timeout_s, as_json)
        else:
            if custom_id:
                raise usage(f"--custom-id names one job, and there are {len(found)}")
            items = [item for _, item in found]
            group = client.submit_many(
                model, items, webhook=webhook, idempotency_key=idempotency_key, **options
            )
            names = {
                member.id: name for member, (name, _) in zip(group.members, found, strict=True)
            }
            code = _several(client, group, names, wait, timeout_s, as_json)
    raise typer.Exit(code)


def _one(
    client: Forebay,
    model: str,
    item: dict[str, Any],
    key: str | None,
    wait: bool,
    timeout_s: float | None,
    as_json: bool,
) -> Exit:
    job = client.submit(model, **item, idempotency_key=key)
    if wait:
        be_patient(client)
        return end_of_job(job.wait(timeout_s), as_json=as_json)
    if as_json:
        say_json(job.document)
    else:
        say(job.id)
        note(f"{job.state}, {job.model}; its result: forebay jobs wait {job.id}")
    return Exit.GOOD


def _several(
    client: Forebay,
    group: Group,
    names: dict[str, str],
    wait: bool,
    timeout_s: float | None,
    as_json: bool,
) -> Exit:
    if not wait:
        members = [{"id": member.id, "custom_id": member.custom_id} for member in group.members]
        if as_json:
            say_json({"group": group.id, "jobs": members})
        else:
            say(group.id)
            note(f"{group.total:,} jobs; their results: forebay groups results {group.id}")
        return Exit.GOOD
    be_patient(client)
    wait_for_group(group, timeout_s, quiet=as_json)
    results = list(group.results())
    if as_json:
        say_json(dict(group.document) | {"results": [vars_of(result) for result in results]})
    else:
        rows = [
            (names.get(row.id, row.id), row.state, brief(row.result) if row.result else _why(row))
            for row in results
        ]
        say_table(("input", "state", "answer"), rows, empty="no jobs")
        note(counts_text(group.counts))
    return end_of_group(group)


def wait_for_group(group: Group, timeout_s: float | None, *, quiet: bool) -> None:
    """Wait with a progress bar."""
    with progress("jobs", quiet=quiet) as step:
        step(group.finished, group.total, "")
        group.wait(
            timeout_s,
            progress=lambda seen: step(seen.finished, seen.total, _failures(seen.counts)),
        )


def _failures(counts: Any) -> str:
    bad = {state: counts.get(state, 0) for state in ("failed", "cancelled", "expired")}
    return counts_text(bad) if any(bad.values()) else ""


def _why(row: Any) -> str:
    return f"{row.error.get('code')}: {row.error.get('message')}" if row.error else ""


def vars_of(row: Any) -> dict[str, Any]:
    """A group's line as the service wrote it."""
    return {name: getattr(row, name) for name in ("id", "custom_id", "state", "result", "error")}
