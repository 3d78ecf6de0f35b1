"""The ready window as threads share it: claimed, decoded jobs wait here for the device.

Decoding adds, and a device thread picks at the very moment it is free: what runs together is
decided as late as it can be. The decisions are the window's and the latency book's (``batching``);
this shell adds the lock, the models' leases, and which passes run now. Nobody calls the intake
under this lock: the intake asks here for room under its own.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from storage.clock import Clock
from storage.queue.lanes import Lane
from workers.inference.batch import Work
from workers.inference.batching import (
    BLOCKS,
    Candidate,
    LatencyBook,
    Limits,
    Pick,
    Window,
)
from workers.inference.credit import Credit
from workers.inference.versions import Lease
from workers.inference.waiting import Line

AHEAD_S, LEAST_AHEAD = 2.0, 32

Room: TypeAlias = Callable[[Lane], int]


@dataclass(frozen=True, slots=True)
class Choice:
    """What a device thread does next: run the pick, if there is one, and answer the expired."""

    expired: tuple[Work, ...] = ()
    pick: Pick | None = None
    lease: Lease | None = None  # of the pick's model
    switched: bool = False  # the pass before it was another version's

    @property
    def works(self) -> list[Work]:
        """The pick's."""
        return [work_of(one) for one in self.pick.candidates] if self.pick else []

    @property
    def lane(self) -> Lane:
        """Whose threads the pick goes on with: the foremost of those who are in it."""
        if self.pick is None or self.pick.bulk:
            return Lane.BULK
        high = any(work.line.lane is Lane.HIGH for work in self.works)
        return Lane.HIGH if high else Lane.NORMAL


NOTHING = Choice()


