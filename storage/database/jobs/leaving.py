"""How a job leaves the state it is in: held, decided about, and written, in that order.

A verb that ends jobs or sends them back first takes hold of their live rows (``HELD``: nobody
else changes them until this transaction is over), then decides what becomes of each (a pure
function of the row), then writes: ``END`` moves a row from ``live`` to ``ends``, ``REQUEUE`` puts
it back into the backlog. Rows are held by id, in id order, everywhere.

What was asked to stop is cancelled when it leaves ``running``, whatever else was to become of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeAlias

from storage.database.jobs.of_runs import may_rest_until, paused_at
from storage.database.news import TELL, payloads_of
from storage.database.packs import PUBLISH_MANY, summary_rows
from storage.database.statements import POSTGRESQL, SQLITE, Statement, array_parameter
from storage.database.store import Store
from storage.database.texts import storable
from storage.database.webhooks.events import TELL_OF, TELL_TO, type_of, wanted
from storage.records.errors import Conflict
from storage.records.jobs import NEVER, JobError, JobState, Millis, PackSlice
from storage.records.packs import STALE_AFTER_MS, PackSummary

HELD = """
    j.id, j.state, j.session_id, j.epoch, j.attempts, j.max_attempts, j.losses,
    j.cancel_requested_at
"""

HOLD = Statement(
    "Live jobs, held until this transaction ends.",
    f"SELECT {HELD} FROM live AS j WHERE j.id {{among_ids}} ORDER BY j.id {{lock}}",
)

_ENDED = """
    INSERT INTO ends (id, tenant, group_id, state, seq, epoch, attempts, losses, session_id,
        published_at, started_at, cancel_requested_at, finished_at,
        error_code, error_message, error_attempt,
        result_pack_id, result_offset_bytes, result_length_bytes, result_digest, arm_id, shadow_of)
    SELECT h.id, h.tenant, h.group_id, h.next, h.seq + 1, h.epoch,
        h.attempts + h.spends, h.losses + h.loses, h.session_id, h.published_at, h.started_at,
        CASE h.next WHEN 'cancelled' THEN COALESCE(h.cancel_requested_at, CAST(:now AS bigint))
            ELSE h.cancel_requested_at END,
        :now,
        CASE h.next WHEN 'failed' THEN h.error_code END,
        CASE h.next WHEN 'failed' THEN h.error_message END,
        CASE h.next WHEN 'failed' THEN h.attempts + h.spends END,
        CASE h.next WHEN 'succeeded' THEN h.pack_id END,
        CASE h.next WHEN 'succeeded' THEN h.offset_bytes END,
        CASE h.next WHEN 'succeeded' THEN h.length_bytes END,
        CASE h.next WHEN 'succeeded' THEN h.digest END,
        h.arm_id, h.shadow_of
    FROM {held} AS h
    WHERE true
    RETURNING id, state, tenant, group_id, seq
"""

# The live row with what was said of it. With an epoch only if the session still runs it.
_HELD = """
    SELECT l.id, l.tenant, l.group_id, l.seq, l.epoch, l.attempts, l.losses, l.session_id,
        l.published_at, l.started_at, l.cancel_requested_at, l.webhook_id, l.priority,
        l.arm_id, l.shadow_of, said.spends, said.loses,
        CASE WHEN l.cancel_requested_at IS NULL THEN said.state ELSE 'cancelled' END AS next,
        said.error_code, said.error_message,
        said.pack_id, said.offset_bytes, said.length_bytes, said.digest
    FROM {found}
"""
_STILL_RUNS = """
    (said.epoch IS NULL
        OR l.state || '' = 'running' AND l.session_id = :session AND l.epoch = said.epoch)
