"""``forebay jobs …``: look at jobs, wait for them, stop them, do them again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from producers.cli.answers import BULK_KINDS, end_of_job, show_job
from producers.cli.bulk_answers import wait_for_bulk
from producers.cli.connection import be_patient, connect
from producers.cli.exits import Exit, of_states, usage
from producers.cli.options import AsJson, TimeoutS, key_values
from producers.cli.output import note, say, say_json, say_table
from producers.cli.training_answers import save_picture, say_log, wait_for_training
from producers.cli.training_curves import show_training_curves

if TYPE_CHECKING:
    from producers.client import Job

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
def show(
    job_id: JobId,
    log: Annotated[bool, typer.Option("--log", help="Of a training: what it said so far.")] = False,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of a training: a picture of its curves.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What is known of a job; of a training with its curves."""
    with connect() as client:
        job = client.job(job_id)
        if png is not None:
            save_picture(job, png)
        if as_json:
            say_json(dict(job.document) | ({"log": list(job.log())} if log else {}))
        elif log:
            say_log(job)
        else:
            show_job(job)
            if job.document.get("kind") == "training":
                show_training_curves(job.curves())


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
            _wait_for(job, timeout_s, as_json=as_json)
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
def pause(
    job_ids: Annotated[list[str], typer.Argument(metavar="JOB…")], as_json: AsJson = False
) -> None:
    """Hold bulk jobs and evaluations (what is scored is committed) or trainings (a checkpoint is
    made)."""
    with connect() as client:
        _say_states([client.job(job_id).pause() for job_id in job_ids], as_json=as_json)


@app.command()
def resume(
    job_ids: Annotated[list[str], typer.Argument(metavar="JOB…")], as_json: AsJson = False
) -> None:
    """Let paused bulk jobs, evaluations and trainings go on."""
    with connect() as client:
        _say_states([client.job(job_id).resume() for job_id in job_ids], as_json=as_json)


@app.command()
def download(
    job_id: JobId,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are there.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch the parts, the errors and the manifest of a bulk job; of one that runs, what there is
    so far."""
    with connect() as client:
        job = client.job(job_id)
        be_patient(client)
        paths = [str(path) for path in job.download(folder, overwrite=overwrite)]
    if as_json:
        say_json(paths)
        return
    for path in paths:
        say(path)
    if not job.done:
        note(f"{job.state}: this is what there is so far")


@app.command()
def retry(
    job_id: JobId,
    failed_rows: Annotated[
        bool, typer.Option("--failed-rows", help="Of a bulk job: only the rows that failed.")
    ] = False,
    output: Annotated[
        str | None, typer.Option(metavar="URI", help="With --failed-rows: where to.")
    ] = None,
    output_format: Annotated[
        str | None, typer.Option(help="With --failed-rows: parquet, jsonl or csv.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for it.")] = False,
    timeout_s: TimeoutS = None,
    as_json: AsJson = False,
) -> None:
    """Submit the input of a failed, cancelled or expired job again, as a new job. A bulk job goes
    on from what it committed, a training begins anew."""
    if (output or output_format) and not failed_rows:
        raise usage("--output and --output-format go with --failed-rows")
    with connect() as client:
        job = client.job(job_id).retry(
            failed_rows=failed_rows, output=output, output_format=output_format
        )
        if wait:
            be_patient(client)
            _wait_for(job, timeout_s, as_json=as_json)
            raise typer.Exit(end_of_job(job, as_json=as_json))
    if as_json:
        say_json(job.document)
    else:
        say(job.id)
        note(f"{job.state}, {job.model}, a retry of {job_id}")
    raise typer.Exit(Exit.GOOD)


def _wait_for(job: Job, timeout_s: float | None, *, as_json: bool) -> None:
    """Wait; of a bulk job, an evaluation or a training it is shown how far it is."""
    if job.document.get("kind") in BULK_KINDS:
        wait_for_bulk(job, timeout_s, quiet=as_json)
    elif job.document.get("kind") == "training":
        wait_for_training(job, timeout_s, quiet=as_json)
    else:
        job.wait(timeout_s)


def _say_states(jobs: Sequence[Job], *, as_json: bool) -> None:
    if as_json:
        documents = [job.document for job in jobs]
        say_json(documents[0] if len(documents) == 1 else documents)
        return
    for job in jobs:
        state = job.training.get("state") or job.progress.get("state", job.state)
        say(f"{job.id}  {state}")
