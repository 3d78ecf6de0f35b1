"""Only the rows that failed: from another run's error lines to shards that hold just those."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from storage.records.bulk import OUTPUT, BulkSpec, Part, Plan, ShardPlan, errors_of
from storage.records.errors import InvalidInput, NotFound
from storage.records.jobs import ClaimedJob
from workers.bulk.destination import OWN, output_prefix, own_store
from workers.bulk.error_lines import row_ids
from workers.bulk.files import ONLY
from workers.bulk.kit import Failed, Kit

_SHARD_ROWS = 20_000


def failed_rows(
    kit: Kit, job: ClaimedJob, spec: BulkSpec, base: str
) -> tuple[Plan, list[ShardPlan]]:
    """The other run's plan with another base, and shards around the rows of its error lines.

    Their positions go into an object of our own store: a shard reads those of its file.
    """
    old_id = spec.failed_rows_of
    assert old_id is not None
    with kit.database.read() as tx:
        old = tx.bulk.run(old_id, tenant=job.tenant)
        parts = tx.bulk.parts(old_id)
    if old is None or old.plan is None:
        raise Failed(NotFound(f"job {old_id} is gone", code="job_not_found"))
    positions = errors_of(list(row_ids(_lines(kit, parts))))
    if not positions:
        raise Failed(InvalidInput(f"job {old_id} has no failed rows", code="no_failed_rows"))
    shards: list[ShardPlan] = []
    places: dict[str, list[int]] = {}
    blob, at = b"", 0
    for file, found in sorted(positions.items()):
        places[str(file)] = [at, len(found)]
        blob += np.array(found, dtype="<i8").tobytes()
        at += len(found)
        for first in range(0, len(found), _SHARD_ROWS):
            some = found[first : first + _SHARD_ROWS]
            shards.append(ShardPlan(len(shards), file, some[0], some[-1] + 1))
    own = own_store(kit, job)
    key = own.keep(kit, job.tenant, f"_only-{job.epoch}.bin", blob, lambda: True)
    extra = {name: value for name, value in old.plan.extra.items() if name != OUTPUT}
    extra[OWN] = own.base
    ranges = [[one.file, one.start, one.stop] for one in shards]
    extra[ONLY] = {"key": key, "files": places, "ranges": ranges}
    if spec.output.uri is not None:
        extra[OUTPUT] = output_prefix(kit, spec.output.uri)
    return replace(old.plan, base=base, rows=at, extra=extra), shards


def _lines(kit: Kit, parts: Sequence[Part]) -> Iterator[bytes]:
    for one in parts:
        if one.part.errors_key is not None:
            yield from kit.objects.get(one.part.errors_key).splitlines()
