"""Trials: a candidate beside the version that an alias stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from producers.client.errors import BadArgument
from producers.client.jobs import wait_until
from producers.client.transport import Transport

_LOOKS_S = 5.0


@dataclass(slots=True)
class Trial:
    """A canary or a shadow; ``document`` is what was last seen of it."""

    document: Mapping[str, Any]
    _transport: Transport

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.document["id"])

    @property
    def state(self) -> str:
        """running, promoted, returned or stopped, as last seen."""
        return str(self.document["state"])

    @property
    def reason(self) -> str | None:
        """Why it ended."""
        reason = self.document["reason"]
        return None if reason is None else str(reason)

    @property
    def _path(self) -> str:
        name, alias = self.document["name"], self.document["alias"]
        return f"/v1/models/{name}/aliases/{alias}/trials/{self.id}"

    def refresh(self) -> Self:
        """Look again."""
        self.document = self._transport.json("GET", self._path)
        return self

    def wait(self, timeout_s: float | None = None) -> Self:
        """Wait until it has ended: returned by a limit, promoted, or stopped by somebody."""
        wait_until(
            lambda _: self.refresh().state != "running",
            timeout_s,
            done=self.state != "running",
            what=f"the trial of {self.document['name']}:{self.document['candidate']}",
            poll_s=_LOOKS_S,
        )
        return self

    def stop(self) -> Self:
        """End it; what is queued for the candidate goes to the version of the alias."""
        self.document = self._transport.json("POST", f"{self._path}/stop", repeatable=True)
        return self


def start(
    transport: Transport,
    kind: str,
    ref: str,
    alias: str,
    share: float,
    limits: Mapping[str, float | None] | None,
) -> Trial:
    """A trial of ``name:version`` beside ``name@alias``."""
    name, version = version_of(ref)
    body: dict[str, Any] = {"version": version, "kind": kind, "share": share}
    if limits is not None:
        body["limits"] = dict(limits)
    path = f"/v1/models/{name}/aliases/{alias}/trials"
    return Trial(transport.json("POST", path, body=body), transport)


def trials_of(transport: Transport, name: str, alias: str) -> list[Trial]:
    """The trials of an alias, the newest first."""
    told = transport.json("GET", f"/v1/models/{name}/aliases/{alias}/trials")
    return [Trial(one, transport) for one in told["data"]]


def version_of(ref: str) -> tuple[str, int]:
    """Of ``name:version``; ``BadArgument`` for anything else."""
    name, _, number = ref.partition(":")
    if not name or not (number.isascii() and number.isdecimal()):
        raise BadArgument(f"{ref!r} is no version: write name:number, as in digits:4")
    return name, int(number)
