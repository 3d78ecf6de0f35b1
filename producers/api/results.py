"""Reading results out of their packs: one by range, many by as few reads as is wise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from storage.database import Database, Transaction
from storage.objects import Objects
from storage.objects.packs import read_slice, read_slices
from storage.records.errors import Gone, NotFound
from storage.records.jobs import Job, PackSlice
from storage.records.packs import PackState


def result_bytes(database: Database, objects: Objects, pointer: PackSlice) -> bytes:
    """One result; ``Gone`` when its retention has passed or it was erased."""
    with database.read() as tx:
        key = _key_of(tx, pointer.pack_id)
    if key is None:
        raise _gone()
    try:
        return read_slice(objects, key, pointer)
    except NotFound:
        raise _gone() from None


def results_of(database: Database, objects: Objects, jobs: Sequence[Job]) -> Mapping[str, bytes]:
    """The results of those jobs that have one, by job id; what is gone is left out."""
    by_pack: dict[str, list[tuple[str, PackSlice]]] = {}
    for job in jobs:
        if job.result is not None:
            by_pack.setdefault(job.result.pack_id, []).append((job.id, job.result))
    with database.read() as tx:
        keys = {pack_id: _key_of(tx, pack_id) for pack_id in by_pack}
    found: dict[str, bytes] = {}
    for pack_id, wanted in by_pack.items():
        key = keys[pack_id]
        if key is None:
            continue
        try:
            data = read_slices(objects, key, [pointer for _, pointer in wanted])
        except NotFound:
            continue
        found.update({job_id: part for (job_id, _), part in zip(wanted, data, strict=True)})
    return found


def _key_of(tx: Transaction, pack_id: str) -> str | None:
    pack = tx.packs.get(pack_id)
    return None if pack is None or pack.state is PackState.DOOMED else pack.key


def _gone() -> Gone:
    return Gone("the result was erased, or its retention has passed", code="result_gone")
