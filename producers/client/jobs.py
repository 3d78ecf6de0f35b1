"""One job as its caller holds it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Self

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
QUICK_S = 0.1  # an unfinished long-poll that took less than this did not wait
TERMINAL = frozenset({"succeeded", "failed", "cancelled", "expired"})


class Job:
    """A job and what was last seen of it. ``wait``, ``refresh`` and ``cancel`` look anew."""

    def __init__(self, transport: Transport, document: Mapping[str, Any]) -> None:
        self._transport = transport
        self.document: Mapping[str, Any] = document
        self._result: Any = None
        self._has_result = False

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

    def wait(self, timeout_s: float | None = None) -> Self:
        """Wait until the job is done. Does not raise when it failed: ``result`` does.

        Raises ``WaitTimeout`` when ``timeout_s`` is over first.
        """
        wait_until(
            lambda wait_s: self.refresh(wait_s).done,
            timeout_s,
            done=self.done,
            what=f"job {self.id}",
        )
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

    def retry(self) -> Job:
        """A new job with the same input, whose ``retry_of`` names this one."""
        return Job(self._transport, self._transport.json("POST", f"/v1/jobs/{self.id}/retry"))


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
