"""What must hold after every transaction, and at the end of the calm. See ``Invariants``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from storage.objects.packs import read_slice
from storage.records.jobs import MAX_LOSSES, TRANSITIONS, JobState, PackSlice, Verdict
from tests.simulator import questions
from tests.simulator.clients import Said
from tests.simulator.fake_objects import FakeObjects
from tests.simulator.pictures import Camera, Picture

if TYPE_CHECKING:
    from tests.simulator.world import World

Row = Mapping[str, Any]


class Invariants:
    """Compares each transaction's outcome with the one before it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._before = Picture()
        self._packs_ever: set[str] = set()  # object keys that SQL knew of
        self._pointed: dict[str, str] = {}  # pack id → a job that points into it
        self.marks: Counter[str] = Counter()  # how often a job entered the ready window
        self.solo_deaths: Counter[str] = Counter()  # of the device with this job alone on it
        self._timeouts: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()  # attempts that the item itself spent

    # --- after every transaction

    def committed(self, said: Said, camera: Camera, who: str) -> None:
        now = camera()
        before, self._before = self._before, now
        changed = camera.changed(before, now)
        self._fenced(said, before, now)
        if now.packs != before.packs:
            self._packs_ever.update(pack["object_key"] for pack in now.packs.values())
            self._pointed_are_live(now)
        if now.events != before.events:
            for event_id, event in before.events.items():
                self._check(now.events.get(event_id) == event, f"event {event_id} changed")
        if now.groups != before.groups:
            self._groups(before, now)
        for job_id in changed:
            self._check(job_id in now.jobs, f"job {job_id} is gone")
            self._job(job_id, before, now, said, who)

    def _groups(self, before: Picture, now: Picture) -> None:
        for group_id, group in now.groups.items():
            was = before.groups.get(group_id)
            if was is not None and was["completed_at"] is not None:
                self._check(group == was, f"group {group_id} was complete and changed")
            elif group["completed_at"] is not None:
                members = [one for one, job in now.jobs.items() if job["group_id"] == group_id]
                over = sum(one in now.ends for one in members)
                self._check(over == group["total"], f"group {group_id} is not complete: {over}")
                own = group["webhook_id"]
                self._told(group_id, group["tenant"], "group.completed", 1, own, now)

    def _pointed_are_live(self, now: Picture) -> None:
        for pack_id, job_id in self._pointed.items():
            pack = now.packs.get(pack_id)
            self._check(
                pack is not None and pack["state"] == "live",
                f"job {job_id} points into pack {pack_id}, which is {pack and pack['state']}",
            )

    def taken_back(self, now: Picture) -> None:
        """The database lost its last moment: a claim never was."""
        self._before = now

    def _fenced(self, said: Said, before: Picture, now: Picture) -> None:
        """What was settled was that session's, under that epoch."""
        for session_id, outcomes, report in said.commits:
            for outcome in outcomes:
                if outcome.id not in report.settled:
                    continue
                row = before.live.get(outcome.id)
                if row is None or row["state"] != "running":
                    row = None
                if row is None and outcome.verdict is Verdict.RELEASED:
                    continue  # claimed in this very transaction, and given back
                self._check(
                    row is not None
                    and row["session_id"] == session_id
                    and row["epoch"] == outcome.epoch,
                    f"a commit of epoch {outcome.epoch} by {session_id[-6:]} took effect on job"
                    f" {outcome.id}, which was {dict(row) if row else 'not running'}",
                )
                if outcome.verdict is Verdict.RETRY:
                    self._faults[outcome.id] += 1

    def _job(self, job_id: str, before: Picture, now: Picture, said: Said, who: str) -> None:
        live, end = now.live.get(job_id), now.ends.get(job_id)
        was_live, was_end = before.live.get(job_id), before.ends.get(job_id)
        self._check((live is None) != (end is None), f"job {job_id} is in {bool(live)} {bool(end)}")
        if was_end is not None:
            self._check(end == was_end, f"the end of job {job_id} changed: {was_end} → {end}")
            return
        row = live or end
        assert row is not None
        if row is was_live:
            return
        if was_live is None:
            self._new(job_id, row, now.jobs[job_id])
        else:
            self._moved(job_id, was_live, row, said, who)
        if end is not None:
            self._check(job_id not in before.events, f"job {job_id} is told of before its end")
            own = now.jobs[job_id]["webhook_id"]
            self._told(job_id, end["tenant"], f"job.{end['state']}", end["seq"], own, now)
            self._ended(job_id, end, now)

    def _told(
        self, over: str, tenant: str, kind: str, seq: int, own: str | None, now: Picture
    ) -> None:
        """What ended is told once, in the very transaction, to whoever asked for it."""
        wanted = self._world.callers.wanted(tenant, kind, own)
        event = now.events.get(over)
        self._check((event is not None) == bool(wanted), f"{over} {kind}: the event is {event}")
        if event is not None:
            said = (event["tenant"], event["type"], event["seq"])
            self._check(said == (tenant, kind, seq), f"{over} {kind} is told as {dict(event)}")
        to = {endpoint_id for event_id, endpoint_id in now.deliveries if event_id == over}
        self._check(to == wanted, f"{over} {kind} is told to {to}, and {wanted} asked for it")

    def _new(self, job_id: str, row: Row, job: Row) -> None:
        tenant, _ = self._world.callers.asked[job["custom_id"]]
        self._check(row["tenant"] == job["tenant"] == tenant, f"job {job_id} is another tenant's")
        self._check(row["state"] == "queued" and row["seq"] == 1, f"job {job_id} began as {row}")
        if row["published_at"] is not None:
            self.marks[job_id] += 1

    def _moved(self, job_id: str, was: Row, row: Row, said: Said, who: str) -> None:
        steps = row["seq"] - was["seq"]
        state, before = JobState(row["state"]), JobState(was["state"])
        if state is not before or steps:
            self._world.happenings.note(
                self._world.now_ms,
                who,
                f"job {job_id[-6:]} {before} → {state} seq {row['seq']} epoch {row['epoch']}"
                f" attempts {row['attempts']}",
            )
        asked = row["cancel_requested_at"] != was["cancel_requested_at"]
        if steps == 0:
            fine = state is before and row["epoch"] == was["epoch"] and not asked
        elif steps == 1:
            fine = state in TRANSITIONS[before] or (state is before is JobState.RUNNING and asked)
        else:  # claimed and given back at once
            fine = steps == 2 and state is before is JobState.QUEUED
        self._check(fine, f"job {job_id} made {steps} steps from {dict(was)} to {dict(row)}")
        claims = row["epoch"] - was["epoch"]
        self._check(
            claims == (1 if state is JobState.RUNNING is not before or steps == 2 else 0),
            f"the epoch of job {job_id} went from {was['epoch']} to {row['epoch']}",
        )
        self._attempts(job_id, was, row, said)
        marked = row.get("published_at")
        if state is JobState.QUEUED and marked is not None and was["published_at"] is None:
            self.marks[job_id] += 1

    def _attempts(self, job_id: str, was: Row, row: Row, said: Said) -> None:
        spent = row["attempts"] - was["attempts"]
        most = was["max_attempts"]
        self._check(0 <= spent <= 1, f"job {job_id} spent {spent} attempts at once")
        self._check(row["attempts"] <= most, f"job {job_id} spent more than {most} attempts")
        if spent and "time_out" in said.verbs:
            self._timeouts[job_id] += 1
        if row["state"] in ("queued", "running"):
            explained = self.solo_deaths[job_id] + self._timeouts[job_id] + self._faults[job_id]
            self._check(
                row["attempts"] <= explained,
                f"job {job_id} was blamed for {row['attempts']} of {explained} things it did",
            )

    def _ended(self, job_id: str, end: Row, now: Picture) -> None:
        job, pack_id = now.jobs[job_id], end["result_pack_id"]
        self._check((end["state"] == "succeeded") == (pack_id is not None), f"{job_id}: {end}")
        if pack_id is None:
            return
        pack = now.packs.get(pack_id)
        self._check(
            pack is not None and pack["state"] == "live" and pack["tenant"] == job["tenant"],
            f"job {job_id} of {job['tenant']} points into pack {pack}",
        )
        self._pointed[pack_id] = job_id
        self._answer(job_id, end, job, pack)

    def _answer(self, job_id: str, end: Row, job: Row, pack: Any) -> None:
        """What a caller would read is there, and is the answer to its question."""
        _, number = self._world.callers.asked[job["custom_id"]]
        where = PackSlice(
            end["result_pack_id"],
            end["result_offset_bytes"],
            end["result_length_bytes"],
            end["result_digest"],
        )
        try:
            found = read_slice(FakeObjects(self._world.stored), pack["object_key"], where)
        except Exception as error:
            found = repr(error).encode()
        right = questions.answer(number)
        self._check(found == right, f"job {job_id} asked {number} and reads {found!r}")

    # --- in between

    def put(self, key: str) -> None:
        """An object is about to be put."""
        self._check(key in self._packs_ever, f"{key} is put, and SQL never knew of it")

    def published(self, unheard: Sequence[tuple[str, int]]) -> None:
        """A relay is done with its look: what was not confirmed has lost its mark."""
        for job_id, mark in unheard:
            row = self._before.live.get(job_id)
            self._check(
                row is None
                or row["state"] != "queued"
                or row["published_at"] is None
                or self.marks[job_id] != mark,
                f"job {job_id} keeps its mark, and nobody said that its message is stored",
            )

    # --- at the end of the calm

    def at_the_end(self) -> None:
        world, now = self._world, self._before
        for job_id, (tenant, custom_id) in world.callers.jobs.items():
            job = now.jobs.get(job_id)
            self._check(job is not None, f"job {job_id} was accepted, and is not there")
            assert job is not None
            same = job["tenant"] == tenant and job["custom_id"] == custom_id
            self._check(same, f"job {job_id} is another's")
        for job_id, job in now.jobs.items():
            end = now.ends.get(job_id)
            self._check(end is not None, f"job {job_id} is stuck: {dict(now.live.get(job_id, {}))}")
            assert end is not None
            self._verdict(job_id, job, end)
        by_key: Counter[str] = Counter(
            job["custom_id"] for job in now.jobs.values() if job["retry_of"] is None
        )
        for request in world.callers.requests:
            for one in request.jobs if request.key is not None else ():
                self._check(by_key[one["custom_id"]] <= 1, f"{one['custom_id']} is there twice")
        for job_id, end in now.ends.items():
            if end["state"] == "succeeded":
                self._ended(job_id, end, now)
        for group_id, group in now.groups.items():
            self._check(group["completed_at"] is not None, f"group {group_id} is never complete")
        for name, queue in world.broker.queues.items():
            self._check(not queue, f"{len(queue)} messages are left in {name}")
        for consumer in world.broker.consumers:
            self._check(not consumer.unacked, f"{consumer.process.name} holds messages for ever")

    def _verdict(self, job_id: str, job: Row, end: Row) -> None:
        """Each job ended as it deserves."""
        state, code = end["state"], end["error_code"]
        _, number = self._world.callers.asked[job["custom_id"]]
        kind = questions.kind_of(number)
        if state == "cancelled":
            fine = job_id in self._world.callers.cancelled
        elif state == "expired":
            # Also what was claimed and could not be computed before its run deadline.
            fine = min(job["expires_at"] - job["created_at"], job["run_timeout_ms"]) < 80_000
        elif code == "lost":
            fine = end["losses"] > MAX_LOSSES
        elif code == "run_timeout":
            fine = self._timeouts[job_id] > 0
        elif code == "poison":
            explained = self.solo_deaths[job_id] + self._timeouts[job_id] + self._faults[job_id]
            fine = self.solo_deaths[job_id] > 0 and end["attempts"] <= explained
        elif kind == questions.REFUSED:
            fine = code == "bad_item"
        elif kind == questions.FAILING:
            fine = code == "model_error"
        elif kind == questions.POISON:
            fine = False  # it can only be quarantined, time out or be stopped
        else:
            fine = state == "succeeded"
        self._check(fine, f"job {job_id} asked {number} and ended {state} {code}: {dict(end)}")
        if state == "succeeded":
            spent = self.solo_deaths[job_id] + self._timeouts[job_id] + self._faults[job_id]
            self._check(end["attempts"] <= 1 + spent, f"an outage was blamed on {job_id}")

    def _check(self, holds: bool, why: str) -> None:
        self._world.check(holds, why)
