"""What a fault may use while it happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.load import Load, Person
from tests.faults.stack import FaultStack
from tests.faults.wire.line import Line
from tests.support.stack import Servers
from tests.support.waiting import wait_until

REACH_S = 60.0  # for the moment that a fault waits for


class NotHit(AssertionError):
    """The fault did not meet any work: its run says nothing."""


@dataclass
class Scene:
    """One run of one fault. Its stack may have served others before."""

    stack: FaultStack
    load: Load
    jobs: int = 200
    stops: int = 5  # rounds of the faults that repeat themselves
    seed: int = 0
    evidence: list[str] = field(default_factory=list)
    hit_s: float | None = None  # by the clock on the wall, which is the database's, too
    healed_s: float | None = None
    _afterwards: list[Callable[[], None]] = field(default_factory=list)
    _background: list[threading.Thread] = field(default_factory=list)
    _errors: list[BaseException] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    @property
    def servers(self) -> Servers:
        """RabbitMQ, PostgreSQL and S3, to be killed and started again."""
        return self.stack.servers

    @property
    def broker(self) -> Line:
        """The ways to RabbitMQ; ``scene.broker["worker"]`` is one process's own."""
        return self.stack.broker

    @property
    def database(self) -> Line:
        """The ways to PostgreSQL."""
        return self.stack.database

    @property
    def objects(self) -> Line:
        """The ways to S3."""
        return self.stack.objects

    @property
    def ayla(self) -> Person:
        """A tenant."""
        return self.load.people[0]

    @property
    def bora(self) -> Person:
        """Another tenant."""
        return self.load.people[1]

    def submit(self, count: int, **fields: Any) -> list[str]:
        """Jobs of both tenants, accepted when this returns. Their ids."""
        ids = self.load.submit(count, **fields)
        self.ids += ids
        return ids

    def submit_meanwhile(self, count: int, **fields: Any) -> None:
        """The same in the background, in waves; waited for at the end of the run."""

        def waves() -> None:
            try:
                left = count
                while left > 0:
                    self.submit(min(20, left), **fields)
                    left -= 20
                    time.sleep(0.1)
            except BaseException as error:
                self._errors.append(error)

        thread = threading.Thread(target=waves, daemon=True)
        thread.start()
        self._background.append(thread)

    def meanwhile(self, run: Callable[[], None]) -> threading.Thread:
        """Something in the background; waited for at the end, and its errors are the run's."""

        def careful() -> None:
            try:
                run()
            except BaseException as error:
                self._errors.append(error)

        thread = threading.Thread(target=careful, daemon=True)
        thread.start()
        self._background.append(thread)
        return thread

    def join(self) -> None:
        """Wait for what runs in the background."""
        for thread in self._background:
            thread.join(150)
            if thread.is_alive():
                raise AssertionError("a caller in the background does not come to an end")
        if self._errors:
            raise self._errors[0]

    def hit(self, evidence: str) -> None:
        """The fault has happened to work that was under way, and this shows it."""
        self.evidence.append(evidence)
        self.hit_s = time.time() if self.hit_s is None else self.hit_s

    def healed(self) -> None:
        """What had to be undone is undone: recovery is measured from here."""
        self.healed_s = time.time()

    def afterwards(self, undo: Callable[[], None]) -> None:
        """Run when all jobs are terminal, or when the run fails; the last first."""
        self._afterwards.append(undo)

    def clean_up(self) -> None:
        while self._afterwards:
            self._afterwards.pop()()

    def hold(self, worker: str = "worker") -> None:
        """From now on every pass of this worker waits on the device."""
        control = self.stack.control(worker)
        control.mkdir(parents=True, exist_ok=True)
        (control / "held").unlink(missing_ok=True)
        (control / "hold").touch()
        self.afterwards(lambda: self.release(worker))

    def release(self, worker: str = "worker") -> None:
        """Passes go on."""
        (self.stack.control(worker) / "hold").unlink(missing_ok=True)

    def pace(self, seconds: float, worker: str = "worker") -> None:
        """How long each pass of this worker takes."""
        control = self.stack.control(worker)
        control.mkdir(parents=True, exist_ok=True)
        (control / "pace.new").write_text(str(seconds))
        (control / "pace.new").rename(control / "pace")
        self.afterwards(lambda: (control / "pace").unlink(missing_ok=True))

    def on_device(self, worker: str = "worker") -> tuple[str, ...]:
        """The jobs that the process's ledger says are on the device now."""
        ledger = self.stack.ledger(worker)
        return ledger.job_ids if ledger else ()

    def wait_on_device(self, worker: str = "worker") -> tuple[str, ...]:
        """Until a held pass has jobs on the device; which."""
        control = self.stack.control(worker)
        wait_until((control / "held").exists, REACH_S, what="a pass that is held")
        return wait_until(lambda: self.on_device(worker), REACH_S, what="jobs on the device")

    def rows_on_device(self, worker: str = "worker") -> int:
        """How many rows of bulk jobs the process's ledger says are on the device now."""
        ledger = self.stack.ledger(worker)
        return sum(one.stop - one.start for one in ledger.spans) if ledger else 0

    def wait_rows_on_device(self, worker: str = "worker") -> int:
        """Until a held pass has rows of bulk jobs on the device; how many."""
        control = self.stack.control(worker)
        wait_until((control / "held").exists, REACH_S, what="a pass that is held")
        return wait_until(lambda: self.rows_on_device(worker), REACH_S, what="rows on the device")

    def sql(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Straight to the database, past every proxy."""
        return self.stack.sql(statement, **values)

    def count(self, statement: str, **values: Any) -> int:
        """The one number that a query gives."""
        ((number,),) = self.sql(statement, **values)
        return int(number)

    def live(self) -> int:
        """Jobs that are not terminal."""
        return self.count("SELECT count(*) FROM live")

    def states(self) -> Mapping[str, int]:
        """How many jobs are in each state."""
        rows = self.sql(
            "SELECT state, count(*) FROM (SELECT state FROM live UNION ALL SELECT state FROM ends)"
            " AS s GROUP BY state"
        )
        return {str(state): int(count) for state, count in rows}

    def wait_ended(self, ids: Sequence[str]) -> None:
        """Until these jobs are terminal."""
        wait_until(
            lambda: (
                self.count(
                    "SELECT count(*) FROM ends WHERE id = ANY(%(ids)s::uuid[])", ids=list(ids)
                )
                == len(ids)
            ),
            REACH_S,
            what=f"the end of {len(ids)} jobs",
        )

    def running(self) -> int:
        """Claimed jobs."""
        return self.count("SELECT count(*) FROM live WHERE state = 'running'")

    def wait_running(self, at_least: int = 1) -> int:
        """Until so many jobs are claimed; how many."""
        return wait_until(
            lambda: (found := self.running()) >= at_least and found,
            REACH_S,
            what=f"{at_least} running jobs",
        )

    def start(self, *parts: str) -> None:
        """Further parts, which are stopped when all jobs are terminal."""
        self.stack.start(*parts)
        self.afterwards(lambda: self._stop(*parts))

    def _stop(self, *parts: str) -> None:
        for name in parts:
            if self.stack.runs(name):
                self.stack.stop(name)
