"""The pipeline on real storage (SQLite, a directory), without a broker in front of it."""

from __future__ import annotations

import hashlib
import json
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from storage.queue.lanes import Lane
from storage.records.errors import DatabaseUnavailable, ObjectsUnavailable
from storage.records.jobs import JobState
from storage.records.models import VersionState
from tests.support.bare_pipeline import offer, running_pipeline
from tests.support.household import Household, new_id, tensor
from tests.support.misbehaviour import NAN, POISON
from tests.support.numpy_runtime import Behaviour
from tests.support.waiting import wait_until


@pytest.fixture
def house(tmp_path: Path) -> Household:
    return Household.on_sqlite(tmp_path)


def answers(house: Household, ids: list[str], **options: Any) -> list[Any]:
    jobs = house.wait_terminal(ids, **options)
    return [house.result(job) for job in jobs]


def test_every_answer_belongs_to_its_question(house: Household, tmp_path: Path) -> None:
    """Single items and lists, of many sizes, in batches that need padding."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    inputs: list[dict[str, Any]] = []
    for n in range(400):
        if chance.random() < 0.3:
            inputs.append({"items": [tensor(n, k) for k in range(chance.randint(1, 40))]})
        else:
            inputs.append(tensor(n))
    with running_pipeline(house, tmp_path, max_batch=32) as pipeline:
        ids = house.submit(inputs)
        shuffled = chance.sample(ids, len(ids))
        notes = offer(pipeline, shuffled, house.version, chunk=chance.choice([1, 7, 64]))
        found = answers(house, ids)
        assert all(note.done.wait(10) for note in notes)
    for n, (asked, answer) in enumerate(zip(inputs, found, strict=True)):
        if "items" in asked:
            rows = [one["outputs"]["y"] for one in answer["items"]]
            assert rows == [[n, k, 0, 0] for k in range(len(asked["items"]))]
        else:
            assert answer["outputs"]["y"] == [n, 0, 0, 0]


def test_a_bad_item_fails_alone_and_its_batch_goes_on(house: Household, tmp_path: Path) -> None:
    inputs: list[Any] = [tensor(n) for n in range(10)]
    inputs[2] = {"tensor": ["words", 0, 0, 0]}
    inputs[4] = tensor(NAN)
    inputs[6] = {"items": [tensor(1), {"tensor": [1.0]}, tensor(NAN), tensor(3)]}
    inputs[8] = {"image": "aGk="}
    with running_pipeline(house, tmp_path) as pipeline:
        ids = house.submit(inputs)
        offer(pipeline, ids, house.version)
        jobs = house.wait_terminal(ids)
    failed = {n: job.error.code for n, job in enumerate(jobs) if job.error}
    assert failed.keys() == {2, 4, 8}
    assert failed[4] == "non_finite_output"
    for n in (0, 1, 3, 5, 7, 9):
        assert house.result(jobs[n])["outputs"]["y"][0] == n
    mixed = house.result(jobs[6])["items"]
    assert [("error" in one) for one in mixed] == [False, True, True, False]
    assert mixed[3]["outputs"]["y"][0] == 3
    assert [jobs[n].attempts for n in (2, 4, 5)] == [0, 1, 1]


def test_a_raising_item_is_found_by_halving_and_retried_until_its_attempts_are_spent(
    house: Household, tmp_path: Path
) -> None:
    inputs = [tensor(n) for n in range(64)]
    inputs[37] = tensor(POISON)
    with running_pipeline(house, tmp_path) as pipeline:
        ids = house.submit(inputs)
        offer(pipeline, ids, house.version)
        culprit = ids[37]
        house.wait_terminal([one for one in ids if one != culprit])
        for attempt in (1, 2):
            wait_until(lambda n=attempt: house.job(culprit).attempts == n, what="an attempt")
            assert house.job(culprit).state is JobState.QUEUED
            wait_until(lambda: claimable(house, culprit), what="the back-off to pass")
            offer(pipeline, [culprit], house.version)
        (job,) = house.wait_terminal([culprit])
    assert job.error is not None
    assert (job.error.code, job.error.attempt, job.attempts) == ("model_error", 3, 3)
    assert "poison" in job.error.message
    assert {one.attempts for one in house.jobs(ids) if one.id != culprit} == {1}


def claimable(house: Household, job_id: str) -> bool:
    with house.database.read() as tx:
        return bool(tx.backlog.heads("default", "default", 10)) and job_id is not None


def test_unknown_terminal_and_doubled_ids_are_simply_settled(
    house: Household, tmp_path: Path
) -> None:
    with running_pipeline(house, tmp_path) as pipeline:
        ids = house.submit([tensor(n) for n in range(3)])
        offer(pipeline, ids, house.version)
        house.wait_terminal(ids)
        again = offer(pipeline, [*ids, new_id(), "no id at all", ids[0]], house.version)
        assert all(note.done.wait(10) for note in again)
    assert [job.attempts for job in house.jobs(ids)] == [1, 1, 1]
    assert pipeline.intake.held() == 0


def test_a_message_with_the_wrong_version_does_no_harm(house: Household, tmp_path: Path) -> None:
    other = house.push("other")
    with running_pipeline(house, tmp_path) as pipeline:
        ids = house.submit([tensor(1)])
        (note,) = offer(pipeline, ids, other)
        assert note.done.wait(10)
        job = house.job(ids[0])
        assert (job.state, job.attempts, job.published_at) == (JobState.QUEUED, 0, None)
        offer(pipeline, ids, house.version)
        assert answers(house, ids)[0]["outputs"]["y"][0] == 1


def test_what_arrives_while_a_pass_runs_is_the_next_pass(house: Household, tmp_path: Path) -> None:
    behaviour = Behaviour()
    behaviour.gate.clear()
    with running_pipeline(house, tmp_path, behaviour) as pipeline:
        first, second, *rest = (house.submit([tensor(n)]) for n in range(60))
        offer(pipeline, first, house.version)
        assert behaviour.entered.acquire(timeout=10)
        offer(pipeline, second, house.version)
        late = [*second, *(one for ids in rest for one in ids)]
        offer(pipeline, late, house.version, chunk=1)
        wait_until(lambda: set(house.states(late)) == {JobState.RUNNING}, what="their claims")
        behaviour.gate.set()
        house.wait_terminal(late)
        assert behaviour.batches == [1, 64]


def test_two_tenants_in_one_batch_get_packs_of_their_own(house: Household, tmp_path: Path) -> None:
    with running_pipeline(house, tmp_path) as pipeline:
        mine = house.submit([tensor(1)])
        theirs = house.submit([tensor(2)], tenant="other")
        offer(pipeline, [*mine, *theirs], house.version)
        (a,) = house.wait_terminal(mine)
        (b,) = house.wait_terminal(theirs, tenant="other")
    assert a.result and b.result and a.result.pack_id != b.result.pack_id
    with house.database.read() as tx:
        packs = [tx.packs.get(job.result.pack_id) for job in (a, b) if job.result]
    assert [pack.tenant for pack in packs if pack] == ["default", "other"]
    assert [pack.key.split("/")[2] for pack in packs if pack] == ["default", "other"]


def test_a_cancelled_job_keeps_no_result(house: Household, tmp_path: Path) -> None:
    behaviour = Behaviour()
    behaviour.gate.clear()
    with running_pipeline(house, tmp_path, behaviour) as pipeline:
        ids = house.submit([tensor(1), tensor(2)])
        offer(pipeline, ids, house.version)
        assert behaviour.entered.acquire(timeout=10)
        with house.database.begin() as tx:
            tx.jobs.request_cancel("default", ids[0])
        behaviour.gate.set()
        jobs = house.wait_terminal(ids)
    assert [job.state for job in jobs] == [JobState.CANCELLED, JobState.SUCCEEDED]
    assert jobs[0].result is None


def test_inputs_in_packs_are_cut_out_and_a_damaged_one_fails_alone(
    house: Household, tmp_path: Path
) -> None:
    from dataclasses import replace

    from storage.objects.packs import PackWriter, pack_key
    from storage.records.packs import NewPack, PackKind

    pack_id, key = new_id(), ""
    key = pack_key(PackKind.INPUT, "default", "2099-01-01", pack_id)
    writer = PackWriter(pack_id)
    cuts = [writer.add(f"{n}", json.dumps(tensor(n)).encode()) for n in range(5)]
    data, summary = writer.finish()
    with house.database.begin() as tx:
        tx.packs.open(NewPack(pack_id, "default", PackKind.INPUT, key))
    house.objects.put(key, data)
    cuts[3] = replace(cuts[3], digest=hashlib.sha256(b"else").hexdigest())
    ids = submit_slices(house, cuts)
    with house.database.begin() as tx:
        tx.packs.publish(summary)
    with running_pipeline(house, tmp_path) as pipeline:
        offer(pipeline, ids, house.version)
        jobs = house.wait_terminal(ids)
    assert [job.error.code if job.error else None for job in jobs] == [
        None,
        None,
        None,
        "input_corrupt",
        None,
    ]
    assert [house.result(jobs[n])["outputs"]["y"][0] for n in (0, 1, 2, 4)] == [0, 1, 2, 4]


def submit_slices(house: Household, cuts: list[Any]) -> list[str]:
    from storage.records.jobs import JobKind, NewJob

    ids = [new_id() for _ in cuts]
    version = house.version
    with house.database.begin() as tx:
        tx.jobs.submit(
            "default",
            [
                NewJob(one, JobKind.INFERENCE, "echo", version.id, 1, "default", cut)
                for one, cut in zip(ids, cuts, strict=True)
            ],
        )
    return ids


class Flaky:
    """The house's object store, which can be switched off."""

    def __init__(self, house: Household) -> None:
        self._real = house.objects
        self.down = threading.Event()

    def __getattr__(self, name: str) -> Any:
        if self.down.is_set() and name in ("put", "get", "get_range", "get_to_file"):
            raise ObjectsUnavailable("switched off")
        return getattr(self._real, name)

    def probe(self) -> None:
        if self.down.is_set():
            raise ObjectsUnavailable("switched off")
        self._real.probe()


