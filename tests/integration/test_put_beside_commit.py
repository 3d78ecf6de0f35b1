"""The pack of a few jobs is put beside their commit, which ends after it and never before.

On SQLite, which is told that it may have waiting writers here.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from storage.database import Database
from storage.records.errors import Conflict, ObjectsUnavailable
from storage.records.jobs import JobState
from tests.support.bare_pipeline import offer, running_pipeline
from tests.support.household import Household, tensor
from tests.support.misbehaviour import NAN
from tests.support.numpy_runtime import Behaviour
from tests.support.waiting import wait_until
from workers.inference import putting


class Slow:
    """The house's object store, whose puts wait, and fail when they are told to."""

    def __init__(self, house: Household) -> None:
        self._real = house.objects
        self.begun, self.go_on = threading.Semaphore(0), threading.Event()
        self.troubles: list[Exception] = []
        self.puts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def put(self, key: str, data: bytes) -> None:
        if not key.startswith("packs/"):
            self._real.put(key, data)
            return
        self.puts += 1
        self.begun.release()
        assert self.go_on.wait(20)
        if self.troubles:
            raise self.troubles.pop()
        self._real.put(key, data)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Household:
    monkeypatch.setattr(Database, "has_one_writer", False)
    return Household.on_sqlite(tmp_path)


@pytest.fixture
def slow(house: Household) -> Slow:
    slow = Slow(house)
    house.objects = slow  # type: ignore[assignment]
    return slow


def when_called(monkeypatch: pytest.MonkeyPatch, verb: str) -> threading.Event:
    """Set by the first call of this verb of a put, which goes on as ever."""
    called, real = threading.Event(), getattr(putting.Putting, verb)

    def noted(one: putting.Putting) -> None:
        called.set()
        real(one)

    monkeypatch.setattr(putting.Putting, verb, noted)
    return called


def test_the_statement_runs_beside_the_put_and_the_commit_after_it(
    house: Household, slow: Slow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(putting, "IN_TRANSACTION_S", 20)
    ran = when_called(monkeypatch, "require")
    with running_pipeline(house, tmp_path) as pipeline:
        ids = house.submit([tensor(1), tensor(NAN)])
        (note,) = offer(pipeline, ids, house.version)
        assert slow.begun.acquire(timeout=10)
        assert ran.wait(10), "the statement waited for the put"
        assert house.states(ids) == [JobState.RUNNING] * 2, "committed before it was stored"
        assert not note.done.is_set()
        slow.go_on.set()
        jobs = house.wait_terminal(ids)
        assert note.done.wait(10)
    assert [job.state for job in jobs] == [JobState.SUCCEEDED, JobState.FAILED]
    assert house.result(jobs[0])["outputs"]["y"][0] == 1
    assert slow.puts == 1


def test_a_put_that_takes_long_holds_no_transaction(
    house: Household, slow: Slow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up = when_called(monkeypatch, "finish")
    with running_pipeline(house, tmp_path) as pipeline:
        ids = house.submit([tensor(3)])
        offer(pipeline, ids, house.version)
        assert slow.begun.acquire(timeout=10)
        assert given_up.wait(10)
        with house.database.begin() as tx:  # somebody else writes
            assert tx.jobs.request_cancel(house.tenant, ids[0]) is not None
        slow.go_on.set()
        (job,) = house.wait_terminal(ids)
    assert (job.state, slow.puts) == (JobState.CANCELLED, 1), "the cancel came before the commit"


def test_a_put_that_fails_is_tried_again_and_blames_nobody(
    house: Household, slow: Slow, tmp_path: Path
) -> None:
    slow.go_on.set()
    slow.troubles = [ObjectsUnavailable("once"), ObjectsUnavailable("twice")]
    with running_pipeline(house, tmp_path) as pipeline:
        ids = house.submit([tensor(4)])
        offer(pipeline, ids, house.version)
        (job,) = house.wait_terminal(ids)
    assert (job.state, job.attempts, slow.puts) == (JobState.SUCCEEDED, 1, 3)
    assert house.result(job)["outputs"]["y"][0] == 4


def test_without_a_store_the_jobs_are_given_back_and_what_failed_has_failed(
    house: Household, slow: Slow, tmp_path: Path
) -> None:
    slow.go_on.set()
    slow.troubles = [ObjectsUnavailable("for long")] * 1_000
    with running_pipeline(house, tmp_path, put_patience_s=0.2) as pipeline:
        ids = house.submit([tensor(5), tensor(NAN)])
        offer(pipeline, ids, house.version)
        want = [JobState.QUEUED, JobState.FAILED]
        wait_until(lambda: house.states(ids) == want, what="the release")
    assert house.job(ids[0]).attempts == 0


def test_a_put_that_fails_for_a_reason_of_ours_spends_attempts(
    house: Household, slow: Slow, tmp_path: Path
) -> None:
    slow.go_on.set()
    slow.troubles = [Conflict("taken", code="object_exists")]
    with running_pipeline(house, tmp_path) as pipeline:
        ids = house.submit([tensor(6)], max_attempts=1)
        offer(pipeline, ids, house.version)
        (job,) = house.wait_terminal(ids)
    assert job.state is JobState.FAILED
    assert job.error is not None and job.error.code == "internal_error"


def test_many_jobs_are_stored_before_their_commit_begins(
    house: Household, slow: Slow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    begin = putting.Putters.begin

    def counted(one: putting.Putters, key: str, data: bytes) -> putting.Putting:
        begun.append(key)
        return begin(one, key, data)

    monkeypatch.setattr(putting.Putters, "begin", counted)
    slow.go_on.set()
    behaviour = Behaviour()
    behaviour.gate.clear()
    with running_pipeline(house, tmp_path, behaviour) as pipeline:
        first = house.submit([tensor(0)])
        offer(pipeline, first, house.version)
        assert behaviour.entered.acquire(timeout=10)
        many = house.submit([tensor(n) for n in range(1, 33)])
        offer(pipeline, many, house.version)
        wait_until(lambda: pipeline.parts.ready.waiting() == 32, what="the others to wait")
        behaviour.gate.set()
        jobs = house.wait_terminal([*first, *many])
    assert {job.state for job in jobs} == {JobState.SUCCEEDED}
    assert len(begun) == 1 < slow.puts, "only the first is one of few"
