"""One job as its caller holds it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Self

from producers.client import bulk, training
from producers.client.bulk import Part
from producers.client.errors import (
    Conflict,
    JobCancelled,
    JobExpired,
    JobFailed,
    NotReady,
    WaitTimeout,
)
from producers.client.transport import Transport, parse

POLL_S = 30.0  # one long-poll; the service allows 60
PROGRESS_POLL_S = 1.0  # how often ``on_progress`` is told
QUICK_S = 0.1  # an unfinished long-poll that took less than this did not wait
TERMINAL = frozenset({"succeeded", "failed", "cancelled", "expired"})


class Job:
    """A job and what was last seen of it. ``wait``, ``refresh`` and ``cancel`` look anew."""

    def __init__(self, transport: Transport, document: Mapping[str, Any]) -> None:
        self._transport = transport
        self.document: Mapping[str, Any] = document
        self._result: Any = None
        self._has_result = False
        self._folder: Path | None = None
        self._overwrite = False

    def __repr__(self) -> str:
        return f"Job({self.id!r}, {self.model!r}, {self.state!r})"

    @property
    def id(self) -> str:
        """The job's id."""
        return str(self.document["id"])

    @property
    def state(self) -> str:
        """queued, running, succeeded, failed, cancelled or expired, as last seen."""
        return str(self.document["state"])

    @property
    def model(self) -> str:
        """The model and the version it was pinned to, as in ``digits:7``."""
        return str(self.document.get("model", ""))

    @property
    def done(self) -> bool:
        """Whether it has reached a state that never changes."""
        return self.state in TERMINAL

    @property
    def error(self) -> Mapping[str, Any] | None:
        """``{code, message, attempt}`` of a failed job."""
        error = self.document.get("error")
        return error if isinstance(error, Mapping) else None

    @property
    def progress(self) -> Mapping[str, Any]:
        """How far it is, as last seen: of a bulk job ``state``, ``rows_done``, ``rows_failed``,
        ``rows_total``, ``share``, ``rows_per_s``, ``estimated_end_at`` and more."""
        return dict(self.document.get("progress") or {})

    @property
    def training(self) -> Mapping[str, Any]:
        """How far a training is, as last seen: ``state``, ``epoch`` of ``epochs``, ``step`` of
        ``steps``, ``share``, ``latest`` (loss and metrics), ``rows_per_s``, ``checkpoint``. Empty
        for other jobs, and for those of a list before ``refresh``."""
        return dict(self.document.get("training") or {})

    @property
    def metadata(self) -> Mapping[str, str]:
        """What was given at submit."""
        return dict(self.document.get("metadata") or {})

    def refresh(self, wait_s: float = 0.0) -> Self:
        """Look again; with ``wait_s`` the service answers as soon as the job is done."""
        params = {"wait": seconds(wait_s)} if wait_s > 0 else None
        self.document = self._transport.json(
            "GET", f"/v1/jobs/{self.id}", params=params, extra_s=wait_s
        )
        return self

    def wait(
        self,
        timeout_s: float | None = None,
        on_progress: Callable[[Job], object] | None = None,
    ) -> Self:
        """Wait until the job is done. Does not raise when it failed: ``result`` does.

        ``on_progress`` is called about once a second. A bulk job that was given a folder of this
        machine as output is downloaded into it when it succeeded. Raises ``WaitTimeout`` when
        ``timeout_s`` is over first.
        """

        def look(wait_s: float) -> bool:
            self.refresh(wait_s)
            if on_progress is not None:
                on_progress(self)
            return self.done

        poll_s = POLL_S if on_progress is None else PROGRESS_POLL_S
        wait_until(look, timeout_s, done=self.done, what=f"job {self.id}", poll_s=poll_s)
        if self._folder is not None and self.state == "succeeded":
            self.download(self._folder, overwrite=self._overwrite)
            self._folder = None
        return self

    @property
    def result(self) -> Any:
        """The answer. Raises ``NotReady`` before there is one, ``JobEnded`` if there is none."""
        if not self._has_result:
            try:
                self._result = self._fetch()
            except Conflict as error:
                if not isinstance(error, NotReady) and not self.done:
                    self.refresh()
                self._raise_if_ended()
                raise
            self._has_result = True
        return self._result

    def _fetch(self) -> Any:
        self._raise_if_ended()
        return parse(self._transport.call("GET", f"/v1/jobs/{self.id}/result"))

    def _raise_if_ended(self) -> None:
        if self.state == "failed":
            error = self.error or {}
            code, message = str(error.get("code", "job_failed")), error.get("message", "it failed")
            raise JobFailed(f"job {self.id} failed: {message}", code=code, job=self)
        if self.state == "cancelled":
            raise JobCancelled(f"job {self.id} was cancelled", code="cancelled", job=self)
        if self.state == "expired":
            message = f"job {self.id} expired before a worker could take it"
            raise JobExpired(message, code="expired", job=self)

    def cancel(self) -> Self:
        """Ask for it to be cancelled. A running job may still finish first."""
        self.document = self._transport.json("POST", f"/v1/jobs/{self.id}/cancel", repeatable=True)
        return self

    def retry(
        self,
        *,
        failed_rows: bool = False,
        output: str | None = None,
        output_format: str | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """A new job with the same input, whose ``retry_of`` names this one.

        A bulk job goes on from what it committed, a training begins anew. With ``failed_rows`` only
        the rows that failed are scored again, into ``output`` or else a place beside the first
        one's.
        """
        body: dict[str, Any] = {}
        if failed_rows:
            body["failed_rows"] = True
        if told := bulk.output_body(uri=output, format=output_format):
            body["output"] = told
        document = self._transport.json(
            "POST",
            f"/v1/jobs/{self.id}/retry",
            body=body or None,
            headers={"Idempotency-Key": idempotency_key} if idempotency_key else None,
            repeatable=idempotency_key is not None,
        )
        return type(self)(self._transport, document)

    def pause(self) -> Self:
        """Hold a bulk job (what is scored of it is committed) or a training (it makes a
        checkpoint) until ``resume``."""
        self.document = self._transport.json("POST", f"/v1/jobs/{self.id}/pause", repeatable=True)
        return self

    def resume(self) -> Self:
        """Let a paused bulk job or training go on."""
        self.document = self._transport.json("POST", f"/v1/jobs/{self.id}/resume", repeatable=True)
        return self

    def curves(self, after_step: int = 0) -> Mapping[str, Any]:
        """What a training has measured: ``steps`` (lists by name: ``step``, ``loss``, metrics) and
        ``epochs`` (one mapping each, with ``val_loss`` and so on), also while it runs."""
        return training.curves_of(self._transport, self.id, after_step)

    def curves_png(
        self, to: str | PathLike[str] | None = None, *, width: int = 960, height: int = 540
    ) -> bytes:
        """A training's curves as a picture; with ``to`` it is written there as well."""
        drawn = training.curves_png(self._transport, self.id, width, height)
        if to is not None:
            Path(to).write_bytes(drawn)
        return drawn

    def log(self, after: int = 0) -> Iterator[Mapping[str, Any]]:
        """A training's log so far: lines of ``number``, ``at`` and ``text``."""
        return training.log_of(self._transport, self.id, after)

    def manifest(self) -> Mapping[str, Any]:
        """What a bulk job wrote: parts, digests, timings. ``complete`` is false until it ended."""
        document: Mapping[str, Any] = self._transport.json("GET", f"/v1/jobs/{self.id}/manifest")
        return document

    def parts(self) -> list[Part]:
        """The parts that a bulk job has committed so far, in the order of its input."""
        return bulk.parts_of(self._transport, self.id)

    def errors(self) -> Iterator[Mapping[str, Any]]:
        """The rows of a bulk job that failed so far: ``row_id``, ``code`` and ``message``."""
        return bulk.errors_of(self._transport, self.id)

    def download(self, folder: str | PathLike[str], *, overwrite: bool = False) -> list[Path]:
        """Write a bulk job's parts, its errors and its manifest into ``folder``; their paths.

        Each file appears whole, compared with its digest. Refuses to replace a file unless asked.
        While the job runs it is what there is so far.
        """
        return bulk.download(self._transport, self.id, folder, overwrite=overwrite)

    def will_download(self, folder: Path, *, overwrite: bool) -> Self:
        """Have ``wait`` download the output of a bulk job."""
        self._folder, self._overwrite = folder, overwrite
        return self


def wait_until(
    look: Callable[[float], bool],
    timeout_s: float | None,
    *,
    done: bool,
    what: str,
    poll_s: float = POLL_S,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Long-poll by ``look(wait_s)`` until it says done; ``WaitTimeout`` after ``timeout_s``.

    A service that answers at once although nothing is done (it may be shutting down) is not
    asked again in a tight loop.
    """
    deadline = None if timeout_s is None else monotonic() + timeout_s
    while not done:
        left_s = poll_s if deadline is None else deadline - monotonic()
        if left_s <= 0:
            raise WaitTimeout(
                f"{what} is not done after {timeout_s:g} s; it goes on, wait again when you like"
            )
        began = monotonic()
        done = look(min(poll_s, left_s))
        if not done and monotonic() - began < min(QUICK_S, left_s):
            sleep(QUICK_S)


def seconds(wait_s: float) -> str:
    return f"{wait_s:.3f}".rstrip("0").rstrip(".")
