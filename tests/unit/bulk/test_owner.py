"""Whatever goes wrong with it, a bulk job does not stay with an owner that is gone."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from storage.records.bulk import BulkInput, BulkOutput, BulkSpec, payload_of
from storage.records.errors import DatabaseUnavailable
from storage.records.jobs import ClaimedJob, Outcome, Verdict
from workers.bulk.kit import Kit, Stopped
from workers.bulk.owner import Owner

SESSION = "session"
SPEC = BulkSpec(BulkInput(("s3://in/x.parquet",)), BulkOutput())
JOB = ClaimedJob(
    id="job",
    tenant="ayla",
    epoch=1,
    version_id="version",
    priority=2,
    attempts=0,
    max_attempts=1,
    created_at=0,
    expires_at=0,
    run_deadline_at=0,
    payload=payload_of(SPEC),
)


class Household:
    """A database of which every read raises ``trouble``, and of which ``broken`` verbs do."""

    def __init__(self, trouble: Exception, *broken: str) -> None:
        self.trouble, self.broken = trouble, broken
        self.retired: list[str] = []
        self.outcomes: list[Outcome] = []
        sessions = SimpleNamespace(is_live=lambda _: True, retire=self.retired.append)
        gate = SimpleNamespace(trip=lambda _: None)
        self.kit = cast(
            Kit,
            SimpleNamespace(
                database=self,
                parts=SimpleNamespace(gate=gate, sessions=sessions),
                hurry=threading.Event(),
                stopping=lambda: False,
                holds=lambda _: True,
                patiently=lambda call, still=None: call(),
            ),
        )

    @contextlib.contextmanager
    def read(self) -> Iterator[Any]:
        raise self.trouble
        yield

    @contextlib.contextmanager
    def begin(self, *, lasting: bool = True) -> Iterator[Any]:
        yield SimpleNamespace(bulk=self, jobs=self)

    def fail(self, job_id: str, error: object) -> bool:
        self._meet("fail")
        return True

    def commit(self, session_id: str, outcomes: list[Outcome]) -> Any:
        self._meet("commit")
        self.outcomes += outcomes
        return SimpleNamespace(settled={one.id: None for one in outcomes})

    def _meet(self, verb: str) -> None:
        if verb in self.broken:
            raise RuntimeError(verb)


def owned(house: Household) -> Household:
    Owner(house.kit, JOB, SESSION, lambda: None).run()
    return house


@pytest.mark.parametrize("trouble", [Stopped(), DatabaseUnavailable("gone"), OSError("disk")])
def test_it_is_given_back_when_it_can_go_on_elsewhere(trouble):
    house = owned(Household(trouble))
    assert [one.verdict for one in house.outcomes] == [Verdict.RELEASED]
    assert not house.retired


def test_a_fault_of_ours_ends_it_even_without_a_manifest():
    house = owned(Household(RuntimeError("a fault of ours")))
    (outcome,) = house.outcomes
    assert outcome.verdict is Verdict.FAILED
    assert outcome.error is not None and outcome.error.code == "internal_error"
    assert not house.retired


@pytest.mark.parametrize("verb", ["fail", "commit"])
def test_the_session_ends_when_it_cannot_be_ended(verb):
    house = owned(Household(RuntimeError("a fault of ours"), verb))
    assert house.retired == [SESSION]
