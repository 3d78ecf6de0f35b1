"""Many jobs submitted together, and their answers in submission order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import httpx

from producers.client.errors import ForebayError
from producers.client.jobs import POLL_S, PROGRESS_POLL_S, seconds, wait_until
from producers.client.transport import Transport


@dataclass(frozen=True, slots=True)
class Member:
    """A job of a group, as the submit named it."""

    id: str
    custom_id: str | None = None


@dataclass(frozen=True, slots=True)
class GroupResult:
    """One job's end: its result, or its error."""

    id: str
    custom_id: str | None
    state: str
    result: Any
    error: Mapping[str, Any] | None


class Group:
    """A group and its counts as last seen."""

    def __init__(
        self, transport: Transport, document: Mapping[str, Any], members: Sequence[Member] = ()
    ) -> None:
        self._transport = transport
        self.document: Mapping[str, Any] = document
        self.members = tuple(members)  # known to the one who submitted, in that order

    def __repr__(self) -> str:
        return f"Group({self.id!r}, {dict(self.counts)!r})"

    @property
    def id(self) -> str:
        """The group's id."""
        return str(self.document["id"])

    @property
    def total(self) -> int:
        """How many jobs it has."""
        return int(self.document.get("total", len(self.members)))

    @property
    def counts(self) -> Mapping[str, int]:
        """Jobs by state, as last seen."""
        return dict(self.document.get("counts") or {})

    @property
    def done(self) -> bool:
        """Whether every job has reached a state that never changes."""
        return bool(self.document.get("done", False))

    @property
    def finished(self) -> int:
        """How many jobs are done."""
        live = self.counts.get("queued", 0) + self.counts.get("running", 0)
        return sum(self.counts.values()) - live

    def refresh(self, wait_s: float = 0.0) -> Self:
        """Look again; with ``wait_s`` the service answers as soon as all jobs are done."""
        params = {"wait": seconds(wait_s)} if wait_s > 0 else None
        self.document = self._transport.json(
            "GET", f"/v1/groups/{self.id}", params=params, extra_s=wait_s
        )
        return self

    def wait(
        self,
        timeout_s: float | None = None,
        progress: Callable[[Group], object] | None = None,
    ) -> Self:
        """Wait until every job is done; ``progress`` is called about once a second."""

        def look(wait_s: float) -> bool:
            self.refresh(wait_s)
            if progress is not None:
                progress(self)
            return self.done

        poll_s = POLL_S if progress is None else PROGRESS_POLL_S
        wait_until(look, timeout_s, done=self.done, what=f"group {self.id}", poll_s=poll_s)
        return self

    def results(self) -> Iterator[GroupResult]:
        """Every job's end, in submission order, streamed."""
        path = f"/v1/groups/{self.id}/results"
        response = self._transport.call("GET", path, stream=True)
        try:
            for line in response.iter_lines():
                if line:
                    yield _result(line)
        except httpx.TransportError as error:
            raise self._transport.unreachable(error) from error
        finally:
            response.close()

    def cancel(self) -> Self:
        """Cancel what has not started and ask for the rest to be cancelled."""
        path = f"/v1/groups/{self.id}/cancel"
        self.document = self._transport.json("POST", path, repeatable=True)
        return self


def _result(line: str) -> GroupResult:
    try:
        row = json.loads(line)
        return GroupResult(
            id=row["id"],
            custom_id=row.get("custom_id"),
            state=row["state"],
            result=row.get("result"),
            error=row.get("error"),
        )
    except (ValueError, KeyError, TypeError) as error:
        message = f"a line of the results cannot be read: {line[:120]!r}"
        raise ForebayError(message, code="bad_line") from error