def test_while_objects_are_down_nothing_is_blamed_and_nothing_new_is_claimed(
    house: Household, tmp_path: Path
) -> None:
    behaviour = Behaviour()
    behaviour.gate.clear()
    flaky = Flaky(house)
    house.objects = flaky  # type: ignore[assignment]
    with running_pipeline(house, tmp_path, behaviour, put_patience_s=0.3) as pipeline:
        computed = house.submit([tensor(1)])
        offer(pipeline, computed, house.version)
        assert behaviour.entered.acquire(timeout=10)
        flaky.down.set()
        behaviour.gate.set()
        wait_until(lambda: house.states(computed) == [JobState.QUEUED], what="the release")
        later = house.submit([tensor(2)])
        offer(pipeline, later, house.version)
        assert not pipeline.claiming
        assert house.states(later) == [JobState.QUEUED]
        flaky.down.clear()
        offer(pipeline, computed, house.version)
        jobs = house.wait_terminal([*computed, *later])
    assert [job.attempts for job in jobs] == [1, 1]
    assert [house.result(job)["outputs"]["y"][0] for job in jobs] == [1, 2]


def test_while_the_database_is_down_a_computed_batch_waits_and_is_committed(
    house: Household, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behaviour = Behaviour()
    behaviour.gate.clear()
    real = house.database
    soon, down = threading.Event(), threading.Event()
    refused: set[str] = set()  # the threads that met it

    class Flapping:
        """Gone from the first commit on: what has to be stored before it is stored."""

        def __getattr__(self, name: str) -> Any:
            thread = threading.current_thread().name
            if name == "begin" and "commit" in thread and soon.is_set():
                soon.clear()
                down.set()
            if down.is_set() and name in ("begin", "read", "ping"):
                refused.add(thread)
                raise DatabaseUnavailable("switched off")
            return getattr(real, name)

    house.database = Flapping()  # type: ignore[assignment]
    with running_pipeline(house, tmp_path, behaviour) as pipeline:
        ids = house.submit([tensor(1)])
        (note,) = offer(pipeline, ids, house.version)
        assert behaviour.entered.acquire(timeout=10)
        soon.set()
        behaviour.gate.set()
        wait_until(
            lambda: any("commit" in name for name in refused), what="the commit to be refused"
        )
        wait_until(lambda: not pipeline.claiming, what="the gate to close")
        assert not note.done.is_set()
        down.clear()
        assert note.done.wait(10)
        (job,) = house.wait_terminal(ids)
    assert (job.state, job.attempts) == (JobState.SUCCEEDED, 1)


def test_an_uncertain_claim_is_left_to_the_reaper_of_its_session(
    house: Household, tmp_path: Path
) -> None:
    """The commit of a claim is lost on the way: nobody may wait for the job's own deadline."""
    from contextlib import contextmanager

    real, lose = house.database, threading.Event()

    class LosesAnswers:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        @contextmanager
        def begin(self, *, lasting: bool = True) -> Any:
            with real.begin(lasting=lasting) as tx:
                claims: list[Any] = []
                spied = SpyTransaction(tx, claims)
                yield spied
            if claims and lose.is_set():
                lose.clear()
                raise DatabaseUnavailable("the answer to COMMIT was lost")

    house.database = LosesAnswers()  # type: ignore[assignment]
    with running_pipeline(house, tmp_path, lease_ttl_s=1.0, renew_every_s=0.2) as pipeline:
        ids = house.submit([tensor(1)])
        wait_until(lambda: pipeline.versions.standing(house.version.id), what="x")
        lose.set()
        offer(pipeline, ids, house.version)
        wait_until(lambda: house.states(ids) == [JobState.RUNNING], what="the claim")

        def reaped() -> bool:
            with real.begin() as tx:
                return tx.jobs.reap() > 0

        wait_until(reaped, what="the retired session to be reaped")
        offer(pipeline, ids, house.version)
        (job,) = house.wait_terminal(ids)
    assert (job.state, job.attempts, job.losses) == (JobState.SUCCEEDED, 1, 1)


class SpyTransaction:
    def __init__(self, tx: Any, claims: list[Any]) -> None:
        self._tx, self._claims = tx, claims

    def __getattr__(self, name: str) -> Any:
        store = getattr(self._tx, name)
        return SpyJobs(store, self._claims) if name == "jobs" else store


class SpyJobs:
    def __init__(self, jobs: Any, claims: list[Any]) -> None:
        self._jobs, self._claims = jobs, claims

    def __getattr__(self, name: str) -> Any:
        if name == "claim":
            self._claims.append(name)
        return getattr(self._jobs, name)


def test_a_graceful_stop_finishes_the_running_batch_and_gives_the_rest_back_unspent(
    house: Household, tmp_path: Path
) -> None:
    behaviour = Behaviour()
    behaviour.gate.clear()
    with running_pipeline(house, tmp_path, behaviour, max_batch=1) as pipeline:
        running, claimed, waiting = (house.submit([tensor(n)]) for n in range(3))
        (first,) = offer(pipeline, running, house.version)
        assert behaviour.entered.acquire(timeout=10)
        (second,) = offer(pipeline, claimed, house.version)
        wait_until(lambda: house.states(claimed) == [JobState.RUNNING], what="the second claim")
        (third,) = offer(pipeline, waiting, house.version)
        done: list[bool] = []
        drainer = threading.Thread(target=lambda: done.append(pipeline.drain(lambda: None)))
        drainer.start()
        wait_until(lambda: house.states(claimed) == [JobState.QUEUED], what="the release")
        behaviour.gate.set()
        drainer.join(15)
        assert done == [True]
        assert (first.done.is_set(), second.done.is_set(), third.done.is_set()) == (
            True,
            True,
            False,
        )
    jobs = house.jobs([*running, *claimed, *waiting])
    assert [job.state for job in jobs] == [JobState.SUCCEEDED, JobState.QUEUED, JobState.QUEUED]
    assert [job.attempts for job in jobs] == [1, 0, 0]
    assert jobs[1].published_at is None
    with house.database.read() as tx:
        assert tx.sessions.live() == []


def test_a_session_that_lost_its_lease_cannot_write(house: Household, tmp_path: Path) -> None:
    behaviour = Behaviour()
    behaviour.gate.clear()
    with running_pipeline(house, tmp_path, behaviour) as pipeline:
        ids = house.submit([tensor(1)])
        (note,) = offer(pipeline, ids, house.version)
        assert behaviour.entered.acquire(timeout=10)
        old = pipeline.sessions.current()
        assert old is not None
        with house.database.begin() as tx:
            tx.sessions.close(old)
            tx.jobs.reap()
        behaviour.gate.set()
        assert note.done.wait(10)
        job = house.job(ids[0])
        assert (job.state, job.attempts, job.losses) == (JobState.QUEUED, 0, 1)
        pipeline.sessions.tick()
        assert pipeline.sessions.current() not in (None, old)
        offer(pipeline, ids, house.version)
        assert answers(house, ids)[0]["outputs"]["y"][0] == 1


def test_a_pushed_version_becomes_ready_without_any_job(house: Household, tmp_path: Path) -> None:
    with running_pipeline(house, tmp_path) as pipeline:
        pushed = house.push("later", ready=False)
        house.wait_ready(pushed)
        ids = house.submit([tensor(5)], version=pushed)
        offer(pipeline, ids, pushed)
        assert answers(house, ids)[0]["outputs"]["y"][0] == 5


def test_a_broken_version_fails_its_jobs_with_a_reason_and_does_so_again(
    house: Household, tmp_path: Path
) -> None:
    pushed = house.push("bad", b"broken", ready=False)
    with running_pipeline(house, tmp_path) as pipeline:
        before = house.submit([tensor(1)], version=pushed)
        (note,) = offer(pipeline, before, pushed)
        (job,) = house.wait_terminal(before)
        assert note.done.wait(10)
        assert job.error is not None and job.error.code == "bad_archive"
        assert house.version_now(pushed).state is VersionState.BROKEN
        after = house.submit([tensor(1)], version=pushed)  # a submit that raced the verdict
        (late,) = offer(pipeline, after, pushed)
        (job,) = house.wait_terminal(after)
        assert late.done.wait(10)
        assert job.state is JobState.FAILED


@pytest.mark.parametrize("ready", [False, True])
def test_an_artifact_that_changed_is_never_loaded(
    house: Household, tmp_path: Path, ready: bool
) -> None:
    pushed = house.push("altered", ready=ready)
    house.objects.delete([pushed.object_key])
    house.objects.put(pushed.object_key, b"somebody else's")
    behaviour = Behaviour()
    with running_pipeline(house, tmp_path, behaviour) as pipeline:
        ids = house.submit([tensor(1)], version=pushed)
        offer(pipeline, ids, pushed)
        (job,) = house.wait_terminal(ids)
    assert job.error is not None and job.error.code == "digest_mismatch"
    assert behaviour.loads == 0


def test_a_cached_artifact_that_changed_is_fetched_again(house: Household, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / f"{house.version.digest}.keras").write_bytes(b"torn")
    with running_pipeline(house, tmp_path) as pipeline:
        ids = house.submit([tensor(1)])
        offer(pipeline, ids, house.version)
        answers(house, ids)
    assert (cache / f"{house.version.digest}.keras").read_bytes() != b"torn"


def test_loading_one_version_does_not_hold_up_another(house: Household, tmp_path: Path) -> None:
    slow = house.push("slow")
    loading, go_on = threading.Event(), threading.Event()

    def load(version: Any, _: Path) -> None:
        if version.id == slow.id:
            loading.set()
            assert go_on.wait(20)

    with running_pipeline(house, tmp_path, Behaviour(load=load)) as pipeline:
        warm = house.submit([tensor(0)])
        offer(pipeline, warm, house.version)
        house.wait_terminal(warm)
        cold = house.submit([tensor(1)], version=slow)
        offer(pipeline, cold, slow)
        assert loading.wait(10)
        others = house.submit([tensor(n) for n in range(20)])
        offer(pipeline, others, house.version)
        house.wait_terminal(others)
        assert house.states(cold) == [JobState.QUEUED]
        go_on.set()
        house.wait_terminal(cold)


def test_the_least_recently_used_version_leaves_and_can_come_back(
    house: Household, tmp_path: Path
) -> None:
    versions = [house.push(f"m{n}") for n in range(3)]
    behaviour = Behaviour()
    with running_pipeline(house, tmp_path, behaviour, max_models=2) as pipeline:
        for version in [*versions, versions[0]]:
            ids = house.submit([tensor(1)], version=version)
            offer(pipeline, ids, version)
            house.wait_terminal(ids)
    assert behaviour.loads == 4


def test_a_version_out_of_reach_is_let_go_and_its_jobs_stay_queued(
    house: Household, tmp_path: Path
) -> None:
    def load(_: Any, __: Path) -> None:
        raise OSError("the device is busy")

    with running_pipeline(house, tmp_path, Behaviour(load=load), wait_patience_s=0.2) as pipeline:
        ids = house.submit([tensor(1)])
        (note,) = offer(pipeline, ids, house.version)
        assert note.done.wait(20)
        assert house.states(ids) == [JobState.QUEUED]


def test_a_reference_out_of_reach_waits_alone(house: Household, tmp_path: Path) -> None:
    """A listed prefix that does not answer holds up the jobs that point there, and no others."""
    listed = tmp_path / "listed"
    prefixes = (f"file://{listed}/",)
    with running_pipeline(house, tmp_path, ref_prefixes=prefixes) as pipeline:

        class Away:
            def size(self, key: str) -> int:
                raise ObjectsUnavailable("away")

        reader = pipeline.parts.decoder._refs
        reader._stores._opened[prefixes[0]] = Away()  # type: ignore[assignment]
        ids = house.submit([{"ref": f"file://{listed}/x.json"}, tensor(1)])
        offer(pipeline, ids, house.version)
        house.wait_terminal(ids[1:])
        wait_until(lambda: house.job(ids[0]).not_before > 0, what="the postponement")
        job = house.job(ids[0])
        assert (job.state, job.attempts) == (JobState.QUEUED, 0)
        assert job.not_before > job.created_at + 10_000
        assert pipeline.claiming


def test_a_dead_stage_is_noticed(house: Household, tmp_path: Path) -> None:
    with running_pipeline(house, tmp_path) as pipeline:
        assert pipeline.failure() is None
        pipeline._chains[Lane.NORMAL].claimed.close()  # the decode thread ends as if it had died
        wait_until(lambda: pipeline.failure() is not None, what="the watchdog's finding")
        assert "decode" in str(pipeline.failure())
