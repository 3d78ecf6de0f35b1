"""The flights scored: by ``forebay up``, and by two workers on real services, one of them killed.

Everything is typed as a user types it; only the moment of the kill is read from the database.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.show.flights_data import ROWS
from tests.show.flights_model import KEEP, Model
from tests.support.stack import EmbeddedStack, FullStack, Services, Stack, descendants
from tests.support.waiting import wait_until
from workers.inference.ledger import read

HALF_WAY = 0.45  # of all rows, as far as they are noted
ENDS_WITHIN_S = 240
TRIES = 3
# A killed worker's shards come back soon.
ENVIRONMENT = {
    "FOREBAY_LEASE_TTL_S": "6",
    "FOREBAY_RENEW_EVERY_S": "1.5",
    "FOREBAY_WORKER_LEASE_TTL_S": "6",
    "FOREBAY_WORKER_RENEW_EVERY_S": "1.5",
    "FOREBAY_SWEEP_EVERY_S": "1",
}
_NOTED = """
SELECT s.node, b.number, b.start, b.stop, b.live_rows + b.live_failed
FROM bulk_shards AS b JOIN sessions AS s ON s.id = b.session_id
WHERE b.job_id = %s AND b.state = 'running'
"""
_STORED = "SELECT COALESCE(sum(rows + failed), 0) FROM bulk_parts WHERE job_id = %s"


@dataclass(frozen=True)
class Lost:
    """A shard of a worker that was killed: what of it was scored and in no part."""

    number: int
    start: int  # where its last part ended
    stop: int
    noted: int  # rows that were told
    reached: int  # the position behind what was on the device, as far as that is known


@dataclass(frozen=True)
class Run:
    """What a user has of a run."""

    name: str
    folder: Path
    lost: tuple[Lost, ...] = ()

    @property
    def manifest(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "manifest.json").read_text()))


class TwoWorkers(FullStack):
    """Two worker processes of two supervisors."""

    @property
    def parts(self) -> Mapping[str, Sequence[str]]:
        return {**super().parts, "worker2": ["worker", "--devices", "cpu"]}

    @property
    def home(self) -> Path:
        return self.folder / "home"


def packed(table: Path) -> Path:
    """The same in gzip."""
    path = table.with_name(table.name + ".gz")
    if not path.exists():
        building = path.with_name(f"{path.name}.{os.getpid()}")
        building.write_bytes(gzip.compress(table.read_bytes(), 1, mtime=0))
        building.replace(path)
    return path


def embedded(folder: Path, table: Path, model: Model) -> list[Run]:
    """In one place without services: the table as it is, and in gzip."""
    stack = EmbeddedStack(folder, ENVIRONMENT)
    try:
        stack.prepare()
        stack.start()
        push(stack, model)
        return [
            score(stack, "embedded", table, folder / "plain"),
            score(stack, "embedded, gzip", packed(table), folder / "gzip"),
        ]
    finally:
        stack.close()


def full(folder: Path, services: Services, table: Path, model: Model) -> list[Run]:
    """On RabbitMQ, PostgreSQL and S3 with two workers: undisturbed, then one of them is killed."""
    told = {
        "FOREBAY_HOME": str(folder / "home"),
        "FOREBAY_WORKER_TF_THREADS": "1",  # no machine is so fast that it is done before the kill
    }
    stack = TwoWorkers(folder, services, ENVIRONMENT | told)
    try:
        stack.prepare()
        stack.start()
        push(stack, model)
        return [
            score(stack, "two workers", table, folder / "undisturbed"),
            score_and_kill(stack, "two workers, one killed", table, folder / "killed"),
        ]
    finally:
        stack.close()


def push(stack: Stack, model: Model) -> None:
    said = ("--options", f"@{model.options}", "--wait")
    typed(stack, "models", "push", "flights", model.archive, *said)


def score(stack: Stack, name: str, table: Path, out: Path) -> Run:
    keep = ",".join(KEEP)
    typed(stack, "bulk", "flights", table, "--output", out, "--keep", keep, "--wait")
    return Run(name, out)


def score_and_kill(stack: TwoWorkers, name: str, table: Path, out: Path) -> Run:
    """The second worker's supervisor and device process die half-way, at once."""
    with psycopg.connect(stack.services.database_url, autocommit=True) as database:
        for _ in range(TRIES):
            submitted = typed(stack, "bulk", "flights", table, "--keep", ",".join(KEEP), "--json")
            job_id = str(json.loads(submitted)["id"])
            moment = Moment(stack, database, job_id)
            wait_until(moment.is_there, ENDS_WITHIN_S, what="half of the rows")
            if not moment.is_past:
                break
        assert not moment.is_past, "the work was never half done with both workers at it"
        lost = moment.kill("worker2")
    typed(stack, "jobs", "wait", job_id)
    typed(stack, "jobs", "download", job_id, out)
    return Run(name, out, lost)


def typed(stack: Stack, *arguments: object) -> str:
    """What ``forebay …`` says."""
    done = stack.run(*map(str, arguments), deadline_s=ENDS_WITHIN_S)
    words = " ".join(map(str, arguments))
    assert done.returncode == 0, f"forebay {words}:\n{done.stdout}{done.stderr}\n{stack.logs()}"
    return done.stdout


class Moment:
    """Half of the rows are scored, and both workers have scored some that are in no part."""

    def __init__(self, stack: TwoWorkers, database: psycopg.Connection[Any], job_id: str) -> None:
        self._stack, self._database, self._job_id = stack, database, job_id
        self.is_past = False

    def is_there(self) -> bool:
        """Also when it is past: the work was over before both were seen at it."""
        (stored,) = self._database.execute(_STORED, [self._job_id]).fetchone() or (0,)
        noted = self._noted()
        self.is_past = stored == ROWS
        busy = all(
            any(row[-1] and _is_one_of(_devices(self._stack, name), row[0]) for row in noted)
            for name in ("worker", "worker2")
        )
        return self.is_past or (busy and stored + sum(row[-1] for row in noted) >= HALF_WAY * ROWS)

    def kill(self, name: str) -> tuple[Lost, ...]:
        """This worker; what it had and what of it was scored."""
        supervisor, devices = self._stack.pid(name), _devices(self._stack, name)
        self._stack.kill(name)
        (ledger,) = (self._stack.home / "run").glob(f"*-{supervisor}.ledger")
        found = read(ledger)
        spans = {span.number: span.stop for span in (found.spans if found is not None else ())}
        return tuple(
            Lost(number, start, stop, noted, spans.get(number, start))
            for node, number, start, stop, noted in self._noted()
            if _is_one_of(devices, node)
        )

    def _noted(self) -> list[tuple[Any, ...]]:
        return self._database.execute(_NOTED, [self._job_id]).fetchall()


def _devices(stack: Stack, name: str) -> list[int]:
    return descendants(stack.pid(name))


def _is_one_of(devices: Sequence[int], node: str) -> bool:
    return any(f"-{pid}@" in node for pid in devices)
