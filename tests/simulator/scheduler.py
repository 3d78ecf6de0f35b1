"""Who runs next, and what time it is: threads of processes, one at a time, in an order by chance.

Nothing runs beside anything else. A thread's step is the product's own code; where that code asks
the database, the broker or the object store, or sleeps, others may have their turns before it goes
on (``boundary``, ``sleep``): a call inside a call, so what was interrupted last goes on first.
There too a process may die: everything of it that is under way ends with ``Crashed``.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from tests.simulator.happenings import Happenings

START_MS = 1_800_000_000_000
MOST_DEPTH = 16


class Crashed(BaseException):
    """The process died here. No handler of the product's may see it: it is no ``Exception``."""


class Process:
    """What dies and is stopped as one."""

    def __init__(self, scheduler: Scheduler, name: str, skew_ms: int = 0) -> None:
        self.scheduler, self.name, self.skew_ms = scheduler, name, skew_ms
        self.alive = True
        self.stopped_until_ms = 0  # SIGSTOP
        self.troubles = 0  # of the database, that its code was told of
        self.threads: list[Thread] = []

    def thread(
        self,
        name: str,
        step: Callable[[], float | None],
        ready: Callable[[], object] | None = None,
        *,
        first_s: float = 0.0,
    ) -> Thread:
        """Start one. ``step`` says after how many seconds it wants to run again; None: when
        ``ready`` says that there is work."""
        thread = Thread(self, name, step, ready)
        thread.due_ms = self.scheduler.now_ms + first_s * 1000
        self.threads.append(thread)
        self.scheduler.threads.append(thread)
        return thread

    def die(self) -> None:
        """Every thread of it ends where it is."""
        self.alive = False
        mine = self.threads
        self.scheduler.threads = [one for one in self.scheduler.threads if one not in mine]

    # the process's own clock

    def now_ms(self) -> int:
        return self.scheduler.now_ms + self.skew_ms

    def monotonic_s(self) -> float:
        return (self.scheduler.now_ms - START_MS) / 1000 + 1000.0


class Thread:
    """One loop of a process, played step by step."""

    def __init__(
        self,
        process: Process,
        name: str,
        step: Callable[[], float | None],
        ready: Callable[[], object] | None,
    ) -> None:
        self.process, self.name, self.step, self.ready = process, name, step, ready
        self.due_ms: float = math.inf
        self.busy = False

    def wake(self) -> None:
        """Run as soon as it can."""
        self.due_ms = min(self.due_ms, self.process.scheduler.now_ms)

    def run(self) -> None:
        self.busy, self.due_ms = True, math.inf
        scheduler = self.process.scheduler
        try:
            wait_s = self.step()
        except Crashed:
            return
        finally:
            self.busy = False
        if wait_s is not None:
            self.due_ms = min(self.due_ms, scheduler.now_ms + wait_s * 1000)
        for other in self.process.threads:
            if other.due_ms > scheduler.now_ms and other.ready is not None and other.ready():
                other.due_ms = scheduler.now_ms


class Scheduler:
    """The virtual clock and the threads."""

    def __init__(self, chance: random.Random, happenings: Happenings) -> None:
        self.chance, self.happenings = chance, happenings
        self.now_ms = START_MS
        self.threads: list[Thread] = []
        self.steps = 0
        self.most_steps: float = math.inf  # after so many a sleep is a jump of the clock
        self.depth = 0

    def turn(self, until_ms: float) -> bool:
        """Let somebody run who is due by then; False when nobody is."""
        while True:
            now_ms, next_ms = self.now_ms, math.inf
            due: list[Thread] = []
            for one in self.threads:
                at_ms = one.due_ms
                if at_ms == math.inf or one.busy:
                    continue
                stopped_ms = one.process.stopped_until_ms
                if stopped_ms > at_ms:
                    at_ms = stopped_ms
                if at_ms <= now_ms:
                    due.append(one)
                elif at_ms < next_ms:
                    next_ms = at_ms
            if due:
                break
            if next_ms > until_ms:
                return False
            self.now_ms = math.ceil(next_ms)
        thread = due[int(self.chance.random() * len(due))] if len(due) > 1 else due[0]
        self.steps += 1
        if self.happenings.verbose:
            self.happenings.note(self.now_ms, thread.process.name, thread.name)
        thread.run()
        if self.chance.random() < 0.3:
            self.now_ms += int(self.chance.random() * 20)
        return True

    def run_until(self, until_ms: int) -> None:
        """Everything that is due until then, and then it is then."""
        self.depth += 1
        try:
            while self.now_ms < until_ms and self.steps < self.most_steps:
                if not self.turn(until_ms):
                    break
        finally:
            self.depth -= 1
        self.now_ms = max(self.now_ms, until_ms)

    def sleep(self, process: Process, seconds: float) -> None:
        """The caller does nothing for so long; others do."""
        until_ms = self.now_ms + max(1, int(seconds * 1000))
        if self.depth < MOST_DEPTH:
            self.run_until(until_ms)
        else:
            self.now_ms = until_ms
        self.check(process)

    def give_way(self, process: Process, turns: int) -> None:
        """Others run in between."""
        if self.depth >= MOST_DEPTH:
            return
        self.depth += 1
        try:
            for _ in range(turns):
                if not self.turn(self.now_ms):
                    break
        finally:
            self.depth -= 1
        self.check(process)

    def check(self, process: Process) -> None:
        """Whoever comes back to a dead process is dead."""
        if not process.alive:
            raise Crashed


class VirtualEvent:
    """A ``threading.Event`` whose waiting is virtual."""

    def __init__(self, process: Process) -> None:
        self._process, self._set = process, False

    def set(self) -> None:
        self._set = True

    def clear(self) -> None:
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout_s: float) -> bool:
        if not self._set:
            self._process.scheduler.sleep(self._process, timeout_s)
        return self._set


class VirtualCondition:
    """A ``threading.Condition`` whose waiting is virtual; whoever holds it is never interrupted."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def __enter__(self) -> None:
        """Nobody else runs."""

    def __exit__(self, *_: object) -> None:
        """Nobody waited."""

    def notify_all(self) -> None:
        """Who waits looks by itself."""

    def wait_for(self, predicate: Callable[[], object], timeout_s: float) -> object:
        scheduler = self._process.scheduler
        until_ms = scheduler.now_ms + timeout_s * 1000
        while not (found := predicate()) and scheduler.now_ms < until_ms:
            scheduler.sleep(self._process, min(0.5, (until_ms - scheduler.now_ms) / 1000))
        return found


class OneRound:
    """A stop signal for a loop that is to go round once."""

    def __init__(self, process: Process) -> None:
        self._process, self._asked = process, 0

    def is_set(self) -> bool:
        self._asked += 1
        return self._asked > 1

    def wait(self, timeout_s: float) -> bool:
        self._process.scheduler.sleep(self._process, timeout_s)
        return True
