"""``Forebay``: the one object a caller needs."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Self

import httpx

from producers.client.bulk import Source, bulk_input, local_folder, output_body, uploader
from producers.client.errors import BadArgument
from producers.client.evaluations import (
    EvaluationJob,
    evaluate,
    evaluation_input,
    job_of,
    replayed_input,
)
from producers.client.files import Files
from producers.client.groups import Group, Member
from producers.client.inputs import FORMS, encode_input, plain
from producers.client.jobs import Job
from producers.client.models import Models
from producers.client.paging import pages
from producers.client.settings import client_settings
from producers.client.training import with_uploads
from producers.client.transport import Transport, dump
from producers.client.webhooks import Webhooks

MAX_JOBS_PER_GROUP = 10_000
MAX_BODY_BYTES = 16 * 1024 * 1024
OPTIONS = (
    "custom_id",
    "priority",
    "expires_in_s",
    "run_timeout_s",
    "max_attempts",
    "metadata",
    "webhook",
)


class Forebay:
    """A connection to one Forebay service, for any number of threads.

    ``url`` and ``key`` default to ``FOREBAY_API_URL`` (else http://127.0.0.1:8080) and
    ``FOREBAY_API_KEY``; an empty key is none. A call is repeated for up to ``patience_s`` while
    the service cannot be reached, is overloaded or unavailable; a submit carries an idempotency
    key, so that a repeat never makes a second job.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout_s: float = 30.0,
        patience_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        settings = client_settings()
        self._metrics_token = settings.metrics_token
        self._transport = Transport(
            url or settings.url,
            settings.key if key is None else key or None,
            timeout_s=timeout_s,
            patience_s=patience_s,
            http=transport,
        )
        self.models = Models(self._transport)
        self.files = Files(self._transport)
        self.webhooks = Webhooks(self._transport)

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._transport.url

    @property
    def patience_s(self) -> float:
        """For how long a call is repeated while the service does not answer."""
        return self._transport.patience_s

    @patience_s.setter
    def patience_s(self, seconds: float) -> None:
        self._transport.patience_s = seconds

    def submit(
        self,
        model: str,
        *,
        image: Any = None,
        text: str | None = None,
        tensor: Any = None,
        inputs: Mapping[str, Any] | None = None,
        record: Mapping[str, Any] | None = None,
        items: Iterable[Mapping[str, Any]] | None = None,
        ref: Any = None,
        custom_id: str | None = None,
        priority: int | None = None,
        expires_in_s: float | None = None,
        run_timeout_s: float | None = None,
        max_attempts: int | None = None,
        metadata: Mapping[str, str] | None = None,
        webhook: str | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """One job: ``model`` is ``name``, ``name:version`` or ``name@alias``; give one input.

        ``image`` is a path, bytes, a Pillow image or a uint8 array. ``tensor`` is an array or
        nested lists, ``inputs`` several by name. ``text``, ``record`` (column to value), ``ref``
        (an uploaded file or its uri) or ``items`` (a list of such inputs in one job). ``webhook``
        is a URL that is told when the job is over: see ``verify``.
        """
        given = {
            "image": image,
            "text": text,
            "tensor": tensor,
            "inputs": inputs,
            "record": record,
            "items": items,
            "ref": ref,
        }
        options = {
            "custom_id": custom_id,
            "priority": priority,
            "expires_in_s": expires_in_s,
            "run_timeout_s": run_timeout_s,
            "max_attempts": max_attempts,
            "metadata": metadata,
            "webhook": webhook,
        }
        body = _job_body(model, given, options)
        document = self._transport.json(
            "POST", "/v1/jobs", body=body, headers=_once(idempotency_key), repeatable=True
        )
        return Job(self._transport, document)

    def submit_many(
        self,
        model: str,
        items: Iterable[Mapping[str, Any]],
        *,
        webhook: str | None = None,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> Group:
        """Up to 10,000 jobs as one group, all or nothing.

        Each item is what ``submit`` would be given: ``{"image": path, "custom_id": "a"}``;
        ``options`` (priority, expires_in_s, …) hold for every item that does not say otherwise.
        ``webhook`` is a URL that is told when the last of them is over; an item may have its own.
        """
        bodies = [_item_body(model, item, options) for item in items]
        if len(bodies) > MAX_JOBS_PER_GROUP:
            raise BadArgument(
                f"{len(bodies):,} items are more than one group holds ({MAX_JOBS_PER_GROUP:,});"
                " submit_in_groups() splits them",
                code="too_many_jobs",
            )
        return self._group(bodies, idempotency_key, webhook)

    def submit_in_groups(
        self,
        model: str,
        items: Iterable[Mapping[str, Any]],
        *,
        webhook: str | None = None,
        **options: Any,
    ) -> Iterator[Group]:
        """Any number of jobs: as many groups as it takes, each submitted when it is full.

        Lazy: nothing is sent before you iterate. Each group is all or nothing by itself, and
        ``webhook`` is told of each.
        """
        bodies: list[Mapping[str, Any]] = []
        size_bytes = 0
        for item in items:
            body = _item_body(model, item, options)
            length = len(dump(body)) + 1
            full = len(bodies) >= MAX_JOBS_PER_GROUP
            if bodies and (full or size_bytes + length > MAX_BODY_BYTES - 1024):
                yield self._group(bodies, None, webhook)
                bodies, size_bytes = [], 0
            bodies.append(body)
            size_bytes += length
        if bodies:
            yield self._group(bodies, None, webhook)

    def _group(
        self, bodies: Sequence[Mapping[str, Any]], key: str | None, webhook: str | None
    ) -> Group:
        if not bodies:
            raise BadArgument("there is nothing to submit: items is empty", code="no_jobs")
        answer = self._transport.json(
            "POST",
            "/v1/jobs/many",
            body={"jobs": bodies} | ({"webhook": webhook} if webhook is not None else {}),
            headers=_once(key),
            repeatable=True,
        )
        members = [Member(row["id"], row.get("custom_id")) for row in answer["jobs"]]
        given = answer["group"]
        document = given if isinstance(given, Mapping) else {"id": given, "total": len(members)}
        return Group(self._transport, document, members)

    def bulk(
        self,
        model: str,
        inputs: Source | Sequence[Source],
        *,
        output: str | PathLike[str] | None = None,
        format: str | None = None,
        columns: Sequence[str] | Mapping[str, str | Sequence[str]] | None = None,
        where: Sequence[Sequence[Any]] | None = None,
        output_format: str | None = None,
        keep: Sequence[str] | None = None,
        join: bool = False,
        overwrite: bool = False,
        max_error_share: float | None = None,
        dry_run: bool = False,
        custom_id: str | None = None,
        priority: int | None = None,
        expires_in_s: float | None = None,
        run_timeout_s: float | None = None,
        max_attempts: int | None = None,
        metadata: Mapping[str, str] | None = None,
        webhook: str | None = None,
        idempotency_key: str | None = None,
        on_upload: Callable[[Path], object] | None = None,
    ) -> Job:
        """Have every row of files scored, as one job.

        ``inputs``: addresses that the service may read (``s3://in/*.parquet``), uploaded files, or
        paths and patterns of this machine, which are uploaded first. ``format`` is told by the
        names unless given: parquet, csv, jsonl, npy, npz, images, uris or requests. ``columns``
        name the model's input (``["a", "b"]``, or by its inputs), ``where`` the rows
        (``[["split", "=", "test"]]``).

        ``output``: an address below a prefix that the operator lists for outputs; a folder of this
        machine, filled by ``wait``; or nothing: ``download`` fetches it. ``keep`` (or ``join``, for
        all) are input columns beside the predictions. A ``dry_run`` scores a sample and tells what
        the whole would take. ``on_upload`` is called with each file before it is uploaded.
        """
        folder = local_folder(output, overwrite=overwrite)
        told = bulk_input(inputs, format, uploader(self.files, on_upload))
        told |= {name: plain(v) for name, v in (("columns", columns), ("where", where)) if v}
        options = {
            "output": output_body(
                uri=None if folder else output,
                format=output_format,
                keep=keep,
                join=join,
                overwrite=overwrite,
            ),
            "on_error": None if max_error_share is None else {"max_share": max_error_share},
            "dry_run": dry_run or None,
            "custom_id": custom_id,
            "priority": priority,
            "expires_in_s": expires_in_s,
            "run_timeout_s": run_timeout_s,
            "max_attempts": max_attempts,
            "metadata": metadata,
            "webhook": webhook,
        }
        body: dict[str, Any] = {"kind": "bulk", "model": model, "input": told}
        body.update({name: value for name, value in options.items() if value is not None})
        document = self._transport.json(
            "POST", "/v1/jobs", body=body, headers=_once(idempotency_key), repeatable=True
        )
        job = Job(self._transport, document)
        if folder is None or dry_run:
            return job
        return job.will_download(folder, overwrite=overwrite)

    def train(
        self,
        model: str,
        spec: Mapping[str, Any],
        *,
        folder: str | PathLike[str] | None = None,
        custom_id: str | None = None,
        priority: int | None = None,
        expires_in_s: float | None = None,
        run_timeout_s: float | None = None,
        max_attempts: int | None = None,
        metadata: Mapping[str, str] | None = None,
        webhook: str | None = None,
        idempotency_key: str | None = None,
        on_upload: Callable[[Path], object] | None = None,
    ) -> Job:
        """Have the next version of ``model`` trained, as one job.

        ``spec`` says data, preparation, split, network, loss and the rest, as the README has it.
        Files of this machine that ``data.uri`` or ``data.labels_uri`` name (no ``://``; relative to
        ``folder``, else to where you are) are uploaded first; ``on_upload`` is called before each.

        The job's ``training`` tells how far it is, ``curves()`` what it measured, ``log()`` what it
        said; ``wait(on_progress=…)``, ``pause()``, ``resume()`` and ``cancel()`` steer it. Its
        ``result`` is what was measured on the rows held out, with the ``version`` that it made.
        ``max_attempts`` are the deaths of its process that are put up with between two checkpoints.
        """
        body: dict[str, Any] = {
            "kind": "training",
            "model": model,
            "spec": with_uploads(spec, folder, uploader(self.files, on_upload)),
        }
        options = {
            "custom_id": custom_id,
            "priority": priority,
            "expires_in_s": expires_in_s,
            "run_timeout_s": run_timeout_s,
            "max_attempts": max_attempts,
            "metadata": metadata,
            "webhook": webhook,
        }
        body.update({name: value for name, value in options.items() if value is not None})
        document = self._transport.json(
            "POST", "/v1/jobs", body=body, headers=_once(idempotency_key), repeatable=True
        )
        return Job(self._transport, document)

    def evaluate(
        self,
        model: str,
        inputs: Source | Sequence[Source] | None = None,
        *,
        job: str | Job | None = None,
        group: str | Group | None = None,
        label: str | None = None,
        slices: Sequence[str] | None = None,
        against: str | Job | None = None,
        examples: int | None = None,
        tolerance: float | None = None,
        format: str | None = None,
        columns: Sequence[str] | Mapping[str, str | Sequence[str]] | None = None,
        where: Sequence[Sequence[Any]] | None = None,
        max_error_share: float | None = None,
        custom_id: str | None = None,
        priority: int | None = None,
        expires_in_s: float | None = None,
        run_timeout_s: float | None = None,
        max_attempts: int | None = None,
        metadata: Mapping[str, str] | None = None,
        webhook: str | None = None,
        idempotency_key: str | None = None,
        on_upload: Callable[[Path], object] | None = None,
    ) -> EvaluationJob:
        """Have a version measured, as one job: every row is scored as it is served.

        The rows are those of ``inputs`` (as ``bulk`` takes them), of a finished bulk job or
        evaluation (``job``), which it is then compared with, or the inputs of a finished ``group``.
        ``label`` is the column that holds the right answers; of pictures below a prefix it is the
        folder's name. ``slices`` are columns by whose values the metrics are told apart.
        ``against``, a finished job over the same rows, says what changed: labels, or numbers that
        differ by more than ``tolerance`` (relative), with so many ``examples``.

        Its ``result`` has ``metrics``, ``intervals``, ``slices``, ``against`` and more.
        """
        told = evaluation_input(
            inputs,
            job=job,
            group=group,
            format=format,
            columns=columns,
            where=where,
            needs_folders=against is None,
            files=self.files,
            on_upload=on_upload,
        )
        return evaluate(
            self._transport,
            model,
            told,
            label=label,
            slices=slices,
            against=against,
            examples=examples,
            tolerance=tolerance,
            idempotency_key=idempotency_key,
            on_error=None if max_error_share is None else {"max_share": max_error_share},
            custom_id=custom_id,
            priority=priority,
            expires_in_s=expires_in_s,
            run_timeout_s=run_timeout_s,
            max_attempts=max_attempts,
            metadata=metadata,
            webhook=webhook,
        )

    def replay(self, what: str | Job | Group, model: str, **options: Any) -> EvaluationJob:
        """Score a finished bulk job, evaluation or group (its id will do) again with another
        version: the job's ``against`` says what changes. ``options`` are ``evaluate``'s, but for
        the rows."""
        told = replayed_input(self._transport, what)
        return self.evaluate(model, **told, **options)

    def job(self, job_id: str) -> Job:
        """A job by its id."""
        return job_of(self._transport, self._transport.json("GET", f"/v1/jobs/{job_id}"))

    def jobs(self, *, limit: int | None = None, **where: Any) -> Iterator[Job]:
        """Jobs, newest first: ``state=``, ``kind=``, ``model=``, ``group=``, ``metadata={…}``."""
        metadata = where.pop("metadata", None) or {}
        params = {key: value for key, value in where.items() if value is not None}
        params.update({f"metadata.{key}": value for key, value in metadata.items()})
        for document in pages(self._transport, "/v1/jobs", params, limit=limit):
            yield job_of(self._transport, document)

    def group(self, group_id: str) -> Group:
        """A group by its id."""
        return Group(self._transport, self._transport.json("GET", f"/v1/groups/{group_id}"))

    def ready(self) -> Mapping[str, Any]:
        """What ``/readyz`` says; raises ``ServiceUnavailable`` while a part is down."""
        document: Mapping[str, Any] = self._transport.json("GET", "/readyz")
        return document

    def metrics(self) -> str:
        """The service's figures, in Prometheus' text format. Models and tenants are named on
        loopback, or for who has set ``FOREBAY_METRICS_TOKEN``."""
        headers = {"Accept": "text/plain"}
        if self._metrics_token:
            headers["Authorization"] = f"Bearer {self._metrics_token}"
        return self._transport.call("GET", "/metrics", headers=headers).text

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _job_body(model: str, given: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {"kind": "inference", "model": model, "input": encode_input(given)}
    body.update({key: value for key, value in options.items() if value is not None})
    return body


def _item_body(model: str, item: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        raise BadArgument(
            'an item of submit_many is what submit() would be given, as in {"image": path}, not'
            f" a {type(item).__name__}"
        )
    unknown = sorted(str(key) for key in (*item, *options) if key not in (*FORMS, *OPTIONS))
    if unknown:
        allowed = ", ".join((*FORMS, *OPTIONS))
        raise BadArgument(f"unknown {', '.join(unknown)}; there are {allowed}")
    own = {key: value for key, value in item.items() if key in OPTIONS}
    return _job_body(model, item, {**options, **own})


def _once(key: str | None) -> dict[str, str]:
    """Every submit has an idempotency key, so that repeating it after a broken answer is safe."""
    return {"Idempotency-Key": key or str(uuid.uuid4())}
