"""Ten thousand webhooks to twenty endpoints, of which one hangs and one resets connections.

Jobs of twenty tenants are ended in batches, as workers commit them, first at a steady rate and
then as fast as the database takes it; one keeper delivers. What counts is how long after its
event each of the other eighteen endpoints is first told of it.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from storage.clock import random_bits
from storage.database import Database
from storage.records.ids import uuid7_series
from storage.records.jobs import JobError, JobKind, NewJob, Outcome, Verdict
from storage.records.sessions import NewSession
from tests.bench import cpu
from tests.bench.report import Figure, Goal, percentile, told
from tests.bench.rig import Rig, one, rows
from tests.support.ports import free_port
from tests.support.stack import FullStack
from tests.support.waiting import wait_until

NAME = "webhooks"
GOAL = Goal(2.0)
EACH_GOAL = Goal(1_000, 1_500, most=False)
ENDPOINTS, BAD, WEBHOOKS = 20, 2, 10_000
PER_COMMIT = 100
STEADY_PER_S = 800


class KeeperAlone(FullStack):
    """A keeper on real services, and nobody else."""

    @property
    def parts(self) -> Mapping[str, Sequence[str]]:
        return {"keeper": ["keeper"]}

    def wait_ready(self, deadline_s: float = 0) -> None:
        self._running["keeper"].require_alive()


@dataclass
class Told:
    """What came of one wave."""

    ended_per_s: float  # jobs, while they were ended
    cpu_s: float  # the keeper's
    log: Path
    latencies_s: list[float] = field(default_factory=list)  # of first attempts at good endpoints
    per_s: float = 0.0  # webhooks to good endpoints, from the first event to the last of them


def measure(rig: Rig) -> list[Figure]:
    """A steady wave, then one at once."""
    webhooks = 2_000 if rig.quick else WEBHOOKS
    services = rig.servers.services()
    folder = rig.folder / "webhooks"
    stack = KeeperAlone(folder, services, {"FOREBAY_WEBHOOK_ALLOW": "127.0.0.1:*"})
    stack.prepare()
    database = Database.open(services.database_url)
    try:
        ports = [free_port() for _ in range(ENDPOINTS)]
        tenants = [f"tenant-{number}" for number in range(ENDPOINTS)]
        _register(database, tenants, ports)
        stack.start()
        found = []
        for number, per_s in enumerate((STEADY_PER_S, 0)):
            with _receivers(ports, folder / f"told-{number}.jsonl") as log:
                found.append(_wave(stack, database, tenants, webhooks, per_s, log))
            _read(found[-1], ports[BAD:])
            _rest(stack)
    except BaseException:
        print(stack.logs())
        raise
    finally:
        stack.close()
        database.close()
    return _figures(*found, webhooks)


def _figures(steady: Told, burst: Told, webhooks: int) -> list[Figure]:
    """The wave at a steady rate is what was asked for; the burst says where the end is."""

    def detail(wave: Told) -> dict[str, float]:
        return {
            "jobs_ended_per_s": round(wave.ended_per_s),
            "p50_s": round(percentile(wave.latencies_s, 50), 3),
            "p99_s": round(percentile(wave.latencies_s, 99), 3),
            "delivered_per_s": round(wave.per_s),
            "keeper_cpu_ms_each": round(1000 * wave.cpu_s / len(wave.latencies_s), 3),
        }

    name = f"first attempt after its event, p99, {webhooks:,} webhooks to {ENDPOINTS} endpoints"
    return [
        GOAL.of(
            NAME,
            f"{name}, one hangs, one resets",
            round(percentile(steady.latencies_s, 99), 3),
            "s",
            detail=detail(steady),
        ),
        EACH_GOAL.of(
            NAME,
            "webhooks delivered per second by one keeper, all due at once",
            round(burst.per_s),
            "/s",
            detail=detail(burst),
        ),
        told(NAME, f"{name}, all at once", round(percentile(burst.latencies_s, 99), 3), "s"),
    ]


def _register(database: Database, tenants: Sequence[str], ports: Sequence[int]) -> None:
    """One endpoint for each tenant."""
    ids = uuid7_series(len(tenants), time.time_ns() // 1_000_000, random_bits())
    for tenant, port, endpoint_id in zip(tenants, ports, ids, strict=True):
        with database.begin() as tx:
            tx.tenants.ensure(tenant)
            tx.webhooks.add(tenant, endpoint_id, f"http://127.0.0.1:{port}/hook", ("*",))


@contextmanager
def _receivers(ports: Sequence[int], log: Path) -> Iterator[Path]:
    """The endpoints, in a process of their own; their log is written at the end of the block."""
    words = [",".join(map(str, ports)), str(log)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.webhook_receivers", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        if process.stdout.readline() != b"ready\n":
            raise AssertionError("the receivers did not start")
        yield log
    finally:
        process.stdin.close()
        process.wait(30)


def _wave(
    stack: FullStack,
    database: Database,
    tenants: Sequence[str],
    webhooks: int,
    per_s: int,
    log: Path,
) -> Told:
    """End jobs, ``per_s`` of them or as fast as it goes, until all good endpoints were told."""
    session, batches = _running(database, tenants, webhooks)
    good = list(tenants[BAD:])
    wanted = one(stack.services, _DELIVERED, good) + webhooks * len(good) // len(tenants)
    spent_s, began_s = cpu.of_process(stack.pid("keeper")), time.perf_counter()
    for number, outcomes in enumerate(batches):
        with database.begin() as tx:
            tx.jobs.commit(session, outcomes)
        if per_s:
            due_s = began_s + (number + 1) * PER_COMMIT / per_s
            time.sleep(max(0.0, due_s - time.perf_counter()))
    ended_s = time.perf_counter() - began_s

    def all_told() -> bool:
        return bool(one(stack.services, _DELIVERED, good) >= wanted)

    wait_until(all_told, 120, what="all webhooks", every_s=0.1)
    return Told(
        ended_per_s=webhooks / ended_s,
        cpu_s=cpu.of_process(stack.pid("keeper")) - spent_s,
        log=log,
    )


def _running(
    database: Database, tenants: Sequence[str], jobs: int
) -> tuple[str, list[list[Outcome]]]:
    """Jobs of all tenants in turn, claimed, and how they are to end, in batches."""
    now_ms = time.time_ns() // 1_000_000
    session, *ids = uuid7_series(1 + jobs, now_ms, random_bits())
    owner = {one: tenants[place % len(tenants)] for place, one in enumerate(ids)}
    with database.begin() as tx:
        tx.sessions.open(NewSession(session, "bench", "host", "cpu", "default"), 3_600_000)
    by_tenant = defaultdict(list)
    for one_id in ids:
        by_tenant[owner[one_id]].append(_job(one_id))
    for tenant, news in by_tenant.items():
        with database.begin() as tx:
            tx.jobs.submit(tenant, news)
    batches = []
    for first in range(0, jobs, PER_COMMIT):
        with database.begin() as tx:
            claimed = tx.jobs.claim(session, ids[first : first + PER_COMMIT])
        error = JobError("bad_item", "it is bad")
        batches.append([Outcome(j.id, j.epoch, Verdict.FAILED, True, error=error) for j in claimed])
    return session, batches


def _job(job_id: str) -> NewJob:
    return NewJob(
        id=job_id,
        kind=JobKind.INFERENCE,
        model_name="digits",
        version_id=job_id,
        version=1,
        pool="bench",
        payload=b"{}",
    )


def _rest(stack: FullStack) -> None:
    """What waits for the bad endpoints is given up, so that the next wave begins like this one."""
    rows(stack.services, _GIVE_UP)


_DELIVERED = """
    SELECT count(*) FROM deliveries AS d JOIN webhook_endpoints AS e ON e.id = d.endpoint_id
    WHERE d.state = 'delivered' AND e.tenant = ANY(%s)
"""
_GIVE_UP = "UPDATE deliveries SET state = 'given_up' WHERE state = 'pending' RETURNING 1"


def _read(wave: Told, good: Sequence[int]) -> None:
    """The first time that each event came to each good endpoint."""
    first: dict[tuple[int, str], tuple[float, float]] = {}
    for line in wave.log.read_text().splitlines():
        port, identity, at_s, told = json.loads(line)
        created_s = datetime.datetime.fromisoformat(told).timestamp()
        if port in good:
            first.setdefault((port, identity), (at_s, created_s))
    wave.latencies_s = [at_s - created_s for at_s, created_s in first.values()]
    came = [at_s for at_s, _ in first.values()]
    wave.per_s = len(came) / (max(came) - min(created for _, created in first.values()))
