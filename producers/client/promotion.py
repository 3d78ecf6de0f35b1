"""Aliases that move: when a gate holds, back again, and what is queued along with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from producers.client.paging import pages
from producers.client.transport import Transport
from producers.client.trials import version_of

REQUEUE_TIMEOUT_S = 600.0  # a backlog may be deep


class Promotions:
    """What ``Forebay().models`` does with aliases."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def promote(
        self,
        ref: str,
        alias: str,
        *,
        gate: str | None = None,
        expected: int | None = None,
        note: str | None = None,
        requeue: bool = False,
        allow_other_signature: bool = False,
        dry_run: bool = False,
    ) -> Mapping[str, Any]:
        """Point ``alias`` at the version ``ref`` (``digits:4``), if ``gate`` holds.

        A gate compares metrics of evaluations: ``accuracy >= 0.97 and recall >= @prod.recall -
        0.005``. ``GateFailed`` has each comparison; ``Conflict`` with code ``alias_moved`` says
        that the alias moved meanwhile, or does not stand for ``expected``. Either way nothing was
        changed.

        ``requeue`` takes along what is queued for the version that the alias leaves.
        ``dry_run`` only decides: ``holds`` in the answer says how. The answer: name, alias,
        version, holds, comparisons, measured, move, requeued.
        """
        name, version = version_of(ref)
        body: dict[str, Any] = {"version": version, "if": gate, "expected": expected, "note": note}
        flags = {
            "requeue": requeue,
            "allow_other_signature": allow_other_signature,
            "dry_run": dry_run,
        }
        # Not repeated after a connection that broke: where the alias stands by then, a gate that
        # compares with it decides something else.
        return self._moved(name, alias, "promote", body, flags, repeatable=dry_run)

    def rollback(
        self,
        name: str,
        alias: str,
        *,
        expected: int | None = None,
        note: str | None = None,
        requeue: bool = False,
    ) -> Mapping[str, Any]:
        """Take the last move of ``name@alias`` back; once more, and the one before it is.

        ``requeue`` takes along what is queued for the version that it leaves. ``Conflict`` with
        code ``nothing_to_roll_back`` when no move is left. The answer is that of ``promote``.
        """
        body: dict[str, Any] = {"expected": expected, "note": note}
        return self._moved(name, alias, "rollback", body, {"requeue": requeue}, repeatable=False)

    def history(
        self, name: str, alias: str, *, limit: int | None = None
    ) -> Iterator[Mapping[str, Any]]:
        """The moves of ``name@alias``, the last first: generation, from_version, version, why, if,
        seen, note, moved_by, moved_at."""
        yield from pages(
            self._transport, f"/v1/models/{name}/aliases/{alias}/history", {}, limit=limit
        )

    def requeue(self, name: str, old: int, new: int) -> int:
        """The inference jobs that are queued for version ``old`` are answered by ``new``, which
        takes and gives the same, and record it; how many there were. What runs stays as it is. May
        be repeated."""
        answer = self._transport.json(
            "POST",
            f"/v1/models/{name}/requeue",
            body={"from": old, "to": new},
            repeatable=True,
            extra_s=REQUEUE_TIMEOUT_S,
        )
        return int(answer["requeued"])

    def _moved(
        self,
        name: str,
        alias: str,
        what: str,
        body: Mapping[str, Any],
        flags: Mapping[str, bool],
        *,
        repeatable: bool,
    ) -> Mapping[str, Any]:
        sent = {key: value for key, value in body.items() if value is not None}
        sent |= {key: True for key, wanted in flags.items() if wanted}
        document: Mapping[str, Any] = self._transport.json(
            "POST",
            f"/v1/models/{name}/aliases/{alias}/{what}",
            body=sent,
            repeatable=repeatable,
            extra_s=REQUEUE_TIMEOUT_S if flags["requeue"] else 0.0,
        )
        return document
