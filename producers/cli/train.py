"""``forebay train``: a spec becomes the next version of a model."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from producers.cli.bulk_answers import size
from producers.cli.connection import be_patient, connect
from producers.cli.exits import Exit, Failure, from_client, usage
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
from producers.cli.spec_file import SpecFile, model_of, pointed_to, read_spec_file
from producers.cli.training_answers import end_of_training, save_picture, wait_for_training

if TYPE_CHECKING:
    from producers.client import Forebay, Job

_UPLOADED = re.compile(r"forebay://files/[0-9a-f-]{36}")


def train(
    spec: Annotated[
        str, typer.Argument(metavar="SPEC", help="A YAML or JSON file; - reads standard input.")
    ],
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model; else what the file says.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="In place of the file's: epochs=3."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait, and show how far it is.")] = False,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --wait: a picture of the curves.")
    ] = None,
    priority: Annotated[int | None, typer.Option(min=0, max=9, help="5 unless given.")] = None,
    custom_id: Annotated[str | None, typer.Option(help="Your own name for it.")] = None,
    metadata: Metadata = None,
    expires_in_s: ExpiresInS = None,
    run_timeout_s: RunTimeoutS = None,
    max_attempts: Annotated[
        int | None, typer.Option(min=1, help="Deaths of its process between two checkpoints.")
    ] = None,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Told when the job is over.")
    ] = None,
    idempotency_key: IdempotencyKey = None,
    timeout_s: TimeoutS = None,
    as_json: AsJson = False,
) -> None:
    """Train the next version of a model, as a spec says."""
    if png is not None and not wait:
        raise usage("--png goes with --wait", "or draw it later: forebay jobs show JOB --png FILE")
    if png is not None and png.is_dir():
        raise usage(f"--png {png} is a folder: name a file in it, as in {png / 'curves.png'}")
    if png is not None and not png.absolute().parent.is_dir():
        raise usage(f"--png {png}: there is no folder {png.parent}")
    file, folder = _opened(spec)
    file.set(set_ or [])
    options: dict[str, Any] = {
        "custom_id": custom_id,
        "priority": priority,
        "expires_in_s": expires_in_s,
        "run_timeout_s": run_timeout_s,
        "max_attempts": max_attempts,
        "metadata": key_values(metadata or [], "--metadata") or None,
        "webhook": webhook,
        "idempotency_key": idempotency_key,
    }
    name = model_of(file.told, model, file.name)
    with connect() as client:
        try:
            job = client.train(
                name,
                file.told,
                folder=folder,
                on_upload=None if as_json else _uploading,
                **options,
            )
        except Exception as error:
            failure = from_client(error)
            if failure is None:
                raise
            raise pointed_to(failure, file) from error
        be_patient(client)
        if wait:
            wait_for_training(job, timeout_s, quiet=as_json)
            ended = end_of_training(job, as_json=as_json)
            if job.error and not as_json:
                for line in places_in(str(job.error.get("message")), file, client):
                    note(f"  {line}")
            if png is not None:
                _draw(job, png)
            raise typer.Exit(ended)
    if as_json:
        say_json(job.document)
    else:
        say(job.id)
        note(f"{job.state}, will be {job.model}; how far it is: forebay jobs wait {job.id}")
    raise typer.Exit(Exit.GOOD)


def _draw(job: Job, png: Path) -> None:
    """The curves, or why there are none: how the training ended is said, and is the exit code."""
    try:
        save_picture(job, png)
    except Exception as error:
        failure = error if isinstance(error, Failure) else from_client(error)
        if failure is None:
            raise
        note(f"forebay: {failure.message}")
        note(f"  the curves are kept: forebay jobs show {job.id} --png FILE")


def _opened(spec: str) -> tuple[SpecFile, Path]:
    """The file, and the folder that its paths begin in."""
    if spec == "-":
        return read_spec_file("standard input", sys.stdin.read()), Path()
    path = Path(spec)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise usage(f"there is no file {path}") from None
    except IsADirectoryError:
        raise usage(f"{path} is a folder: name the spec's file in it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise usage(f"{path} cannot be read: {error}") from None
    return read_spec_file(path.name, text), path.parent


def places_in(message: str, file: SpecFile, client: Forebay) -> Iterator[str]:
    """What a job's error names, as its caller knows it: the spec's line, and uploaded files."""
    from producers.client.errors import ForebayError

    where, colon, _ = message.partition(": ")
    line = file.line_of(where.removeprefix("spec.")) if colon and where.startswith("spec.") else 0
    if line:
        yield f"{file.name}, line {line}"
    for uri in dict.fromkeys(_UPLOADED.findall(message)):
        with suppress(ForebayError):  # it is a courtesy
            yield f"{uri} is {client.files.show(uri).document.get('filename')}"


def _uploading(path: Path) -> None:
    note(f"uploading {path} ({size(path.stat().st_size)})")
