"""Who is in the window: counts by version and class, by tenant, and when online work was seen."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from workers.inference.batching.candidate import Candidate

ONLINE_SEEN_S = 1.0  # so long after an online job was seen bulk work stays small


class Presence:
    """Counts that are asked for far more often than they could be counted anew."""

    def __init__(self) -> None:
        self.jobs = 0
        self._waiting: dict[tuple[str, bool], tuple[int, int]] = {}
        self._tenants: dict[str, int] = {}
        self._online_s: dict[str, float] = {}  # by version: when an online job was last seen

    @property
    def tenants(self) -> Collection[str]:
        return self._tenants.keys()

    def came(self, candidate: Candidate, now_s: float) -> None:
        self._count(candidate, 1)
        if not candidate.bulk:
            self._online_s[candidate.version_id] = now_s

    def left(self, candidates: Iterable[Candidate]) -> None:
        for candidate in candidates:
            self._count(candidate, -1)

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

    def _count(self, candidate: Candidate, by: int) -> None:
        self.jobs += by
        key = (candidate.version_id, candidate.bulk)
        jobs, rows = self._waiting.get(key, (0, 0))
        if jobs + by:
            self._waiting[key] = (jobs + by, rows + by * candidate.rows)
        else:
            del self._waiting[key]
        present = self._tenants.get(candidate.tenant, 0) + by
        if present:
            self._tenants[candidate.tenant] = present
        else:
            del self._tenants[candidate.tenant]
