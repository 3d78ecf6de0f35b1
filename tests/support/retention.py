"""A house of things of every age, and what may be left of it after the retention."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import text

from storage.clock import random_bits
from storage.database import Database
from storage.database.tables import metadata
from storage.database.transaction import Transaction
from storage.objects import Objects
from storage.records.ids import uuid7
from storage.records.jobs import NewJob, PackSlice
from storage.records.packs import NewPack, PackKind, PackSummary
from tests.support.database import (
    ALICE,
    BOB,
    ManualClock,
    claim,
    new_job,
    open_session,
    success,
    summary,
)

DAY_MS = 86_400_000
KEPT_MS = 30 * DAY_MS


@dataclass
class Past:
    """Writes what callers and workers would, at the moment that the clock shows."""

    database: Database
    objects: Objects
    clock: ManualClock
    tenants: tuple[str, ...] = (ALICE, BOB)
    packs: dict[str, str] = field(default_factory=dict)  # key by id

    def id(self) -> str:
        return uuid7(self.clock.now_ms(), random_bits())

    def job(self, **fields: object) -> NewJob:
        return new_job(id=self.id(), expires_in_ms=100 * DAY_MS, **fields)

    def submit(
        self, count: int = 1, tenant: str = ALICE, *, packed: bool = False, **fields: object
    ) -> list[str]:
        jobs = [self.job(**fields) for _ in range(count)]
        if packed:
            pack = self.pack(PackKind.INPUT, tenant)
            where = [PackSlice(pack, 10 * n, 10, "d" * 64) for n in range(count)]
            jobs = [
                new_job(id=job.id, expires_in_ms=100 * DAY_MS, payload=at, **fields)
                for job, at in zip(jobs, where, strict=True)
            ]
        with self.database.begin() as tx:
            if packed:
                assert tx.packs.publish(PackSummary(pack, count, 10))
            tx.jobs.submit(tenant, jobs)
        return [job.id for job in jobs]

    def group(self, count: int, tenant: str = ALICE) -> tuple[str, list[str]]:
        group_id, jobs = self.id(), [self.job() for _ in range(count)]
        with self.database.begin() as tx:
            tx.groups.create(tenant, group_id, count)
            tx.jobs.submit(tenant, jobs, group_id=group_id)
        return group_id, [job.id for job in jobs]

    def pack(self, kind: PackKind, tenant: str = ALICE) -> str:
        """A pack that is put, and not yet live."""
        pack_id = self.id()
        key = self.packs[pack_id] = f"packs/{kind.value}/{tenant}/{pack_id}.pack"
        with self.database.begin() as tx:
            tx.packs.open(NewPack(pack_id, tenant, kind, key))
        self.objects.put(key, b"a pack")
        return pack_id

    def succeed(self, ids: list[str], tenant: str = ALICE) -> str:
        """Run the jobs; the pack of their results."""
        session = open_session(self.database)
        pack = self.pack(PackKind.RESULT, tenant)
        jobs = claim(self.database, session, ids)
        assert len(jobs) == len(ids)
        outcomes = [success(job, pack, n) for n, job in enumerate(jobs)]
        with self.database.begin() as tx:
            tx.jobs.commit(session, outcomes, packs=[summary(pack, len(jobs))])
        return pack

    def upload(self, tenant: str = ALICE) -> str:
        file_id = self.id()
        key = f"files/{tenant}/{file_id}"
        self.objects.put(key, b"a file")
        with self.database.begin() as tx:
            tx.files.add(
                tenant,
                id=file_id,
                filename="f",
                content_type="text/plain",
                object_key=key,
                size_bytes=6,
                digest="d",
            )
        return file_id

    def rows(self, table: str) -> int:
        return self.keys(table).__len__()

    def keys(self, table: str) -> set[str]:
        """The values of a table's first column."""
        column = next(iter(metadata.tables[table].columns)).name
        with self.database._engines.reading.connect() as connection:
            return {row[0] for row in connection.execute(text(f"SELECT {column} FROM {table}"))}

    def check(self) -> None:
        """What holds at any moment: no row points to nothing, no object is unknown to SQL."""
        with self.database._engines.reading.connect() as connection:

            def none(query: str) -> None:
                found = connection.execute(text(query)).fetchall()
                assert not found, (query, found[:3])

            for table in ("ends", "live"):
                none(f"SELECT id FROM {table} WHERE id NOT IN (SELECT id FROM jobs)")
            none("SELECT id FROM jobs WHERE id NOT IN (SELECT job_id FROM payloads)")
            none("SELECT job_id FROM payloads WHERE job_id NOT IN (SELECT id FROM jobs)")
            training = ("training_runs", "training_measures", "training_log")
            for table in ("job_labels", "bulk_runs", "bulk_shards", "bulk_parts", *training):
                none(f"SELECT job_id FROM {table} WHERE job_id NOT IN (SELECT id FROM jobs)")
            none(
                "SELECT job_id FROM payloads WHERE pack_id IS NOT NULL AND pack_id NOT IN"
                " (SELECT id FROM packs WHERE state = 'live')"
            )
            none(
                "SELECT job_id FROM training_runs WHERE checkpoint_pack_id IS NOT NULL"
                " AND checkpoint_pack_id NOT IN (SELECT id FROM packs WHERE state = 'live')"
            )
            none("SELECT event_id FROM deliveries WHERE event_id NOT IN (SELECT id FROM events)")
            packs = connection.execute(text("SELECT id, object_key, state FROM packs")).fetchall()
        for pack_id, key, state in packs:
            assert state == "doomed" or self.objects.exists(key), (pack_id, state)
        for pack_id in self.packs.keys() - {row[0] for row in packs}:
            assert not self.objects.exists(self.packs[pack_id]), f"{pack_id} is unknown to SQL"


class Interrupted(Exception):
    """The process died here."""


class Stepwise:
    """A database and its objects, with something to happen after the nth step."""

    def __init__(self, database: Database, objects: Objects) -> None:
        self._database, self._objects = database, objects
        self.steps = 0
        self.then = dict[int, object]()  # called after that many steps

    def _step(self) -> None:
        self.steps += 1
        act = self.then.pop(self.steps, None)
        if callable(act):
            act()

    @contextmanager
    def begin(self, *, lasting: bool = True) -> Iterator[Transaction]:
        with self._database.begin(lasting=lasting) as tx:
            yield tx
        self._step()

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        with self._database.read() as tx:
            yield tx
        self._step()

    def delete(self, keys: list[str]) -> None:
        for key in keys:
            self._objects.delete([key])
            self._step()
