"""Measured durations, summed up: a mean that one stall cannot poison, and a tail that shows it."""

from __future__ import annotations

from collections import deque

WEIGHT = 0.2  # of a new sample, once there are some
CLIP = 3.0  # a sample counts as at most so many times the mean
SURE = 3  # samples after which a mean is trusted enough to clip others
KEPT = 64  # samples the tail is told from
TAIL_FROM = 20  # samples below which a restored tail is better than the kept ones
_LEAST_S = 1e-9


class Duration:
    """One thing's duration: a moving mean, and the 95th percentile of the last samples.

    A plain average at first, then exponential. A sample is clipped for the mean (the process may
    have been off the processor), yet a true change of speed is followed within about 20 samples,
    as every clipped one still lifts the mean by 40 %. The tail is the exact 95th percentile of
    the last ``KEPT`` samples as they were.
    """

    __slots__ = ("_kept", "_restored_p95_s", "count", "mean_s")

    def __init__(self) -> None:
        self.count = 0
        self.mean_s = 0.0
        self._kept: deque[float] = deque(maxlen=KEPT)
        self._restored_p95_s = 0.0

    @classmethod
    def restored(cls, count: int, mean_s: float, p95_s: float) -> Duration:
        """As it was when it was last kept."""
        duration = cls()
        duration.count, duration.mean_s = max(1, count), mean_s
        duration._restored_p95_s = p95_s
        return duration

    def observe(self, seconds: float) -> None:
        """It took this long once more."""
        self._kept.append(seconds)
        if self.count >= SURE:
            seconds = min(seconds, CLIP * max(self.mean_s, _LEAST_S))
        self.count += 1
        self.mean_s += max(WEIGHT, 1 / self.count) * (seconds - self.mean_s)

    @property
    def p95_s(self) -> float:
        """Nineteen of twenty took no longer."""
        if not self._kept or (self._restored_p95_s and len(self._kept) < TAIL_FROM):
            return self._restored_p95_s or self.mean_s
        ordered = sorted(self._kept)
        return ordered[-(-len(ordered) * 95 // 100) - 1]


class Share:
    """Seconds per job, lately: both are summed and fade, so that large passes weigh more."""

    __slots__ = ("_jobs", "_seconds")
    FADE = 0.95

    def __init__(self) -> None:
        self._jobs = self._seconds = 0.0

    def begin(self, s_per_job: float) -> None:
        """Start from an earlier value, unless something was observed."""
        if not self._jobs and s_per_job > 0:
            self._jobs, self._seconds = 1.0, s_per_job

    def observe(self, jobs: int, seconds: float) -> None:
        """So many jobs took so long together."""
        self._jobs = self._jobs * self.FADE + jobs
        self._seconds = self._seconds * self.FADE + seconds

    @property
    def s_per_job(self) -> float:
        """0.0 before there is any sample."""
        return self._seconds / self._jobs if self._jobs else 0.0
