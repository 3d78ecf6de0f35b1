"""Packs: rows that are there before their object is, and outlive it.

Both ends of the life are compare-and-swaps on the state, so a commit that makes a pack live and a
collector that dooms it can never both win.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Row

from storage.database.statements import Statement
from storage.database.store import Store
from storage.records.ids import FIRST_ID, is_id, uuid7
from storage.records.packs import (
    STALE_AFTER_MS,
    NewPack,
    Pack,
    PackKind,
    PackState,
    PackSummary,
)

_COLUMNS = "id, tenant, kind, object_key, state, entries, size_bytes, created_at"

OPEN = Statement(
    "A pack about to be written.",
    """
    INSERT INTO packs (id, tenant, kind, object_key, state, entries, size_bytes, created_at)
    VALUES (:id, :tenant, :kind, :key, 'writing', 0, 0, :now)
    """,
)

PUBLISH_MANY = Statement(
    "Packs that were put go live, if they are still being written.",
    f"""
    WITH said AS (SELECT * FROM {{rows}} AS r)
    UPDATE packs SET state = 'live', entries = said.entries, size_bytes = said.size_bytes
    FROM said
    WHERE packs.id = said.id AND packs.id {{among_ids}} AND packs.state || '' = 'writing'
        AND packs.created_at > :now - {STALE_AFTER_MS}
    """,
    {"id": "uuid", "entries": "integer", "size_bytes": "bigint"},
)

GET = Statement("One pack.", f"SELECT {_COLUMNS} FROM packs WHERE id = :id")

DOOM_STALE = Statement(
    "Packs whose writer died before it could commit.",
    """
    UPDATE packs SET state = 'doomed' WHERE id IN (
        SELECT j.id FROM packs AS j WHERE j.state = 'writing' AND j.created_at <= :before
        ORDER BY j.created_at LIMIT :limit {lock_free}
    )
    RETURNING id, tenant, kind, object_key, state, entries, size_bytes, created_at
    """,
)

OLD = Statement(
    "Packs by age.",
    """
    SELECT p.id, p.kind, p.state, p.created_at FROM packs AS p
    WHERE p.id > :after AND p.id < :horizon ORDER BY p.id LIMIT :limit
    """,
)

CONDEMN = Statement(
    "Live packs that nobody is about to point to.",
    "SELECT j.id FROM packs AS j WHERE j.id {among_ids} ORDER BY j.id {lock_free}",
)

DOOM_UNUSED = Statement(
    "Those of them that nothing points to. By itself: what somebody who held one of them wrote is"
    " seen by a statement that begins after the hold.",
    """
    UPDATE packs SET state = 'doomed'
    WHERE id {among_ids} AND state || '' = 'live' AND (CASE kind
        WHEN 'result' THEN (SELECT r.job_id FROM training_runs AS r
            WHERE r.checkpoint_pack_id = packs.id LIMIT 1)
        ELSE (SELECT p.job_id FROM payloads AS p WHERE p.pack_id = packs.id LIMIT 1) END) IS NULL
    """,
)

DOOM = Statement(
    "Live packs that the caller knows to be needed no more.",
    "UPDATE packs SET state = 'doomed' WHERE id {among_ids} AND state || '' = 'live'",
)

HOLD_LIVE = Statement(
    "Live packs, which nobody dooms until this transaction ends.",
    "SELECT j.id FROM packs AS j WHERE j.id {among_ids} AND j.state || '' = 'live' {share}",
)

DOOMED = Statement(
    "Packs whose object may be deleted.",
    f"SELECT {_COLUMNS} FROM packs WHERE state = 'doomed' ORDER BY id LIMIT :limit",
)

FORGET = Statement(
    "Packs whose object is gone.",
    "DELETE FROM packs WHERE id {among_ids} AND state = 'doomed'",
)


class Packs(Store):
    """The packs' life."""

    def open(self, pack: NewPack) -> None:
        """Write the row; only then may the object be put."""
        self._work.count(
            OPEN,
            id=pack.id,
            tenant=pack.tenant,
            kind=pack.kind.value,
            key=pack.key,
        )

    def publish(self, summary: PackSummary) -> bool:
        """Let a pack go live; ``False`` when a collector took it, and nothing may point to it."""
        work = self._work
        rows = work.table(summary_rows([summary]))
        return work.count(PUBLISH_MANY, ids=work.ids([summary.id]), rows=rows) == 1

    def get(self, pack_id: str) -> Pack | None:
        """The pack's row."""
        if not is_id(pack_id):
            return None
        row = self._work.row(GET, id=pack_id)
        return None if row is None else _pack_of(row)

    def doom_stale(self, older_than_ms: int, limit: int = 1000) -> list[Pack]:
        """Doom packs that have been ``writing`` for so long that their writer must be dead."""
        before = self._work.now() - older_than_ms
        return [_pack_of(row) for row in self._work.change(DOOM_STALE, before=before, limit=limit)]

    def doom_unused(self, kept_ms: int, *, after: str | None, limit: int) -> tuple[int, str | None]:
        """Look at up to ``limit`` packs after ``after`` that are older than ``kept_ms``: how many
        live ones were doomed because nothing needs them, and the last one looked at, ``None`` at
        the end of the list.

        No job points to the inputs, or every job with a result in it ended that long ago. A
        training's checkpoint stays as long as its run, which may be paused for longer.
        """
        work = self._work
        before = work.now() - kept_ms
        found = work.rows(
            OLD, after=after or FIRST_ID, horizon=uuid7(max(0, before + 1), 0), limit=limit
        )
        last = found[-1].id if len(found) == limit else None
        # Ids are their writers' clocks; what counts is the database's.
        past = [
            row.id
            for row in found
            if row.state == PackState.LIVE
            and row.created_at <= before - (STALE_AFTER_MS if row.kind == PackKind.RESULT else 0)
        ]
        if not past:
            return 0, last
        held = [row.id for row in work.change(CONDEMN, ids=work.ids(past))]
        return work.count(DOOM_UNUSED, ids=work.ids(held)), last

    def doom(self, ids: Iterable[str]) -> int:
        """Doom live packs that nothing points to any more once this transaction commits; how many
        there were."""
        return self._work.count(DOOM, ids=self._work.ids(ids))

    def hold(self, ids: Iterable[str]) -> set[str]:
        """Those of the packs that are live, and stay so until this transaction ends."""
        return {row.id for row in self._work.change(HOLD_LIVE, ids=self._work.ids(ids))}

    def doomed(self, limit: int = 1000) -> list[Pack]:
        """Packs whose object may be deleted now."""
        return [_pack_of(row) for row in self._work.rows(DOOMED, limit=limit)]

    def forget(self, ids: Sequence[str]) -> int:
        """Delete the rows of doomed packs whose objects are gone."""
        return self._work.count(FORGET, ids=self._work.ids(ids))


def summary_rows(summaries: Sequence[PackSummary]) -> list[dict[str, object]]:
    """The parameter of ``PUBLISH_MANY``, in id order."""
    return [
        {"id": one.id, "entries": one.entries, "size_bytes": one.size_bytes}
        for one in sorted(summaries, key=lambda one: one.id)
    ]


def _pack_of(row: Row[Any]) -> Pack:
    return Pack(
        row.id,
        row.tenant,
        PackKind(row.kind),
        row.object_key,
        PackState(row.state),
        row.entries,
        row.size_bytes,
        row.created_at,
    )