"""
_SAID = {
    "id": "uuid",
    "state": "text",
    "epoch": "integer",
    "spends": "integer",
    "loses": "integer",
    "error_code": "text",
    "error_message": "text",
    "pack_id": "uuid",
    "offset_bytes": "bigint",
    "length_bytes": "bigint",
    "digest": "text",
}

END = Statement(
    "Jobs that end leave the live rows; the packs they need go live; listeners are told"
    " (PostgreSQL: all of it in one statement).",
    "WITH said AS MATERIALIZED (SELECT * FROM {rows} AS r), held AS MATERIALIZED ("
    + _HELD.format(
        found=f"""said CROSS JOIN LATERAL (
            SELECT * FROM live AS l WHERE l.id = said.id AND {_STILL_RUNS}
            OFFSET 0 FOR UPDATE
        ) AS l"""
    )
    + "), gone AS (DELETE FROM live WHERE id = ANY (ARRAY(SELECT held.id FROM held))), ended AS ("
    + _ENDED.format(held="held")
    + f"""), published AS (
        UPDATE packs SET state = 'live', entries = p.entries, size_bytes = p.size_bytes
        FROM unnest(CAST(:pack_ids AS uuid[]), CAST(:pack_entries AS integer[]),
            CAST(:pack_sizes AS bigint[])) AS p(id, entries, size_bytes)
        WHERE packs.id = p.id AND packs.state || '' = 'writing'
            AND packs.created_at > :now - {STALE_AFTER_MS} AND packs.id = ANY (
            ARRAY(SELECT DISTINCT held.pack_id FROM held WHERE held.next = 'succeeded'))
        RETURNING packs.id
    ), over AS (
        SELECT ended.id, ended.tenant, ended.group_id, ended.seq,
            {type_of("ended", "held", "ended.state", "held.error_code")} AS type, held.webhook_id
        FROM ended JOIN held ON held.id = ended.id
        WHERE held.shadow_of IS NULL
    ), wanted AS MATERIALIZED ({wanted("over", POSTGRESQL)}
    ), told_of AS ({TELL_OF.format(wanted="wanted")}
    ), told_to AS ({TELL_TO.format(wanted="wanted")}
    )
    SELECT ended.id, ended.state, ({TELL}) AS told FROM ended
    UNION ALL SELECT published.id, NULL, NULL FROM published
    """,
    _SAID,
    only="postgresql",
)

END_HERE = Statement(
    "The same for SQLite, whose statements change one table each.",
    _ENDED.format(
        held="("
        + _HELD.format(found=f"{{rows}} AS said JOIN live AS l ON l.id = said.id AND {_STILL_RUNS}")
        + ")"
    ),
    _SAID,
    only="sqlite",
)

_OVER_HERE = f"""(
    SELECT n.id, n.tenant, n.group_id, n.seq,
        {type_of("n", "l", "n.state", "n.error_code")} AS type, l.webhook_id
    FROM ends AS n JOIN live AS l ON l.id = n.id
    WHERE n.id {{among_ids}} AND l.shadow_of IS NULL
)"""

EVENTS_HERE = Statement(
    "What ended is told.",
    TELL_OF.format(wanted="(" + wanted(_OVER_HERE, SQLITE) + ")") + " RETURNING id",
    only="sqlite",
)

DELIVERIES_HERE = Statement(
    "And to whom.",
    TELL_TO.format(wanted="(" + wanted(_OVER_HERE, SQLITE) + ")"),
    only="sqlite",
)

END_THERE = Statement(
    "And what ended is no longer live.",
    "DELETE FROM live WHERE id {among_ids}",
    only="sqlite",
)

REQUEUE = Statement(
    "Held jobs go back to the backlog. One that is paused waits there to be told to go on.",
    f"""
    UPDATE live SET
        state = 'queued', seq = live.seq + 1,
        attempts = live.attempts + r.spends, losses = live.losses + r.loses,
        suspicions = live.suspicions + r.suspects,
        not_before = CASE WHEN {paused_at("live.id")} IS NULL
            THEN :now + r.in_ms ELSE {NEVER} END,
        expires_at = {may_rest_until("live")},
        session_id = NULL, started_at = NULL, run_deadline_at = NULL, published_at = NULL
    FROM {{rows}} AS r
    WHERE live.id = r.id AND live.id {{among_ids}}
    """,
    {
        "id": "uuid",
        "spends": "integer",
        "loses": "integer",
        "suspects": "integer",
        "in_ms": "bigint",
    },
)

ASK = Statement(
    "Running jobs are asked to stop.",
    "UPDATE live SET cancel_requested_at = :now, seq = seq + 1 WHERE id {among_ids}",
)


@dataclass(frozen=True, slots=True)
class Held:
    """A live row in this transaction's hands: the columns ``HELD``."""

    id: str
    state: JobState
    session_id: str | None
    epoch: int
    attempts: int
    max_attempts: int
    losses: int
    cancel_requested_at: Millis | None

    @property
    def asked(self) -> bool:
        """Whether somebody wants it stopped."""
        return self.cancel_requested_at is not None


@dataclass(frozen=True, slots=True)
class Ending:
    """A job becomes terminal."""

    id: str
    state: JobState
    spends: int = 0  # attempts
    loses: int = 0  # sessions
    error: JobError | None = None
    result: PackSlice | None = None


@dataclass(frozen=True, slots=True)
class Requeueing:
    """A job goes back to the backlog."""

    id: str
    spends: int = 0
    loses: int = 0
    suspects: int = 0
    in_ms: int = 0


Leave: TypeAlias = Ending | Requeueing
EndingRow: TypeAlias = dict[str, Any]
_BY_ID = itemgetter("id")


def after_a_run(held: Held, *, spends: int = 0, loses: int = 0, failed: JobError | None) -> Leave:
    """What becomes of a job whose run came to nothing: once more, unless that was the last time."""
    if held.asked:
        return Ending(held.id, JobState.CANCELLED, spends, loses)
    if failed is not None:
        return Ending(held.id, JobState.FAILED, spends, loses, failed)
    return Requeueing(held.id, spends, loses)