class Ready:
    """See the module."""

    def __init__(
        self,
        clock: Clock,
        limits: Callable[[str], Limits],
        credit: Credit,
        on_room: Callable[[], None],
    ) -> None:
        self.book = LatencyBook()
        self._window = Window(self.book, limits=limits)
        self._clock, self._limits, self._credit, self._on_room = clock, limits, credit, on_room
        lock = threading.RLock()
        self.changed = threading.Condition(lock)
        self._more_at_once = threading.Condition(lock)  # where slots beyond the first one wait
        self._memory_freed = threading.Condition(lock)
        self._leases: dict[str, Lease] = {}
        self._waiting: Counter[str] = Counter()  # candidates by version
        self._high: Counter[str] = Counter()  # those of them that came in the high lane
        self._running: Counter[str] = Counter()  # passes by version
        self._alone: int | None = None  # the slot whose suspects share the device with nobody
        self._last_version: str | None = None
        self._bytes = 0
        self._closed = False

    def add(self, lease: Lease, candidates: Sequence[Candidate]) -> bool:
        """They may run from now on. False when a stop is under way: they are the caller's."""
        version_id = lease.model.version_id
        with self.changed:
            if self._closed or not candidates:
                lease.release()
                return not candidates
            if version_id in self._leases:
                lease.release()
            else:
                self._leases[version_id] = lease
            self._waiting[version_id] += len(candidates)
            self._high += _high(candidates)
            self._bytes += sum(work_of(one).size_bytes for one in candidates)
            self._window.add(candidates, self._clock.monotonic_s())
            self._wake()
        return True

    def choose(self, slot: int, room: Room, timeout_s: float) -> Choice:
        """What to do now, as soon as there is anything; ``NOTHING`` when the time is over.

        ``room`` says for a lane how many batches computed now could be stored soon: until then
        they may as well grow here.
        """
        give_up_s = self._clock.monotonic_s() + timeout_s
        mine = self.changed if slot == 0 else self._more_at_once
        with self.changed:
            while True:
                choice = self._choose(slot, room)
                left_s = give_up_s - self._clock.monotonic_s()
                if choice is not NOTHING or self._closed or left_s <= 0:
                    break
                mine.wait(left_s)
            if choice.pick is not None:
                self._wait_alone(slot, choice.pick)
        if choice is not NOTHING:
            self._on_room()
        return choice

    def choose_between(self, slot: int, pick: Pick, room: Room) -> Choice:
        """Between two passes of a pick: an online pass that may go before the next of them."""
        with self.changed:
            self._running -= Counter([pick.version_id])
            choice = self._choose(slot, lambda lane: 0 if lane is Lane.BULK else room(lane))
            self._running[pick.version_id] += 1
            if choice.pick is not None:
                self._wait_alone(slot, choice.pick, beside=1)
        if choice is not NOTHING:
            self._on_room()
        return choice

    def _choose(self, slot: int, room: Room) -> Choice:
        high, normal = room(Lane.HIGH), room(Lane.NORMAL)
        if self._closed or self._alone is not None or max(high, normal) <= 0:
            return NOTHING

        def may_run(version_id: str) -> bool:
            if not self._free(slot, version_id):
                return False
            if not self._high[version_id]:
                return normal > 0
            return high > 0 and normal >= 0  # it may turn out to be a pass without these

        now_s = self._clock.monotonic_s()
        expired = self._window.expire(now_s)
        if expired:
            works = tuple(work_of(one) for one in expired)
            self._leave(expired)
            return Choice(expired=works)
        pick = self._window.pick(now_s, may_run, bulk_too=room(Lane.BULK) > 0)
        if pick is None:
            return NOTHING
        lease = self._leases[pick.version_id].share()
        self._leave(pick.candidates)
        self._running[pick.version_id] += 1
        switched = self._last_version not in (None, pick.version_id)
        self._last_version = pick.version_id
        self._wake()  # another instance may join it
        return Choice(pick=pick, lease=lease, switched=switched)

    def _free(self, slot: int, version_id: str) -> bool:
        """The first slot takes whatever is next; the others only add instances of a version that
        allows several, so that a device is not shared by passes nobody wanted side by side."""
        running, most = self._running[version_id], self._limits(version_id).instances
        return running < most if slot == 0 else 0 < running < most

    def _wait_alone(self, slot: int, pick: Pick, *, beside: int = 0) -> None:
        """Suspects share the device with no other pass, else its death would blame that one too.
        ``beside``: picks that are between two passes."""
        if all(one.companions >= BLOCKS for one in pick.candidates):
            return
        self._alone = slot
        while self._running.total() > 1 + beside and not self._closed:
            self.changed.wait(0.25)

    def finished(self, slot: int, pick: Pick, seconds: float) -> None:
        """The pick has left the device after so long."""
        with self.changed:
            self._window.charge(pick, seconds)
            self._running -= Counter([pick.version_id])  # which drops what comes to nothing
            if self._alone == slot:
                self._alone = None
            self._wake()

    def poke(self) -> None:
        """There is room behind the device."""
        with self.changed:
            self._wake()

    def wait_for_bytes(self, most: int, timeout_s: float) -> bool:
        """Whether what is decoded and waits takes less memory than that, now or soon."""
        with self.changed:
            return self._memory_freed.wait_for(
                lambda: self._bytes < most or self._closed, timeout_s
            )

    @property
    def closed(self) -> bool:
        """Whether nothing is picked any more."""
        return self._closed

    def claim_most(self, version_id: str) -> int:
        """Most rows of a version that may wait here: its largest batch, and of a slow one what
        takes about ``AHEAD_S``, so that other workers find something to do."""
        largest = self._limits(version_id).sizes[-1]
        with self.changed:
            each_s = self.book.device_s_per_job(version_id)
        if each_s <= 0:
            return largest
        return min(largest, max(LEAST_AHEAD, int(AHEAD_S / each_s)))

    def bulk_cap(self, version_id: str) -> int:
        """Most rows of a bulk claim now."""
        most = self.claim_most(version_id)
        with self.changed:
            return min(most, self._window.bulk_cap(version_id, self._clock.monotonic_s()))

    def online_seen(self) -> bool:
        """Whether an online job waits, or came within the last second."""
        with self.changed:
            return self._window.online_seen(self._clock.monotonic_s())

    def estimate_s(self, version_id: str, shape: str, rows: int) -> float:
        """How long a pass of so many rows will probably take."""
        with self.changed:
            return self.book.estimate_s(version_id, shape, rows)

    def observe_stage(self, version_id: str, stage: str, rows: int, seconds: float) -> None:
        """A stage took so long for rows of one version."""
        with self.changed:
            self.book.observe_stage(version_id, stage, rows, seconds)

    def observe_path(self, version_id: str, jobs: int, seconds: float) -> None:
        """A worker that had work all the while took so long for so many jobs."""
        with self.changed:
            self.book.observe_path(version_id, jobs, seconds)

    def waiting(self) -> int:
        """How many jobs are claimed and wait for the device."""
        with self.changed:
            return self._waiting.total()

    def close(self) -> list[Work]:
        """Pick nothing any more; what waited is the caller's to give back."""
        with self.changed:
            self._closed = True
            left = self._window.clear()
            self._leave(left)
            self.changed.notify_all()
            self._more_at_once.notify_all()
        return [work_of(one) for one in left]

    def _leave(self, candidates: Sequence[Candidate]) -> None:
        rows: Counter[Line] = Counter()
        gone: Counter[str] = Counter()
        for one in candidates:
            work = work_of(one)
            rows[work.line] += work.credit
            self._bytes -= work.size_bytes
            gone[one.version_id] += 1
        for line, count in rows.items():
            self._credit.spend(line, -count)
        self._high -= _high(candidates)
        for version_id, count in gone.items():
            self._waiting[version_id] -= count
            if not self._waiting[version_id]:
                del self._waiting[version_id]
                self._leases.pop(version_id).release()
        self._memory_freed.notify_all()

    def _wake(self) -> None:
        """Something may be picked. The slots beyond the first sleep on where one is enough."""
        self.changed.notify_all()
        if any(self._limits(version_id).instances > 1 for version_id in self._waiting):
            self._more_at_once.notify_all()


def _high(candidates: Sequence[Candidate]) -> Counter[str]:
    """How many of them came in the high lane, by version."""
    return Counter(one.version_id for one in candidates if work_of(one).line.lane is Lane.HIGH)


def work_of(candidate: Candidate) -> Work:
    """What the candidate stands for."""
    assert isinstance(candidate.payload, Work)
    return candidate.payload
