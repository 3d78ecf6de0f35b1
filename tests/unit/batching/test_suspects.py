"""Who runs among how many, and when a failed job comes again."""

from __future__ import annotations

import pytest

from storage.records.jobs import ClaimedJob
from workers.inference.batching import UNLIMITED, companions_of, retry_delay_ms


@pytest.mark.parametrize(
    ("suspicions", "attempts", "company"),
    [(0, 0, UNLIMITED), (1, 0, 8), (2, 0, 1), (5, 0, 1), (0, 1, 8), (1, 1, 1), (0, 2, 1)],
)
def test_the_more_happened_around_a_job_the_fewer_it_endangers(
    suspicions: int, attempts: int, company: int
) -> None:
    job = ClaimedJob(
        id="00000000-0000-7000-8000-000000000000",
        tenant="t",
        epoch=1,
        version_id="v",
        priority=5,
        attempts=attempts,
        max_attempts=3,
        created_at=0,
        expires_at=1,
        run_deadline_at=1,
        payload=b"",
        suspicions=suspicions,
    )
    assert companions_of(job) == company


def test_retries_back_off() -> None:
    assert [retry_delay_ms(n, 2.0) for n in (0, 1, 2, 50)] == [2000, 4000, 8000, 512_000]
