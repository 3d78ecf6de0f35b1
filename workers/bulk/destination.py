"""Where a run's outputs go: below a listed prefix, or in the service's own store.

What lies in the own store has a pack's row, opened before the object is put and made live with the
commit that needs it: so the collector knows it, and takes it away when its time has passed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from storage.clock import random_bits
from storage.database import Transaction
from storage.objects import Objects
from storage.objects.packs import retention_day
from storage.records.bulk import BulkSpec, Plan
from storage.records.ids import uuid7
from storage.records.jobs import ClaimedJob
from storage.records.packs import NewPack, PackKind, PackSummary
from workers.bulk.kit import Kit, Stopped

log = logging.getLogger(__name__)

OWN = "own"  # in a plan's notes: where the run keeps what is not for its output


@dataclass(frozen=True, slots=True)
class Stored:
    """An object that was put, and what its commit has to say of it."""

    key: str
    size_bytes: int
    pack: PackSummary | None = None

    def publish(self, tx: Transaction) -> None:
        """In the transaction that needs it. ``Stopped`` when a collector took it meanwhile, as the
        put took an hour: whoever goes on with the work writes it again, under another name."""
        if self.pack is not None and not tx.packs.publish(self.pack):
            log.warning("%s is written again: its put took too long", self.key)
            raise Stopped


@dataclass(frozen=True, slots=True)
class Destination:
    """A prefix of one store."""

    objects: Objects
    base: str
    is_own: bool

    def key(self, name: str) -> str:
        """The object's key."""
        return f"{self.base}/{name}" if self.base else name

    def put(
        self, kit: Kit, tenant: str, name: str, path: Path, still: Callable[[], bool]
    ) -> Stored:
        """Create the object from a file, as soon as storage answers and ``still`` holds."""
        key, size_bytes = self.key(name), path.stat().st_size
        summary = None
        if self.is_own:
            pack = NewPack(uuid7(kit.clock.now_ms(), random_bits()), tenant, PackKind.RESULT, key)
            kit.patiently(lambda: _open(kit, pack), still)
            summary = PackSummary(pack.id, entries=1, size_bytes=size_bytes)
        kit.patiently(lambda: self.objects.put_file(key, path), still, ours=self.is_own)
        return Stored(key, size_bytes, summary)

    def keep(self, kit: Kit, tenant: str, name: str, data: bytes, still: Callable[[], bool]) -> str:
        """Put what no later commit has to say: it counts at once. The object's key."""
        path = kit.spool / f"{self.base.rpartition('/')[2]}-{name}"
        try:
            path.write_bytes(data)
            return self.keep_file(kit, tenant, name, path, still)
        finally:
            path.unlink(missing_ok=True)

    def keep_file(
        self, kit: Kit, tenant: str, name: str, path: Path, still: Callable[[], bool]
    ) -> str:
        """The same of a file, which stays where it is."""
        stored = self.put(kit, tenant, name, path, still)
        with kit.database.begin() as tx:
            stored.publish(tx)
        return stored.key

    def names(self) -> list[str]:
        """Everything that lies directly below it."""
        prefix = self.key("")
        found = (one.key.removeprefix(prefix) for one in self.objects.list(prefix))
        return [name for name in found if "/" not in name]

    def delete(self, names: list[str]) -> None:
        """These objects, as far as they exist."""
        if names:
            self.objects.delete([self.key(name) for name in names])


def own_store(kit: Kit, job: ClaimedJob) -> Destination:
    """Where a run keeps what is not for its output: error lines by part, lists."""
    day = retention_day(job.created_at, kit.retention_days)
    return Destination(kit.objects, f"bulk/{job.tenant}/{day}/{job.id}", is_own=True)


def own_of(kit: Kit, plan: Plan) -> Destination:
    """The same of a planned run, which may have been another job's first."""
    return Destination(kit.objects, str(plan.extra[OWN]), is_own=True)


def output_prefix(kit: Kit, uri: str) -> str:
    """The listed prefix that an output lies below."""
    place = kit.places.output(uri)
    return place.uri.removesuffix(place.key)


def destination_of(kit: Kit, spec: BulkSpec, base: str) -> Destination:
    """Where a planned run's outputs go. Raises ``InvalidInput`` when it may not any more."""
    if spec.output.uri is None:
        return Destination(kit.objects, base, is_own=True)
    place = kit.places.output(spec.output.uri)
    return Destination(place.objects, base, is_own=False)


def _open(kit: Kit, pack: NewPack) -> None:
    with kit.database.begin() as tx:
        known = tx.packs.get(pack.id)  # the answer to an earlier try may have been lost
        if known is None:
            tx.packs.open(pack)
