"""Who is in the window: counts by version and class, by tenant, and when online work was seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set

from workers.inference.batching.candidate import Candidate

ONLINE_SEEN_S = 1.0  # so long after an online job was seen bulk work stays small


class Presence:
    """Counts that are asked for far more often than they could be counted anew."""

    def __init__(self) -> None:
        self.jobs = 0
        self._waiting: dict[tuple[str, bool], tuple[int, int]] = {}
        self._tenants: dict[bool, dict[str, int]] = {False: {}, True: {}}  # by ``bulk``
        self._online_s: dict[str, float] = {}  # by version: when an online job was last seen

    def tenants(self, bulk: bool) -> Set[str]:
        """Who has jobs of this class here."""
        return self._tenants[bulk].keys()

    def came(self, candidate: Candidate, now_s: float) -> bool:
        """True when its tenant had nothing of its class here before."""
        self._count(candidate.version_id, candidate.bulk, 1, candidate.rows)
        if not candidate.bulk:
            self._online_s[candidate.version_id] = now_s
        tenants = self._tenants[candidate.bulk]
        before = tenants.get(candidate.tenant, 0)
        tenants[candidate.tenant] = before + 1
        return not before

    def left(self, version_id: str, candidates: Sequence[Candidate]) -> None:
        """They are all of this version."""
        bulk_jobs = bulk_rows = rows = 0
        for candidate in candidates:
            tenants, tenant = self._tenants[candidate.bulk], candidate.tenant
            more = tenants[tenant] - 1
            if more:
                tenants[tenant] = more
            else:
                del tenants[tenant]
            rows += candidate.rows
            if candidate.bulk:
                bulk_jobs += 1
                bulk_rows += candidate.rows
        self._count(version_id, False, bulk_jobs - len(candidates), bulk_rows - rows)
        self._count(version_id, True, -bulk_jobs, -bulk_rows)

    def waiting(self, version_id: str, bulk: bool) -> tuple[int, int]:
        """(jobs, rows)"""
        return self._waiting.get((version_id, bulk), (0, 0))

    def online_versions(self, now_s: float) -> Iterator[str]:
        """Versions that online jobs wait for, or came for a moment ago."""
        for version_id, seen_s in list(self._online_s.items()):
            if now_s - seen_s <= ONLINE_SEEN_S or self.waiting(version_id, False)[0]:
                yield version_id
            else:
                del self._online_s[version_id]

    def _count(self, version_id: str, bulk: bool, jobs: int, rows: int) -> None:
        self.jobs += jobs
        key = (version_id, bulk)
        jobs_before, rows_before = self._waiting.get(key, (0, 0))
        if jobs_before + jobs:
            self._waiting[key] = (jobs_before + jobs, rows_before + rows)
        else:
            self._waiting.pop(key, None)
