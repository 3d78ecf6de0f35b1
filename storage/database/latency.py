"""Latency: what workers measured of a version, kept for the next time it is loaded.

The last writer wins: rows are statistics of the same thing, and every worker goes on learning.
A measure that is no finite number is left out: JSON, in which rows travel, has none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from storage.database.statements import Statement
from storage.database.store import Store
from storage.records.ids import is_id
from storage.records.latency import LatencyRow, VersionCost

MOST_KEPT = 1_024  # buckets of a version on a kind of device

SAVE = Statement(
    "Measured passes of a version, by shape and size.",
    """
    INSERT INTO latency (version_id, device, shape, bucket, count, mean_s, p95_s, updated_at)
    SELECT version_id, device, shape, bucket, count, mean_s, p95_s, :now
    FROM {rows} AS r WHERE true ORDER BY version_id, device, shape, bucket
    ON CONFLICT (version_id, device, shape, bucket) DO UPDATE SET count = excluded.count,
        mean_s = excluded.mean_s, p95_s = excluded.p95_s, updated_at = excluded.updated_at
    """,
    {
        "version_id": "uuid",
        "device": "text",
        "shape": "text",
        "bucket": "integer",
        "count": "bigint",
        "mean_s": "double precision",
        "p95_s": "double precision",
    },
)

TRIM = Statement(
    "What was measured longest ago of a version on a kind of device makes room.",
    """
    DELETE FROM latency WHERE version_id = :id AND device = :device AND (shape, bucket) IN (
        SELECT l.shape, l.bucket FROM latency AS l
        WHERE l.version_id = :id AND l.device = :device
        ORDER BY l.updated_at DESC, l.shape, l.bucket LIMIT 1000000 OFFSET :most
    )
    """,
)

OF_VERSION = Statement(
    "Everything measured of a version.",
    """
    SELECT version_id, device, shape, bucket, count, mean_s, p95_s, updated_at
    FROM latency WHERE version_id = :id ORDER BY device, shape, bucket
    """,
)

SAVE_COSTS = Statement(
    "What versions cost on a kind of device.",
    """
    INSERT INTO version_costs (version_id, device, device_s_per_job, path_s_per_job, load_s,
        memory_bytes, safe_rows, updated_at)
    SELECT version_id, device, device_s_per_job, path_s_per_job, load_s, memory_bytes, safe_rows,
        :now
    FROM {rows} AS r WHERE true ORDER BY version_id, device
    ON CONFLICT (version_id, device) DO UPDATE SET
        device_s_per_job = excluded.device_s_per_job, path_s_per_job = excluded.path_s_per_job,
        load_s = excluded.load_s, memory_bytes = excluded.memory_bytes,
        safe_rows = excluded.safe_rows, updated_at = excluded.updated_at
    """,
    {
        "version_id": "uuid",
        "device": "text",
        "device_s_per_job": "double precision",
        "path_s_per_job": "double precision",
        "load_s": "double precision",
        "memory_bytes": "bigint",
        "safe_rows": "integer",
    },
)

COSTS = Statement(
    "The costs of versions, on every kind of device they ran on.",
    """
    SELECT version_id, device, device_s_per_job, path_s_per_job, load_s, memory_bytes, safe_rows,
        updated_at
    FROM version_costs WHERE version_id {among_ids} ORDER BY version_id, device
    """,
)


class Latency(Store):
    """What is known of versions' speed."""

    def save(self, rows: Sequence[LatencyRow]) -> None:
        """Write rows, replacing what was known of the same buckets. Times are set here. Beyond
        ``MOST_KEPT`` what was measured longest ago goes."""
        latest = {(row.version_id, row.device, row.shape, row.bucket): row for row in rows}
        given = [
            {
                "version_id": row.version_id,
                "device": row.device,
                "shape": row.shape,
                "bucket": row.bucket,
                "count": row.count,
                "mean_s": row.mean_s,
                "p95_s": row.p95_s,
            }
            for row in latest.values()
            if math.isfinite(row.mean_s + row.p95_s)
        ]
        if not given:
            return
        self._work.count(SAVE, now=self._work.now(), rows=self._work.table(given))
        for version_id, device in sorted({(row.version_id, row.device) for row in rows}):
            self._work.count(TRIM, id=version_id, device=device, most=MOST_KEPT)

    def of_version(self, version_id: str) -> list[LatencyRow]:
        """Every measured bucket of a version, on every kind of device."""
        if not is_id(version_id):
            return []
        return [LatencyRow(*list(row)) for row in self._work.rows(OF_VERSION, id=version_id)]

    def save_costs(self, costs: Sequence[VersionCost]) -> None:
        """Write costs, replacing what was known of the same version and kind of device."""
        latest = {(cost.version_id, cost.device): cost for cost in costs}
        given = [
            {
                "version_id": cost.version_id,
                "device": cost.device,
                "device_s_per_job": cost.device_s_per_job,
                "path_s_per_job": cost.path_s_per_job,
                "load_s": cost.load_s,
                "memory_bytes": cost.memory_bytes,
                "safe_rows": cost.safe_rows,
            }
            for cost in latest.values()
            if math.isfinite(cost.device_s_per_job + cost.path_s_per_job + cost.load_s)
        ]
        if given:
            self._work.count(SAVE_COSTS, now=self._work.now(), rows=self._work.table(given))

    def costs(self, version_ids: Sequence[str]) -> list[VersionCost]:
        """The costs of those of the versions that ran somewhere."""
        rows = self._work.rows(COSTS, ids=self._work.ids(version_ids))
        return [VersionCost(*list(row)) for row in rows]
