"""``forebay jobs …``: look at jobs, wait for them, stop them, do them again."""

from __future__ import annotations

from typing import Annotated

import typer

from producers.cli.answers import end_of_job, show_job
from producers.cli.connection import be_patient, connect
from producers.cli.exits import Exit, of_states
from producers.cli.options import AsJson, TimeoutS, key_values
from producers.cli.output import note, say, say_json, say_table

app = typer.Typer(no_args_is_help=True, help="Look at jobs, wait, cancel, retry.")

JobId = Annotated[str, typer.Argument(metavar="JOB", help="A job's id.")]


@app.command("list")
def list_jobs(
    state: Annotated[
        str | None,
        typer.Option(help="queued, running, succeeded, failed, cancelled or expired."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="NAME or NAME:VERSION.")] = None,
    group: Annotated[str | None, typer.Option(help="Jobs of this group only.")] = None,
    metadata: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Jobs, newest first."""
    labels = key_values(metadata or [], "--metadata")
    with connect() as client:
        found = list(
            client.jobs(limit=limit, state=state, model=model, group=group, metadata=labels)
        )
    if as_json:
        say_json([job.document for job in found])
        return
    rows = [
        (
            job.id,
            job.state,
            job.model,
            job.document.get("created_at"),
            job.document.get("custom_id"),
            job.error.get("code") if job.error else None,
        )
        for job in found
    ]
    columns = ("job", "state", "model", "created", "custom id", "error")
    say_table(columns, rows, empty="no jobs")


@app.command()
def show(job_id: JobId, as_json: AsJson = False) -> None:
    """What is known of a job."""
    with connect() as client:
        job = client.job(job_id)
    if as_json:
        say_json(job.document)
    else:
        show_job(job)


@app.command()
def wait(
    job_ids: Annotated[list[str], typer.Argument(metavar="JOB…")],
    timeout_s: TimeoutS = None,
    as_json: AsJson = False,
) -> None:
    """Wait until jobs are done, and print their results."""
    states: list[str] = []
    with connect() as client:
        for job_id in job_ids:
            job = client.job(job_id)
            be_patient(client)
            job.wait(timeout_s)
            end_of_job(job, as_json=as_json, name=job_id if len(job_ids) > 1 else None)
            states.append(job.state)
    raise typer.Exit(of_states(states))


@app.command()
def cancel(
    job_ids: Annotated[list[str], typer.Argument(metavar="JOB…")], as_json: AsJson = False
) -> None:
    """Cancel jobs. One that runs may still finish first."""
    with connect() as client:
        jobs = [client.job(job_id).cancel() for job_id in job_ids]
    if as_json:
        documents = [job.document for job in jobs]
        say_json(documents[0] if len(documents) == 1 else documents)
        return
    for job in jobs:
        asked = job.state == "running"
        say(f"{job.id}  " + ("running, cancellation requested" if asked else job.state))


@app.command()
def retry(
    job_id: JobId,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for it.")] = False,
    timeout_s: TimeoutS = None,
    as_json: AsJson = False,
) -> None:
    """Submit the input of a failed, cancelled or expired job again, as a new job."""
    with connect() as client:
        job = client.job(job_id).retry()
        if wait:
            be_patient(client)
            raise typer.Exit(end_of_job(job.wait(timeout_s), as_json=as_json))
    if as_json:
        say_json(job.document)
    else:
        say(job.id)
        note(f"{job.state}, {job.model}, a retry of {job_id}")
    raise typer.Exit(Exit.GOOD)
