"""The death of a device process: who is blamed, who is suspected, who is left alone.

No process dies here: a pass that would kill its process stops for good instead, the test buries
the pipeline around it as a supervisor would (with the ledger it left), and starts the next one.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from storage.queue.lanes import Lane
from storage.records.jobs import LIVE, JobState
from storage.records.models import ModelVersion, VersionState
from storage.records.sessions import NewSession
from tests.support.bare_pipeline import offer, running_pipeline
from tests.support.household import Household, new_id, tensor
from tests.support.misbehaviour import KILLER
from tests.support.numpy_runtime import Behaviour
from tests.support.waiting import wait_until
from workers.inference.ledger import Ledger, OnDevice, read
from workers.inference.ports import Array
from workers.settings import WorkerSettings
from workers.supervisor import LOADING_DEATHS, LoadingDeaths, settle_death


@pytest.fixture
def house(tmp_path: Path) -> Household:
    return Household.on_sqlite(tmp_path)


class Mortal:
    """A model's passes, one of which may be its process's last."""

    def __init__(self) -> None:
        self.dead, self.buried = threading.Event(), threading.Event()
        self.company: list[int] = []  # how many rows were on the device at each death

    def __call__(self, inputs: Mapping[str, Array]) -> None:
        if (inputs["x"] == KILLER).any():
            self.company.append(len({float(row[1]) for row in inputs["x"]}))
            self.dead.set()
            assert self.buried.wait(30)
            raise SystemError("what a dead process would have said")


def bury(house: Household, ledger: Path, mortal: Mortal) -> None:
    """What the supervisor does, with the ledger as it was at the death; then the keeper."""
    left = ledger.with_suffix(".left")
    shutil.copy(ledger, left)
    assert settle_death(house.database, left, LoadingDeaths())
    with house.database.begin() as tx:
        tx.jobs.reap()
    mortal.buried.set()


def test_only_what_was_on_the_device_is_suspected_and_not_what_was_claimed(
    house: Household, tmp_path: Path
) -> None:
    mortal, ledger = Mortal(), tmp_path / "ledger"
    behaviour = Behaviour(before_forward=mortal)
    behaviour.gate.clear()
    with running_pipeline(house, tmp_path, behaviour, ledger=ledger) as pipeline:
        first = house.submit([tensor(KILLER, n) for n in range(2)])
        offer(pipeline, first, house.version)
        assert behaviour.entered.acquire(timeout=10)
        claimed = house.submit([tensor(n) for n in range(4)])
        offer(pipeline, claimed, house.version)
        wait_until(lambda: set(house.states(claimed)) == {JobState.RUNNING}, what="the claims")
        behaviour.gate.set()
        assert mortal.dead.wait(10)
        bury(house, ledger, mortal)
        assert marks(house, first) == [(0, 1, 0)] * 2
        assert marks(house, claimed) == [(0, 0, 1)] * 4
        assert set(house.states([*first, *claimed])) == {JobState.QUEUED}


def marks(house: Household, ids: list[str]) -> list[tuple[int, int, int]]:
    """(attempts, suspicions, losses) of each: what another worker would be told."""
    losses = [job.losses for job in house.jobs(ids)]
    session_id = open_session(house)
    with house.database.begin() as tx:
        told = {job.id: job for job in tx.jobs.claim(session_id, ids)}
        tx.jobs.release(session_id, [(job.id, job.epoch) for job in told.values()])
    return [
        (told[one].attempts, told[one].suspicions, lost)
        for one, lost in zip(ids, losses, strict=True)
    ]


def test_a_culprit_is_quarantined_and_the_innocents_keep_their_attempts(
    house: Household, tmp_path: Path
) -> None:
    inputs = [tensor(n, n) for n in range(48)]
    inputs[29] = tensor(KILLER, 29)
    ids = house.submit(inputs)
    company: list[int] = []
    for life in range(12):
        open_ = [one for one in ids if house.job(one).state is JobState.QUEUED]
        if not open_:
            break
        mortal, ledger = Mortal(), tmp_path / f"ledger-{life}"
        with running_pipeline(house, tmp_path, Behaviour(before_forward=mortal), ledger=ledger) as (
            pipeline
        ):
            offer(pipeline, open_, house.version)
            if died(house, ids, mortal):
                bury(house, ledger, mortal)
        company += mortal.company[:1]
    jobs = house.jobs(ids)
    failed = [n for n, job in enumerate(jobs) if job.state is not JobState.SUCCEEDED]
    assert failed == [29]
    assert jobs[29].error is not None
    assert (jobs[29].error.code, jobs[29].attempts) == ("poison", 3)
    assert {job.attempts for job in jobs if job is not jobs[29]} == {1}
    assert company[0] > 8 and 1 < company[1] <= 8 and set(company[2:]) == {1}
    for n, job in enumerate(jobs):
        if n != 29:
            assert house.result(job)["outputs"]["y"][0] == n


def died(house: Household, ids: list[str], mortal: Mortal) -> bool:
    """Whether this life ends by a death; it ends anyway when every job is done."""

    def over() -> bool:
        return mortal.dead.is_set() or not LIVE & set(house.states(ids))

    wait_until(over, what="a death or the end")
    return mortal.dead.is_set()


def test_a_version_that_kills_its_worker_while_it_loads_is_broken_after_a_few_deaths(
    house: Household, tmp_path: Path
) -> None:
    other = house.push("fine")
    ids, fine = house.submit([tensor(1)]), house.submit([tensor(2)], version=other)
    deaths = LoadingDeaths()
    for death in range(LOADING_DEATHS):
        assert house.version_now(house.version).state is VersionState.READY, death
        path = tmp_path / f"ledger-{death}"
        Ledger(path).loading(house.version.id)
        assert settle_death(house.database, path, deaths)
    version = house.version_now(house.version)
    assert version.state is VersionState.BROKEN
    assert version.error is not None and version.error.startswith("kills_its_worker")
    (job,) = house.jobs(ids)
    assert job.state is JobState.FAILED
    assert job.error is not None and job.error.code == "kills_its_worker"
    assert house.states(fine) == [JobState.QUEUED]


def test_a_death_beside_a_pass_makes_the_load_and_the_jobs_suspects_and_nothing_more(
    house: Household, tmp_path: Path
) -> None:
    """A poison item that kills the process over and over while an innocent version is loaded."""
    other, deaths = house.push("innocent"), LoadingDeaths()
    told = deaths.environment(0.0)
    assert told == {"FOREBAY_WORKER_LOAD_ALONE": ""}
    for death in range(2 * LOADING_DEATHS):
        path = tmp_path / f"ledger-{death}"
        (job_id,) = ids = house.submit([tensor(1)], max_attempts=1)
        ledger, session_id = Ledger(path), open_session(house)
        with house.database.begin() as tx:
            tx.jobs.claim(session_id, ids)
        ledger.session(session_id)
        ledger.publish(0, session_id, ids)
        ledger.loading(other.id)
        assert settle_death(house.database, path, deaths)
        assert house.job(job_id).state is JobState.QUEUED, "it spent its only attempt"
        assert marks(house, ids) == [(0, 1, 0)]
    assert house.version_now(other).state is VersionState.READY
    told = deaths.environment(time.monotonic())
    assert told == {"FOREBAY_WORKER_LOAD_ALONE": other.id}
    assert WorkerSettings.from_environment(told).load_alone == (other.id,)


def test_a_suspected_version_is_loaded_while_no_pass_runs(house: Household, tmp_path: Path) -> None:
    """Else a death would leave the question open for ever."""
    other = house.push("suspected")
    behaviour, ledger = Behaviour(), tmp_path / "ledger"
    seen: list[OnDevice | None] = []

    def load(version: ModelVersion, _: Path) -> None:
        if version.id == other.id:
            seen.append(read(ledger))

    behaviour.load = load
    with running_pipeline(house, tmp_path, behaviour, ledger=ledger, load_alone=(other.id,)) as (
        pipeline
    ):
        warm = house.submit([tensor(1)])
        offer(pipeline, warm, house.version)
        house.wait_terminal(warm)
        behaviour.gate.clear()
        running, suspected = house.submit([tensor(2)]), house.submit([tensor(3)], version=other)
        assert behaviour.entered.acquire(timeout=10)  # the first of the warm ones
        offer(pipeline, running, house.version)
        assert behaviour.entered.acquire(timeout=10)
        offer(pipeline, suspected, other)
        wait_until(lambda: pipeline.parts.passes._held_up, what="the loader's turn")
        assert not seen, "it was loaded beside a pass"
        behaviour.gate.set()
        house.wait_terminal([*running, *suspected])
    (found,) = seen
    assert found is not None and found.loading == other.id and not found.passes


def open_session(house: Household) -> str:
    """As a worker opens its own."""
    session = NewSession(new_id(), "one", "host", "cpu", "default")
    with house.database.begin() as tx:
        tx.sessions.open(session, 10_000)
    return session.id


def test_a_death_long_after_a_load_accuses_no_version(house: Household, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with running_pipeline(house, tmp_path, ledger=ledger) as pipeline:
        ids = house.submit([tensor(1)])
        offer(pipeline, ids, house.version, lane=Lane.HIGH)
        house.wait_terminal(ids)
        found = read(ledger)
        assert found is not None and not found.at_work
    found = read(ledger)
    assert found is not None and found.session_id is None, "a graceful end blames nobody"


def test_what_is_being_loaded_is_in_the_ledger(house: Household, tmp_path: Path) -> None:
    ledger, loading, go_on = tmp_path / "ledger", threading.Event(), threading.Event()

    def load(*_: object) -> None:
        loading.set()
        assert go_on.wait(20)

    with running_pipeline(house, tmp_path, Behaviour(load=load), ledger=ledger) as pipeline:
        ids = house.submit([tensor(1)])
        offer(pipeline, ids, house.version)
        assert loading.wait(10)
        found = read(ledger)
        assert found is not None and found.loading == house.version.id
        go_on.set()
        house.wait_terminal(ids)
        found = read(ledger)
        assert found is not None and found.loading is None


def test_a_pass_past_everybodys_deadline_ends_the_process(
    house: Household, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.inference.pipeline._LATE_GRACE_S", 0.1)
    ledger = tmp_path / "ledger"
    behaviour = Behaviour()
    behaviour.gate.clear()
    with running_pipeline(house, tmp_path, behaviour, ledger=ledger) as pipeline:
        stuck = house.submit([tensor(1)], run_timeout_ms=300)
        offer(pipeline, stuck, house.version)
        assert behaviour.entered.acquire(timeout=10)
        waiting = house.submit([tensor(2)])
        offer(pipeline, waiting, house.version)
        wait_until(lambda: house.states(waiting) == [JobState.RUNNING], what="the claim")
        said = wait_until(pipeline.failure, what="the watchdog's finding")
        assert "deadline" in said
        assert not pipeline.drain(lambda: None), "a pass that hangs cannot be drained"
        assert house.states(waiting) == [JobState.QUEUED], "what waited was not given back"
        pipeline.close()
        found = read(ledger)
        assert found is not None and found.job_ids == tuple(stuck), "nobody could be blamed"
