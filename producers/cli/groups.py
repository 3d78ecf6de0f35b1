"""``forebay groups …``: many jobs as one."""

from __future__ import annotations

from typing import Annotated

import typer

from producers.cli.answers import counts_text, end_of_group
from producers.cli.connection import be_patient, connect
from producers.cli.exits import of_states
from producers.cli.options import AsJson, TimeoutS
from producers.cli.output import say, say_fields, say_json
from producers.cli.submit import vars_of, wait_for_group

app = typer.Typer(no_args_is_help=True, help="Look at groups of jobs, wait, read all results.")

GroupId = Annotated[str, typer.Argument(metavar="GROUP", help="A group's id.")]


@app.command()
def show(group_id: GroupId, as_json: AsJson = False) -> None:
    """How many of its jobs are in which state."""
    with connect() as client:
        group = client.group(group_id)
    if as_json:
        say_json(group.document)
        return
    created = group.document.get("created_at")
    say_fields({"id": group.id, "created_at": created, "total": group.total, **group.counts})


@app.command()
def wait(group_id: GroupId, timeout_s: TimeoutS = None, as_json: AsJson = False) -> None:
    """Wait until every job is done."""
    with connect() as client:
        group = client.group(group_id)
        be_patient(client)
        wait_for_group(group, timeout_s, quiet=as_json)
    if as_json:
        say_json(group.document)
    else:
        say(counts_text(group.counts))
    raise typer.Exit(end_of_group(group))


@app.command()
def results(group_id: GroupId, as_json: AsJson = False) -> None:
    """Every job's end as JSON lines, in submission order."""
    states: set[str] = set()
    with connect() as client:
        for row in client.group(group_id).results():
            states.add(row.state)
            say_json(vars_of(row), compact=True)
    raise typer.Exit(of_states(states))


@app.command()
def cancel(group_id: GroupId, as_json: AsJson = False) -> None:
    """Cancel every job that has not finished."""
    with connect() as client:
        group = client.group(group_id).cancel()
    if as_json:
        say_json(group.document)
    else:
        say(counts_text(group.counts))