class Leaving(Store):
    """What every verb that takes a job out of its state shares."""

    def _hold(self, ids: Sequence[str]) -> list[Held]:
        return held_of(self._work.change(HOLD, ids=self._work.ids(ids)))

    def _leave(
        self,
        leaves: Iterable[Leave],
        session_id: str | None = None,
        packs: Sequence[PackSummary] = (),
    ) -> dict[str, JobState]:
        """Write what was decided about held jobs; the state each is in now."""
        decided = list(leaves)
        requeueings = [one for one in decided if isinstance(one, Requeueing)]
        now = self._end(
            [_row(one) for one in decided if isinstance(one, Ending)], session_id, packs
        )
        if requeueings:
            self._requeue(requeueings)
            now |= {leave.id: JobState.QUEUED for leave in requeueings}
        return now

    def _end(
        self,
        endings: list[EndingRow],
        session_id: str | None = None,
        packs: Sequence[PackSummary] = (),
    ) -> dict[str, JobState]:
        """The states that the jobs ended in; of the packs those that they need went live.

        ``Conflict`` with code ``pack_not_writable`` when a collector took one of them.
        """
        if not endings:
            return {}
        work = self._work
        endings.sort(key=_BY_ID)  # held in id order, as everywhere
        rows = work.table(endings)
        if work.dialect == SQLITE:
            ended = work.change(END_HERE, rows=rows, session=session_id)
            ids = work.ids(one[0] for one in ended)
            if work.change(EVENTS_HERE, ids=ids):
                work.count(DELIVERIES_HERE, ids=ids)
            work.count(END_THERE, ids=ids)
            states = {one[0]: _STATES[one[1]] for one in ended}
            needed = _needed(endings, states) & {pack.id for pack in packs}
            rows = work.table(summary_rows([pack for pack in packs if pack.id in needed]))
            live = work.count(PUBLISH_MANY, ids=work.ids(needed), rows=rows) if needed else 0
        else:
            packs = sorted(packs, key=lambda one: one.id)
            found = work.change(
                END,
                rows=rows,
                session=session_id,
                pack_ids=work.ids(one.id for one in packs),
                pack_entries=array_parameter(one.entries for one in packs),
                pack_sizes=array_parameter(one.size_bytes for one in packs),
                told=array_parameter(payloads_of([one["id"] for one in endings])),
            )
            states = {one[0]: _STATES[one[1]] for one in found if one[1] is not None}
            needed = _needed(endings, states) & {pack.id for pack in packs}
            live = len(found) - len(states)
        if live != len(needed):
            raise Conflict("a pack is no longer being written", code="pack_not_writable")
        return states

    def _requeue(self, requeueings: Sequence[Requeueing]) -> None:
        work = self._work
        rows = [
            {
                "id": one.id,
                "spends": one.spends,
                "loses": one.loses,
                "suspects": one.suspects,
                "in_ms": one.in_ms,
            }
            for one in requeueings
        ]
        ids = [one.id for one in requeueings]
        work.count(REQUEUE, rows=work.table(rows), ids=work.ids(ids))
        work.tell(ids)


def _needed(endings: Sequence[EndingRow], states: Mapping[str, JobState]) -> set[str]:
    """The packs that jobs point to which did succeed."""
    return {
        one["pack_id"]
        for one in endings
        if "pack_id" in one and states.get(one["id"]) is JobState.SUCCEEDED
    }


_STATES = {state.value: state for state in JobState}


def held_of(rows: Iterable[Sequence[Any]]) -> list[Held]:
    """Rows selected with ``HELD``."""
    found = []
    for row in rows:
        job_id, state, *rest = row
        found.append(Held(job_id, _STATES[state], *rest))
    return found


def ending_row(
    job_id: str,
    state: JobState,
    spends: int,
    *,
    loses: int = 0,
    epoch: int | None = None,
    error: JobError | None = None,
    result: PackSlice | None = None,
) -> EndingRow:
    """A row of ``END``. With an epoch only if the session that ends it runs it under that one."""
    row: EndingRow = {
        "id": job_id,
        "state": state.value,
        "epoch": epoch,
        "spends": spends,
        "loses": loses,
    }
    if result is not None:
        row["pack_id"] = result.pack_id
        row["offset_bytes"] = result.offset_bytes
        row["length_bytes"] = result.length_bytes
        row["digest"] = result.digest
    if error is not None:
        row["error_code"] = error.code
        row["error_message"] = storable(error.message)
    return row


def _row(one: Ending) -> EndingRow:
    return ending_row(
        one.id, one.state, one.spends, loses=one.loses, error=one.error, result=one.result
    )
