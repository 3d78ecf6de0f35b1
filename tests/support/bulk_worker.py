"""A worker in this process, with its bulk side, that gets what is in the backlog as relay and
broker would bring it; and jobs for it."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from storage.clock import SystemClock
from storage.database import Database
from storage.objects import open_objects
from storage.objects.packs import PackWriter, pack_key
from storage.queue.lanes import Lane
from storage.records.bulk import BulkSpec, payload_of
from storage.records.jobs import BULK_PRIORITY, JobKind, NewJob
from storage.records.models import ModelVersion
from storage.records.packs import NewPack, PackKind
from tests.support.bare_pipeline import offer, running_pipeline, settings_for
from tests.support.database import POOL
from tests.support.household import Household, new_id
from workers.bulk.side import BulkSide
from workers.inference.pipeline import Pipeline
from workers.inference.ports import Runtime


def household(request: pytest.FixtureRequest, folder: Path) -> Household:
    """Of a fixture's parameter: ``embedded``, or ``services`` (PostgreSQL and S3)."""
    if request.param == "embedded":
        return Household.on_sqlite(folder)
    database = Database.open(request.getfixturevalue("postgres_database_url"))
    request.addfinalizer(database.close)
    return Household(database, open_objects(request.getfixturevalue("s3_objects_url")))


@contextlib.contextmanager
def bulk_worker(
    house: Household, folder: Path, runtime: Runtime, tenants: Sequence[str] = ()
) -> Iterator[BulkSide]:
    """It may read what lies below ``folder/in``, and write below ``folder/out``."""
    (folder / "out").mkdir(exist_ok=True)
    stop = threading.Event()
    allowed = {"ref_prefixes": (f"file://{folder}/in/",)}
    allowed["output_prefixes"] = (f"file://{folder}/out/",)
    with running_pipeline(house, folder, runtime=runtime, **allowed) as pipeline:
        settings = settings_for(folder, **allowed)
        bulk = BulkSide(pipeline, house.database, house.objects, settings, SystemClock())
        bulk.start()
        whose = (house.tenant, *tenants)
        carry = threading.Thread(target=_carry, args=(house, pipeline, whose, stop), daemon=True)
        carry.start()
        try:
            yield bulk
        finally:
            stop.set()
            carry.join(10)
            pipeline.drain(lambda: None)
            bulk.close()


def _carry(
    house: Household, pipeline: Pipeline, tenants: Sequence[str], stop: threading.Event
) -> None:
    while not stop.wait(0.05):
        for tenant in tenants:
            with house.database.begin() as tx:
                heads = tx.backlog.heads(POOL, tenant, 512)
                marked = tx.backlog.mark_published([one.id for one in heads])
            for version_id in {one.version_id for one in heads}:
                with house.database.read() as tx:
                    version = tx.models.by_id(version_id)
                assert version is not None
                ids = [one.id for one in heads if one.version_id == version_id and one.id in marked]
                offer(pipeline, ids, version, lane=Lane.BULK)


def submit_bulk(
    house: Household, version: ModelVersion, spec: BulkSpec, tenant: str | None = None
) -> str:
    """A bulk job, or an evaluation, of this version; its id."""
    job = _job(version, payload_of(spec), JobKind.BULK, priority=BULK_PRIORITY, max_attempts=1)
    with house.database.begin() as tx:
        tx.jobs.submit(tenant or house.tenant, [job])
        tx.bulk.create(tenant or house.tenant, [job])
    return job.id


def submit_group(
    house: Household,
    version: ModelVersion,
    inputs: Sequence[object],
    *,
    packed: Sequence[int] = (),
    tenant: str | None = None,
    pool: str = POOL,
) -> tuple[str, list[str]]:
    """A group of a job for each input, those at ``packed`` in a pack: its id, and theirs."""
    tenant, group_id, pack_id = tenant or house.tenant, new_id(), new_id()
    texts = [json.dumps(one).encode() for one in inputs]
    writer = PackWriter(pack_id)
    places = {at: writer.add(f"entry-{at}", texts[at]) for at in packed}
    key = pack_key(PackKind.INPUT, tenant, "2030-01-01", pack_id)
    jobs = [
        _job(version, places.get(at, text), JobKind.INFERENCE, pool=pool)
        for at, text in enumerate(texts)
    ]
    with house.database.begin() as tx:
        if places:
            body, summary = writer.finish()
            tx.packs.open(NewPack(pack_id, tenant, PackKind.INPUT, key))
            house.objects.put(key, body)
            assert tx.packs.publish(summary)
        tx.groups.create(tenant, group_id, len(jobs))
        tx.jobs.submit(tenant, jobs, group_id=group_id)
    return group_id, [job.id for job in jobs]


def _job(version: ModelVersion, payload: object, kind: JobKind, **fields: object) -> NewJob:
    return NewJob(
        id=new_id(),
        kind=kind,
        model_name=version.name,
        version_id=version.id,
        version=version.version,
        payload=payload,  # type: ignore[arg-type]
        **{"pool": POOL, **fields},  # type: ignore[arg-type]
    )
