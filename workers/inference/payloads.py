"""Brings the inputs of claimed jobs: in line from SQL, or cut out of input packs.

The jobs of one request lie side by side in one pack, so neighbours are read by one range. A lost
or damaged input fails its own job; storage that does not answer blames nobody and is raised.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from typing import Protocol

from storage.database import Database
from storage.objects import Objects
from storage.objects.packs import read_slice, read_slices
from storage.records.errors import ItemError, NotFound, ObjectCorrupt
from storage.records.jobs import PackSlice

_KEYS_KEPT = 1024

Payload = bytes | ItemError


class Asked(Protocol):
    """A job with its input, or with where that lies."""

    @property
    def id(self) -> str: ...
    @property
    def payload(self) -> bytes | PackSlice: ...


class Payloads:
    """One per process; remembers where packs lie."""

    def __init__(self, database: Database, objects: Objects) -> None:
        self._database, self._objects = database, objects
        self._keys: OrderedDict[str, str] = OrderedDict()

    def fetch(self, jobs: Sequence[Asked]) -> dict[str, Payload]:
        """Each job's input, by id."""
        found: dict[str, Payload] = {}
        packed: dict[str, list[tuple[str, PackSlice]]] = defaultdict(list)
        for job in jobs:
            if isinstance(job.payload, PackSlice):
                packed[job.payload.pack_id].append((job.id, job.payload))
            else:
                found[job.id] = job.payload
        for pack_id, wanted in packed.items():
            ids = [job_id for job_id, _ in wanted]
            found.update(zip(ids, self._cut(pack_id, wanted), strict=True))
        return found

    def _cut(self, pack_id: str, wanted: list[tuple[str, PackSlice]]) -> Sequence[Payload]:
        cuts = [cut for _, cut in wanted]
        try:
            return read_slices(self._objects, self._key(pack_id), cuts)
        except (NotFound, ObjectCorrupt):
            return [self._one(cut) for cut in cuts]  # which of them?

    def _one(self, cut: PackSlice) -> Payload:
        try:
            return read_slice(self._objects, self._key(cut.pack_id), cut)
        except NotFound:
            return ItemError("the stored input is gone", code="input_lost")
        except ObjectCorrupt:
            return ItemError("the stored input is not what was written", code="input_corrupt")

    def _key(self, pack_id: str) -> str:
        key = self._keys.get(pack_id)
        if key is None:
            with self._database.read() as tx:
                pack = tx.packs.get(pack_id)
            if pack is None:
                raise NotFound("the pack is gone", code="pack_not_found")
            key = self._keys[pack_id] = pack.key
            if len(self._keys) > _KEYS_KEPT:
                self._keys.popitem(last=False)
        return key
