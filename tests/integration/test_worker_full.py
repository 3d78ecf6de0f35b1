"""Device processes on real RabbitMQ, PostgreSQL and S3: killed, stopped and cut off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from storage.database import Database
from storage.objects import open_objects
from storage.queue.publisher import open_publisher
from storage.queue.topology import Lane, declare, queue_name
from storage.records.jobs import JobState
from tests.support.household import POOL, Household, tensor
from tests.support.misbehaviour import KILLER
from tests.support.plain_relay import PlainRelay
from tests.support.process import ChildProcess
from tests.support.rabbitmq import RabbitMQ
from tests.support.waiting import wait_until
from workers.devices import DeviceChoice
from workers.keeper.loop import Keeper
from workers.keeper.reaper import Reaper, ReaperConfig
from workers.keeper.sweep import Sweep, SweepConfig
from workers.supervisor import Supervisor, SupervisorParts

LEASE_S, PUBLISH_TTL_S = 3.0, 3.0


@dataclass
class Works:
    """A household on real services, with a relay and a keeper turning, and workers to start."""

    house: Household
    environ: dict[str, str]
    folder: Path
    rabbitmq: RabbitMQ
    workers: list[ChildProcess] = field(default_factory=list)

    @property
    def hold(self) -> Path:
        return self.folder / "hold"

    @property
    def vhost(self) -> str:
        return unquote(urlsplit(self.environ["FOREBAY_BROKER_URL"]).path[1:])

    def start(self, **extra: str) -> ChildProcess:
        argv = [sys.executable, "-m", "tests.support.numpy_worker"]
        log = self.folder / f"worker-{len(self.workers)}.log"
        worker = ChildProcess(argv, log=log, env={**self.environ, **extra})
        self.workers.append(worker)
        return worker

    def wait_session(self) -> None:
        """Until a worker has one, which is when it begins to consume."""

        def opened() -> bool:
            with self.house.database.read() as tx:
                return bool(tx.sessions.live())

        wait_until(opened, 60, what=f"a worker's session\n{self.logs()}")

    def wait_entered(self) -> None:
        entered = self.hold.with_suffix(".entered")
        wait_until(entered.exists, 30, what=f"a batch on the device\n{self.logs()}")
        entered.unlink()

    def in_queues(self) -> tuple[int, int]:
        """(ready, unacknowledged) messages of the pool."""
        listed = self.rabbitmq.ctl(
            "list_queues",
            *("-p", self.vhost, "--no-table-headers"),
            *("name", "messages_ready", "messages_unacknowledged"),
        )
        names = {queue_name(POOL, lane) for lane in Lane}
        rows = [line.split() for line in listed.splitlines() if line.split()[0] in names]
        return sum(int(row[1]) for row in rows), sum(int(row[2]) for row in rows)

    def logs(self) -> str:
        return "\n".join(worker.log_tail() for worker in self.workers)


@pytest.fixture
def works(
    postgres_database_url: str,
    s3_objects_url: str,
    broker_url: str,
    s3_env: dict[str, str],
    rabbitmq: RabbitMQ,
    tmp_path: Path,
) -> Iterator[Works]:
    database = Database.open(postgres_database_url)
    house = Household(database, open_objects(s3_objects_url))
    declare(broker_url, [POOL])
    environ = {
        **os.environ,
        **s3_env,
        "FOREBAY_DATABASE_URL": postgres_database_url,
        "FOREBAY_OBJECTS_URL": s3_objects_url,
        "FOREBAY_BROKER_URL": broker_url,
        "FOREBAY_WORKER_CACHE_DIR": str(tmp_path / "cache"),
        "FOREBAY_WORKER_LEASE_TTL_S": str(LEASE_S),
        "FOREBAY_WORKER_RENEW_EVERY_S": "0.5",
        "FOREBAY_WORKER_DRAIN_S": "20",
        "FOREBAY_TEST_HOLD": str(tmp_path / "hold"),
    }
    publisher = open_publisher(broker_url)
    stop = threading.Event()
    duties = [
        Sweep(SweepConfig(every_s=0.5, publish_ttl_s=PUBLISH_TTL_S)),
        Reaper(ReaperConfig(every_s=0.3)),
    ]
    keeper = Keeper(database, house.objects, duties)
    runs: list[Callable[[threading.Event], None]] = [
        PlainRelay(database, publisher, chunk=16).run,
        keeper.run,
    ]
    threads = [threading.Thread(target=run, args=(stop,), daemon=True) for run in runs]
    for thread in threads:
        thread.start()
    made = Works(house, environ, tmp_path, rabbitmq)
    try:
        yield made
    finally:
        made.hold.unlink(missing_ok=True)
        for worker in made.workers:
            worker.kill()
        stop.set()
        for thread in threads:
            thread.join(20)
        publisher.close()
        database.close()


def check_echo(house: Household, ids: list[str], first: int = 0, deadline_s: float = 60) -> None:
    jobs = house.wait_terminal(ids, deadline_s)
    bad = [(job.state, job.error) for job in jobs if job.state is not JobState.SUCCEEDED]
    assert not bad, bad[:5]
    found = [house.result(job)["outputs"]["y"][0] for job in jobs]
    assert found == list(range(first, first + len(ids)))


def test_jobs_are_answered_and_a_stop_is_graceful(works: Works) -> None:
    worker = works.start()
    ids = works.house.submit([tensor(n) for n in range(500)])
    check_echo(works.house, ids)
    wait_until(lambda: works.in_queues() == (0, 0), what="every message to be acknowledged")
    worker.stop(signal.SIGTERM)
    assert worker._popen.returncode == 0, worker.log_tail()
    with works.house.database.read() as tx:
        assert tx.sessions.live() == []


def test_a_message_is_acknowledged_only_after_its_jobs_are_committed(works: Works) -> None:
    works.hold.touch()
    works.start()
    works.wait_session()  # else the sweep publishes a second message before the first is taken
    ids = works.house.submit([tensor(n) for n in range(16)])
    works.wait_entered()
    # A quorum queue says how many it holds every five seconds.
    wait_until(lambda: works.in_queues() == (0, 1), 20, what="the message to be seen as held")
    assert works.house.states(ids) == [JobState.RUNNING] * 16
    works.hold.unlink()
    check_echo(works.house, ids)
    wait_until(lambda: works.in_queues() == (0, 0), what="the acknowledgement")


def test_a_stop_gives_back_what_it_claimed_without_spending_an_attempt(works: Works) -> None:
    works.hold.touch()
    worker = works.start(FOREBAY_WORKER_MAX_BATCH="8")
    house = works.house
    ids = house.submit([tensor(n) for n in range(64)])
    works.wait_entered()
    wait_until(lambda: house.states(ids).count(JobState.RUNNING) == 16, what="the batch beyond")
    worker._popen.send_signal(signal.SIGTERM)
    wait_until(lambda: house.states(ids).count(JobState.RUNNING) == 8, what="the release")
    works.hold.unlink()
    assert worker._popen.wait(20) == 0, worker.log_tail()
    jobs = house.jobs(ids)
    assert sum(job.state is JobState.SUCCEEDED for job in jobs) == 8
    assert sum(job.attempts for job in jobs) == 8
    assert {job.losses for job in jobs} == {0}
    works.start()
    check_echo(house, ids)
    assert {job.attempts for job in house.jobs(ids)} == {1}


def test_a_worker_killed_in_a_batch_loses_nothing(works: Works) -> None:
    works.hold.touch()
    victim = works.start()
    house = works.house
    ids = house.submit([tensor(n) for n in range(200)])
    works.wait_entered()
    wait_until(lambda: house.states(ids).count(JobState.RUNNING) > 0, what="a claim")
    victim.kill()
    works.hold.unlink()
    works.start()
    check_echo(house, ids, deadline_s=2 * (LEASE_S + PUBLISH_TTL_S) + 15)
    jobs = house.jobs(ids)
    assert {job.attempts for job in jobs} == {1}
    assert max(job.losses for job in jobs) == 1


def test_a_broker_killed_in_a_batch_loses_nothing(works: Works) -> None:
    works.hold.touch()
    works.start(FOREBAY_WORKER_MAX_BATCH="16")
    house = works.house
    ids = house.submit([tensor(n) for n in range(300)])
    works.wait_entered()
    works.rabbitmq.kill()
    works.hold.unlink()
    works.rabbitmq.start()
    more = house.submit([tensor(n) for n in range(300, 400)])
    check_echo(house, [*ids, *more], deadline_s=60)
    assert {job.attempts for job in house.jobs(ids)} == {1}
    wait_until(lambda: works.in_queues() == (0, 0), 40, what="every message to be acknowledged")


def test_a_stop_without_a_broker_still_commits_what_ran(works: Works) -> None:
    works.hold.touch()
    worker = works.start()
    ids = works.house.submit([tensor(n) for n in range(8)])
    works.wait_entered()
    works.rabbitmq.kill()
    try:
        wait_until(lambda: "broker" in worker.log_tail(), 30, what="the worker's complaint")
        worker._popen.send_signal(signal.SIGTERM)
        works.hold.unlink()
        assert worker._popen.wait(30) == 0, worker.log_tail()
        check_echo(works.house, ids)
    finally:
        works.rabbitmq.start()


def test_object_storage_killed_in_a_batch_blames_nobody(works: Works, s3: Any) -> None:
    works.hold.touch()
    works.start(FOREBAY_WORKER_PUT_PATIENCE_S="1", FOREBAY_WORKER_MAX_BATCH="16")
    house = works.house
    ids = house.submit([tensor(n) for n in range(100)])
    works.wait_entered()
    s3.kill()
    try:
        works.hold.unlink()
        wait_until(lambda: "given back" in works.logs(), 30, what="the release")
    finally:
        s3.start()
    check_echo(house, ids, deadline_s=60)
    assert {job.attempts for job in house.jobs(ids)} == {1}


def test_only_what_was_on_the_device_is_blamed_for_a_death(works: Works) -> None:
    """A poison item kills its process each time; its neighbours are answered, it fails alone."""
    house = works.house
    inputs = [tensor(n) for n in range(120)]
    inputs[77] = tensor(KILLER)
    supervisor = Supervisor(
        SupervisorParts(
            house.database,
            [sys.executable, "-m", "tests.support.numpy_worker"],
            {**works.environ, "FOREBAY_WORKER_MAX_BATCH": "32"},
            [DeviceChoice("cpu", "")],
            works.folder / "run",
        )
    )
    (works.folder / "run").mkdir()
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(supervisor.run()), daemon=True)
    thread.start()
    try:
        ids = house.submit(inputs)
        jobs = house.wait_terminal(ids, 90)
    finally:
        supervisor.request_stop()
        thread.join(60)
    assert codes == [0]
    failed = [n for n, job in enumerate(jobs) if job.state is not JobState.SUCCEEDED]
    assert failed == [77]
    culprit = jobs[77]
    assert culprit.error is not None
    assert (culprit.error.code, culprit.attempts) == ("poison", 3)
    for n, job in enumerate(jobs):
        if n != 77:
            assert house.result(job)["outputs"]["y"][0] == n
    assert {job.attempts for job in jobs if job is not culprit} == {1}, "an innocent was blamed"


def test_the_supervisor_takes_its_children_with_it(works: Works) -> None:
    program = (
        "import os, sys; from pathlib import Path\n"
        "from storage.database import Database\n"
        "from workers.devices import choose\n"
        "from workers.supervisor import SupervisorParts, run_supervisor\n"
        "database = Database.open(os.environ['FOREBAY_DATABASE_URL'])\n"
        "argv = [sys.executable, '-m', 'tests.support.numpy_worker']\n"
        "parts = SupervisorParts(database, argv, os.environ, choose('cpu'), Path(sys.argv[1]))\n"
        "sys.exit(run_supervisor(parts))\n"
    )
    argv = [sys.executable, "-c", program, str(works.folder / "run")]
    for how, expected in ((signal.SIGTERM, 0), (signal.SIGKILL, -9)):
        supervisor = subprocess.Popen(argv, env=works.environ)
        try:
            wait_until(lambda: live(works.house) == 1, 30, what="the child's session")
            (child,) = children(supervisor.pid)
            supervisor.send_signal(how)
            assert supervisor.wait(30) == expected
            wait_until(lambda pid=child: not runs(pid), 30, what="the child's end")
            wait_until(lambda: live(works.house) == 0, 30, what="the session's end")
        finally:
            supervisor.kill()
            supervisor.wait()


def live(house: Household) -> int:
    with house.database.read() as tx:
        return len(tx.sessions.live())


def children(pid: int) -> list[int]:
    words: list[str] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        words += task.read_text().split()
    return [int(word) for word in words]


def runs(pid: int) -> Any:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
