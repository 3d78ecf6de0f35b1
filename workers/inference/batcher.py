"""The batcher's decisions, pure: what runs together, and in which bucket.

A forward pass takes batches of fixed sizes (buckets), as compilers want fixed shapes. With ``n``
rows waiting one may pad up to the next bucket or run a smaller, full one first; which is cheaper
depends on the measured time of each.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from storage.records.jobs import ClaimedJob, PackSlice

SUSPECT_CHUNK = 8
_GUESSED_OVERHEAD_ROWS = 32.0  # what a pass costs besides its rows, until it is measured


@dataclass(slots=True)
class LatencyModel:
    """Seconds per bucket: a moving mean each; unseen buckets by a line through the seen ones."""

    weight: float = 0.2
    _mean_s: dict[int, float] = field(default_factory=dict)
    _seen: dict[int, int] = field(default_factory=dict)

    def observe(self, bucket: int, seconds: float) -> None:
        """A pass took this long. The first of a bucket may have compiled: it is thrown away."""
        count = self._seen[bucket] = self._seen.get(bucket, 0) + 1
        if count == 1:
            return
        mean = self._mean_s.get(bucket)
        self._mean_s[bucket] = seconds if mean is None else mean + self.weight * (seconds - mean)

    def estimate_s(self, bucket: int) -> float:
        """Expected seconds of one pass. Without any sample only ratios mean something."""
        if bucket in self._mean_s:
            return self._mean_s[bucket]
        fixed, per_row = self._line()
        return fixed + per_row * bucket

    def _line(self) -> tuple[float, float]:
        points = sorted(self._mean_s.items())
        if not points:
            return _GUESSED_OVERHEAD_ROWS, 1.0
        if len(points) == 1:
            size, seconds = points[0]
            per_row = seconds / (_GUESSED_OVERHEAD_ROWS + size)
            return per_row * _GUESSED_OVERHEAD_ROWS, per_row
        n = len(points)
        mean_x = sum(x for x, _ in points) / n
        mean_y = sum(y for _, y in points) / n
        spread = sum((x - mean_x) ** 2 for x, _ in points)
        slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
        slope = max(slope, 0.0)
        return max(mean_y - slope * mean_x, 0.0), slope


def next_chunk(rows: int, sizes: Sequence[int], latency: LatencyModel) -> tuple[int, int]:
    """(rows to run now, bucket to run them in) of ``rows`` waiting; ``sizes`` ascending."""
    largest = sizes[-1]
    if rows >= largest:
        return largest, largest
    index = bisect_left(sizes, rows)
    up = sizes[index]
    if up == rows or index == 0:
        return rows, up
    down = sizes[index - 1]
    if latency.estimate_s(down) / down < latency.estimate_s(up) / rows:
        return down, down
    return rows, up


def suspect_chunk(job: ClaimedJob, max_batch: int) -> int:
    """With how many others a job may share the device.

    A job that already spent an attempt was on the device when something failed. It runs among
    few, and alone on its last attempt, so that only the culprit ever spends all of them.
    """
    if job.attempts == 0:
        return max_batch
    if job.attempts + 1 >= job.max_attempts:
        return 1
    return min(SUSPECT_CHUNK, max_batch)


def payload_bytes(job: ClaimedJob) -> int:
    """How much input the job brings."""
    payload = job.payload
    return payload.length_bytes if isinstance(payload, PackSlice) else len(payload)


def split(jobs: Sequence[ClaimedJob], *, max_batch: int, max_bytes: int) -> list[list[ClaimedJob]]:
    """Batches out of one claim: bounded in number and bytes, suspects apart from the others."""
    batches: list[list[ClaimedJob]] = []
    for allowed in sorted({suspect_chunk(job, max_batch) for job in jobs}, reverse=True):
        batch: list[ClaimedJob] = []
        size_bytes = 0
        for job in jobs:
            if suspect_chunk(job, max_batch) != allowed:
                continue
            more = payload_bytes(job)
            if batch and (len(batch) >= allowed or size_bytes + more > max_bytes):
                batches.append(batch)
                batch, size_bytes = [], 0
            batch.append(job)
            size_bytes += more
        if batch:
            batches.append(batch)
    return batches


def retry_delay_ms(attempts: int, first_s: float) -> int:
    """Doubling back-off: after ``attempts`` spent before this one."""
    return int(first_s * 1000 * 2 ** min(attempts, 8))
