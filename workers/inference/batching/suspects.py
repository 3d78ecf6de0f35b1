"""With how many others a job may share the device, given what happened around it before."""

from __future__ import annotations

from storage.records.jobs import ClaimedJob
from workers.inference.batching.candidate import UNLIMITED

SUSPECT_COMPANY = 8


def companions_of(job: ClaimedJob) -> int:
    """Most jobs of a pass that this one may be in, itself included.

    A suspicion is a death of the device process that it shared with others; a spent attempt is a
    failure of its own. With either it runs among a few others of its kind, with more it runs
    alone, so that a culprit is soon by itself and the innocents keep their attempts.
    """
    marks = job.suspicions + job.attempts
    if marks == 0:
        return UNLIMITED
    return SUSPECT_COMPANY if marks == 1 else 1
