"""A slow claim is decoded in slices, and none of its inputs is brought twice for it."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

from storage.queue.lanes import Lane
from storage.records.jobs import ClaimedJob
from tests.support.numpy_runtime import echo_signature
from workers.inference.batch import Work
from workers.inference.batching import Candidate
from workers.inference.claim import Claimed
from workers.inference.credit import Credit
from workers.inference.decode_crew import SLICE_S, DecodeCrew
from workers.inference.decoding import Decoder
from workers.inference.waiting import Line

JOBS = 5


class Clock:
    """Every look at it is half a slice later, so that no slice holds more than a few jobs."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def monotonic_s(self) -> float:
        self._now_s += SLICE_S * 0.6
        return self._now_s


class Payloads:
    """Notes who was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def fetch(self, jobs: Sequence[ClaimedJob]) -> dict[str, bytes]:
        self.asked += [job.id for job in jobs]
        return {job.id: b'{"tensor": [1, 2, 3, 4]}' for job in jobs}


class Ready:
    """A window that is never full; notes in which portions candidates came."""

    def __init__(self) -> None:
        self.portions: list[list[str]] = []

    def wait_for_bytes(self, *_: object) -> bool:
        return True

    def estimate_s(self, *_: object) -> float:
        return 0.0

    def observe_stage(self, *_: object) -> None:
        pass

    def add(self, _lease: object, candidates: Sequence[Candidate]) -> bool:
        self.portions.append([candidate.job_id for candidate in candidates])
        return True


def test_a_slow_claim_reaches_the_window_in_slices_and_is_fetched_once() -> None:
    payloads, ready, clock = Payloads(), Ready(), Clock()
    meters = SimpleNamespace(stage=lambda *_: None)
    decoder = Decoder(
        cast(Any, payloads),
        cast(Any, SimpleNamespace(for_tenant=lambda _: None)),
        cast(Any, ready),
        Credit(64),
        cast(Any, clock),
        cast(Any, meters),
        DecodeCrew(1, clock.monotonic_s),
        max_bytes=1 << 20,
        stopping=lambda: False,
        trouble=_raise,
    )
    line = Line("v", Lane.NORMAL)
    works = [Work(_job(f"job-{n}"), "session", line, 0.0) for n in range(JOBS)]
    lease = SimpleNamespace(model=SimpleNamespace(signature=echo_signature()))
    lease.share, lease.release = (lambda: lease), (lambda: None)

    left = decoder.run(Claimed(works, cast(Any, {"v": lease})), refuse=_refuse)

    ids = [work.job.id for work in works]
    assert left == []
    assert [job_id for portion in ready.portions for job_id in portion] == ids
    assert len(ready.portions) > 1
    assert payloads.asked == ids


def _job(identifier: str) -> ClaimedJob:
    return ClaimedJob(identifier, "t", 1, "v", 5, 0, 3, 0, 1, 1, b"")


def _raise(trouble: Exception) -> None:
    raise trouble


def _refuse(batch: object) -> None:
    raise AssertionError(f"nothing is wrong with {batch}")
