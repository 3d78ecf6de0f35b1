"""A job's deadlines, told on this process's monotonic clock."""

from __future__ import annotations

from storage.records.jobs import ClaimedJob


def latest_start_s(job: ClaimedJob, claimed_s: float, pass_s: float) -> float:
    """The last moment at which a pass of ``pass_s`` seconds is of use to the job.

    ``claimed_s`` is the monotonic time just *before* the claim was sent: the database's clock was
    read after it, so the deadlines told from it are never too late, whatever the round trip.
    It must start before it expires, and end before its run deadline.
    """
    start_ms = min(
        job.expires_at - job.claimed_at, job.run_deadline_at - job.claimed_at - pass_s * 1000
    )
    return claimed_s + start_ms / 1000
