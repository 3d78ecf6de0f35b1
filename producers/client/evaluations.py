"""Evaluations: what a version is worth on some data, or what it changes in what was answered."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from producers.client.bulk import Source, bulk_input, uploader
from producers.client.errors import BadArgument, NotFound
from producers.client.files import Files
from producers.client.groups import Group
from producers.client.inputs import plain
from producers.client.jobs import Job
from producers.client.transport import Transport

SERVED = ("pending", "ready")  # versions that a bare name may stand for


class EvaluationJob(Job):
    """An evaluation as its caller holds it: a bulk job whose ``result`` says what was measured.

    The properties below read the result: they raise as ``result`` does while there is none.
    """

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """Numbers by name; None where there is nothing to tell it from."""
        return dict(self.result.get("metrics") or {})

    @property
    def intervals(self) -> Mapping[str, Sequence[float]]:
        """95 % intervals by the metric's name, where there is one."""
        return {
            name: found for name, found in (self.result.get("intervals") or {}).items() if found
        }

    @property
    def slices(self) -> Sequence[Mapping[str, Any]]:
        """By column: ``values``, each with ``rows``, ``metrics`` and ``intervals``."""
        return list(self.result.get("slices") or [])

    @property
    def against(self) -> Mapping[str, Any] | None:
        """What changed since the rows were answered before: ``rows``, ``disagreed``, ``share``,
        ``transitions``, ``fixed``, ``broken``, ``examples``. None if it was compared with nothing.
        """
        found = self.result.get("against")
        return found if isinstance(found, Mapping) else None


def job_of(transport: Transport, document: Mapping[str, Any]) -> Job:
    """A job by its kind."""
    kind = EvaluationJob if document.get("kind") == "evaluation" else Job
    return kind(transport, document)


def evaluation_input(
    inputs: Source | Sequence[Source] | None,
    *,
    job: str | Job | None = None,
    group: str | Group | None = None,
    format: str | None,
    columns: Any,
    where: Any,
    needs_folders: bool,
    files: Files,
    on_upload: Callable[[Path], object] | None,
) -> dict[str, Any]:
    """The input as the service takes it; files of this machine are uploaded first."""
    given = [value for value in (inputs, job, group) if value is not None]
    if len(given) != 1:
        raise BadArgument("say which rows: files, or job=, or group=; one of them", code="no_input")
    if inputs is None:
        if format or columns or where:
            says = "format, columns and where are taken over from the job or the group"
            raise BadArgument(f"{says}: leave them out")
        return {"job": id_of(job)} if job is not None else {"group": id_of(group)}
    told = bulk_input(inputs, format, uploader(files, on_upload))
    if needs_folders and told.get("format") == "uris" and format != "uris":
        raise BadArgument(
            "the label of a picture is its folder's name, which is lost when it is uploaded. Give"
            " an address that the service reads, s3://… or file:///…, or put them into an NPZ file",
            code="folder",
        )
    return told | {name: plain(v) for name, v in (("columns", columns), ("where", where)) if v}


def evaluate(
    transport: Transport,
    model: str,
    told: Mapping[str, Any],
    *,
    label: str | None = None,
    slices: Sequence[str] | None = None,
    against: str | Job | None = None,
    examples: int | None = None,
    tolerance: float | None = None,
    idempotency_key: str | None = None,
    **options: Any,
) -> EvaluationJob:
    """Submit an evaluation of this input; ``options`` are further fields of the request."""
    if isinstance(slices, str):
        raise BadArgument("slices= takes a list of columns")
    evaluation = {
        "label": label,
        "slices": list(slices) if slices else None,
        "against": None if against is None else id_of(against),
        "examples": examples,
        "tolerance": tolerance,
    }
    asked = {name: value for name, value in evaluation.items() if value is not None}
    body: dict[str, Any] = {
        "kind": "evaluation",
        "model": model,
        "input": dict(told),
        "evaluation": asked or None,
        **options,
    }
    return EvaluationJob(transport, submitted(transport, body, idempotency_key))


def submitted(
    transport: Transport, body: Mapping[str, Any], key: str | None = None
) -> Mapping[str, Any]:
    """The job that comes of a request, of which what is None is left out."""
    document: Mapping[str, Any] = transport.json(
        "POST",
        "/v1/jobs",
        body={name: value for name, value in body.items() if value is not None},
        headers={"Idempotency-Key": key or str(uuid.uuid4())},
        repeatable=True,
    )
    return document


def replayed_input(transport: Transport, what: str | Job | Group) -> dict[str, Any]:
    """The input of a replay: of a job, or of a group if no job has this id."""
    if isinstance(what, Job):
        return {"job": what.id}
    if isinstance(what, Group):
        return {"group": what.id}
    try:
        return {"job": transport.json("GET", f"/v1/jobs/{what}")["id"]}
    except NotFound:
        return {"group": what}


def numbered(transport: Transport, ref: str) -> tuple[str, int]:
    """Name and number of ``name:version``, ``name@alias`` or, the newest served, ``name``."""
    name, _, alias = ref.partition("@")
    name, colon, number = name.partition(":")
    if colon and not number.isdecimal():
        raise BadArgument(f"{ref!r} is not a version: write NAME:NUMBER, as in digits:3")
    if number:
        return name, int(number)
    model = transport.json("GET", f"/v1/models/{name}")
    if not alias:
        served = [one["version"] for one in model["versions"] if one["state"] in SERVED]
        return name, int(max(served, default=model["latest_version"]))
    if alias not in model["aliases"]:
        raise BadArgument(f"{name} has no alias {alias!r}", code="alias_not_found")
    return name, int(model["aliases"][alias])


def evaluations_of(
    transport: Transport,
    ref: str,
    *,
    limit: int | None = None,
    job: str | None = None,
    full: bool = False,
) -> list[Mapping[str, Any]]:
    """What a version was measured to be worth, newest first."""
    name, number = numbered(transport, ref)
    params = {"limit": limit, "job": job, "full": "true" if full else None}
    page = transport.json(
        "GET",
        f"/v1/models/{name}/versions/{number}/evaluations",
        params={key: value for key, value in params.items() if value is not None} or None,
    )
    return list(page["data"])


def id_of(what: str | Job | Group | None) -> str:
    """Of a job, a group, or an id itself."""
    return what if isinstance(what, str) else what.id if what is not None else ""
