"""Single jobs written together: one transaction, and each caller's answer is his own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from producers.settings import ApiSettings
from producers.submission import Accepted, Submission
from storage.clock import SystemClock
from storage.database import Database
from storage.database.jobs import Jobs
from storage.queue.lanes import Lane
from storage.records.errors import DatabaseUnavailable, InvalidInput, NotFound, Overloaded
from tests.support.api import ApiHouse

JOB = {"model": "vectors", "input": {"tensor": [1, 2, 3, 4]}}


class Window:
    """A relay that takes whatever comes, and looks whether it is committed by then."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.places = 0
        self.sent: list[str] = []
        self.booked: list[tuple[str, int, Lane]] = []

    def reserve(self, pool: str, tenant: str, jobs: int, lane: Lane) -> Lane | None:
        self.places += jobs
        self.booked.append((tenant, jobs, lane))
        return lane

    def release(self, pool: str, jobs: int) -> None:
        self.places -= jobs

    def send(self, entries) -> None:
        with self.database.read() as tx:
            for entry in entries:
                (found,) = tx.jobs.get_many(entry.tenant, [entry.job_id])
                assert found.published_at is not None and found.state == "queued"
        self.sent += [entry.job_id for entry in entries]


class Desk:
    """The submission behind the routes, without HTTP before it."""

    def __init__(self, house, **changes) -> None:
        self.house = house
        self.window = Window(house.database)
        self.pokes = 0
        self.submission = Submission(
            house.database,
            house.objects,
            ApiSettings(**changes),
            SystemClock(),
            self._poke,
            express=self.window,
        )

    def _poke(self) -> None:
        self.pokes += 1

    def asked(self, tenant="default", key=None, **fields):
        body = json.dumps({**JOB, **fields}).encode()
        return self.submission.read(tenant, body, key)

    def submit(self, *asked):
        return self.submission.together(asked)

    def jobs(self, tenant="default"):
        with self.house.database.read() as tx:
            from storage.records.jobs import JobFilter

            return {job.id: job for job in tx.jobs.list(tenant, JobFilter(), limit=500, after=None)}


@pytest.fixture
def desk(quiet_house) -> Desk:
    quiet_house.push()
    return Desk(quiet_house)


@contextmanager
def counted_writes(database: Database, monkeypatch) -> Iterator[list[int]]:
    """How many transactions were begun."""
    usual, begun = database.begin, [0]

    def begin(**more):
        begun[0] += 1
        return usual(**more)

    with monkeypatch.context() as patch:
        patch.setattr(database, "begin", begin)
        yield begun


def ids_of(answers) -> list[str]:
    assert all(isinstance(answer, Accepted) for answer in answers), answers
    return [answer.job.id for answer in answers]


def test_many_callers_are_one_transaction_and_each_gets_his_job(desk, monkeypatch):
    asked = [desk.asked(custom_id=f"c{n}", priority=n % 10) for n in range(50)]
    with counted_writes(desk.house.database, monkeypatch) as begun:
        answers = desk.submit(*asked)
    assert begun == [1]
    stored = desk.jobs()
    for index, answer in enumerate(answers):
        assert answer.job.custom_id == f"c{index}" and not answer.replayed
        assert answer.job == stored[answer.job.id]  # what is told is what was written
    assert len(stored) == 50
    with desk.house.database.read() as tx:
        for job_id in stored:
            assert tx.jobs.payload("default", job_id) == b'{"tensor":[1,2,3,4]}'


def test_a_refusal_is_one_callers_alone(desk):
    answers = desk.submit(
        desk.asked(),
        desk.asked(model="nobody"),
        desk.asked(input={"tensor": [1]}),
        desk.asked(model="vectors:7"),
        desk.asked(input={"ref": "forebay://files/0190aaaa-0000-7000-8000-000000000000"}),
        desk.asked(),
    )
    codes = [getattr(answer, "stable_code", "accepted") for answer in answers]
    assert codes == [
        "accepted",
        "model_not_found",
        "wrong_shape",
        "version_not_found",
        "file_not_found",
        "accepted",
    ]
    assert set(desk.jobs()) == {answers[0].job.id, answers[-1].job.id}


def test_what_the_database_refuses_of_one_is_written_of_the_others(desk, monkeypatch):
    """Found out only in the write: it is taken apart until the one at fault is alone."""
    asked = [desk.asked(custom_id=f"c{n}") for n in range(20)]
    asked[13] = desk.asked(metadata={"k": "\U0001f600" * 512})
    answers = desk.submit(*asked)
    assert isinstance(answers[13], InvalidInput) and answers[13].stable_code == "metadata_too_long"
    others = [answer for index, answer in enumerate(answers) if index != 13]
    assert set(ids_of(others)) == set(desk.jobs())
    assert len(desk.jobs()) == 19
    # Places that were booked for what was rolled back are free again, and nobody was told of it.
    assert desk.window.places == 19 and sorted(desk.window.sent) == sorted(desk.jobs())


def test_the_unforeseen_in_one_is_not_the_others(desk, monkeypatch):
    usual = desk.submission._drafting._resolver.check_inputs

    def check(requests, *more, **named):
        if requests[0].custom_id == "odd":
            raise RuntimeError("a bug")
        return usual(requests, *more, **named)

    monkeypatch.setattr(desk.submission._drafting._resolver, "check_inputs", check)
    good, odd, better = desk.submit(desk.asked(), desk.asked(custom_id="odd"), desk.asked())
    assert isinstance(odd, RuntimeError)
    assert set(ids_of([good, better])) == set(desk.jobs())


def test_one_key_twice_in_one_write_is_one_job(desk):
    first, other, again, third = desk.submit(
        desk.asked(key="k"), desk.asked(), desk.asked(key="k"), desk.asked(key="k")
    )
    assert not first.replayed and again.replayed and third.replayed
    assert first.job.id == again.job.id == third.job.id
    assert set(desk.jobs()) == {first.job.id, other.job.id}
    (later,) = desk.submit(desk.asked(key="k"))
    assert later.replayed and later.job.id == first.job.id


def test_one_key_for_two_bodies_in_one_write_is_a_mismatch_of_the_second(desk):
    first, other = desk.submit(desk.asked(key="k"), desk.asked(key="k", priority=1))
    assert isinstance(first, Accepted)
    assert other.stable_code == "idempotency_mismatch"
    assert set(desk.jobs()) == {first.job.id}


def test_a_key_is_free_again_when_the_first_with_it_was_refused(desk):
    refused, taken = desk.submit(desk.asked(key="k", model="nobody"), desk.asked(key="k"))
    assert isinstance(refused, NotFound) and not taken.replayed
    assert set(desk.jobs()) == {taken.job.id}


def test_a_twin_whose_first_failed_in_the_write_is_tried_itself(desk):
    long = {"k": "\U0001f600" * 512}
    answers = desk.submit(
        desk.asked(key="k", metadata=long), desk.asked(key="k", metadata=long), desk.asked(key="k")
    )
    assert [getattr(a, "stable_code", "accepted") for a in answers] == [
        "metadata_too_long",
        "metadata_too_long",
        "accepted",
    ]
    assert set(desk.jobs()) == {answers[2].job.id}


def test_known_keys_are_replayed_beside_new_jobs(desk):
    (before,) = desk.submit(desk.asked(key="old"))
    known, new, mismatch = desk.submit(
        desk.asked(key="old"), desk.asked(key="new"), desk.asked(key="old", priority=0)
    )
    assert known.replayed and known.job == before.job
    assert not new.replayed
    assert mismatch.stable_code == "idempotency_mismatch"
    assert set(desk.jobs()) == {before.job.id, new.job.id}


def test_writes_with_the_same_keys_in_any_order_never_stand_in_each_others_way(desk):
    """Two processes write the same keys at once, each group in an order of its own."""
    keys = [f"k{n}" for n in range(30)]
    start = threading.Barrier(4)

    def write(turn):
        order = keys[turn * 7 :] + keys[: turn * 7]
        if turn % 2:
            order.reverse()
        start.wait()
        answers = desk.submit(*(desk.asked(key=key) for key in order))
        return dict(zip(order, answers, strict=True))

    with ThreadPoolExecutor(4) as pool:
        rounds = list(pool.map(write, range(4)))
    for key in keys:
        answers = [one[key] for one in rounds]
        assert len(set(ids_of(answers))) == 1
        assert sum(not answer.replayed for answer in answers) == 1
    assert len(desk.jobs()) == 30


def test_tenants_in_one_write_do_not_meet(desk):
    desk.house.push(name="theirs", tenant="acme")
    mine, foreign, theirs, same_key = desk.submit(
        desk.asked(key="k"),
        desk.asked("acme"),
        desk.asked("acme", model="theirs", key="k"),
        desk.asked(model="theirs"),
    )
    assert isinstance(mine, Accepted) and isinstance(theirs, Accepted)
    assert mine.job.id != theirs.job.id and not theirs.replayed
    assert foreign.stable_code == same_key.stable_code == "model_not_found"
    assert (set(desk.jobs()), set(desk.jobs("acme"))) == ({mine.job.id}, {theirs.job.id})


def test_a_backlog_takes_as_many_as_fit(quiet_house):
    quiet_house.push()
    desk = Desk(quiet_house, max_backlog_jobs=5)
    answers = desk.submit(*(desk.asked() for _ in range(8)))
    assert [isinstance(answer, Overloaded) for answer in answers] == [False] * 5 + [True] * 3
    assert len(desk.jobs()) == 5


def test_large_inputs_among_small_ones_keep_their_pack(desk):
    items = [{"tensor": [n + 0.123456789] * 4} for n in range(1000)]
    small, large = desk.submit(desk.asked(), desk.asked(input={"items": items}))
    with desk.house.database.read() as tx:
        assert tx.jobs.payload("default", small.job.id) == b'{"tensor":[1,2,3,4]}'
        slice_ = tx.jobs.payload("default", large.job.id)
        assert tx.packs.get(slice_.pack_id).state == "live"


def test_a_database_that_does_not_answer_is_everybodys(desk, monkeypatch):
    def submit_each(*_, **__):
        raise DatabaseUnavailable("gone")

    monkeypatch.setattr(Jobs, "submit_each", submit_each)
    answers = desk.submit(desk.asked(), desk.asked(model="nobody"), desk.asked())
    assert [type(answer) for answer in answers] == [
        DatabaseUnavailable,
        NotFound,
        DatabaseUnavailable,
    ]
    assert desk.window.places == 0 and desk.window.sent == []


def test_nothing_is_known_without_a_database(desk, monkeypatch):
    def begin(**_):
        raise DatabaseUnavailable("gone")

    monkeypatch.setattr(desk.house.database, "begin", begin)
    answers = desk.submit(desk.asked(), desk.asked(model="nobody"))
    assert [type(answer) for answer in answers] == [DatabaseUnavailable] * 2
    assert desk.window.places == 0 and desk.window.sent == []


def test_a_row_lock_that_outlasts_patience_is_everybodys_and_waited_for_once(
    request, postgres_database_url
):
    """Whoever's question met it: after an error its transaction is of no use for the others'."""
    patience_s = 0.3
    url = f"{postgres_database_url}?options=-c%20lock_timeout%3D{int(1000 * patience_s)}"
    database = Database.open(url)
    request.addfinalizer(database.close)
    database.migrate()
    with database.begin() as tx:
        for tenant in ("default", "acme"):
            tx.tenants.ensure(tenant)
    desk = Desk(ApiHouse("full", database, None, None))
    with psycopg.connect(postgres_database_url) as other:
        other.execute("LOCK TABLE live IN ACCESS EXCLUSIVE MODE")
        began_s = time.monotonic()
        answers = desk.submit(*(desk.asked(t) for t in ("default", "acme", "default", "acme")))
        took_s = time.monotonic() - began_s
    assert [type(answer) for answer in answers] == [DatabaseUnavailable] * 4
    assert took_s < 2 * patience_s, "somebody waited once more, after it was known"


def test_a_commit_that_fails_gives_the_places_back(desk, monkeypatch):
    usual = desk.house.database.begin

    @contextmanager
    def begin(**more):
        with usual(**more) as tx:
            yield tx
            raise DatabaseUnavailable("lost at the commit")

    monkeypatch.setattr(desk.house.database, "begin", begin)
    (answer,) = desk.submit(desk.asked())
    assert isinstance(answer, DatabaseUnavailable)
    assert (desk.window.places, desk.window.sent, desk.jobs()) == (0, [], {})


def test_classes_are_booked_in_their_lanes(desk):
    answers = desk.submit(desk.asked(), desk.asked(priority=8), desk.asked(priority=2))
    assert desk.window.booked == [
        ("default", 1, lane) for lane in (Lane.NORMAL, Lane.HIGH, Lane.BULK)
    ]
    assert sorted(desk.window.sent) == sorted(ids_of(answers))
    assert desk.pokes == 0  # there is nothing left for a look to find


def test_without_a_place_jobs_wait_in_the_backlog(desk):
    desk.window.reserve = lambda *_: None
    (answer,) = desk.submit(desk.asked())
    assert desk.jobs()[answer.job.id].published_at is None
    assert desk.window.sent == [] and desk.pokes == 1


def test_many_go_express_as_one(desk):
    body = json.dumps({"jobs": [{**JOB, "priority": p} for p in (1, 5, 9)]}).encode()
    accepted = desk.submission.many("default", body, "k")
    stored = desk.jobs()
    assert all(job.published_at is not None for job in stored.values())
    assert sorted(desk.window.sent) == sorted(id_ for id_, _ in accepted.jobs)
    again = desk.submission.many("default", body, "k")
    assert again.replayed and desk.window.places == 3


def test_concurrent_requests_share_transactions(quiet_house, monkeypatch):
    """Through the door: what comes while a write is under way goes along with the next."""
    house = quiet_house
    house.push()
    house.start()
    gate, inside = threading.Event(), threading.Event()
    usual, sizes = house.service.submission.together, []

    def held(asked):
        sizes.append(len(asked))
        inside.set()
        assert gate.wait(20)
        return usual(asked)

    house.service._singles._answer = held
    monkeypatch.setattr("producers.api.together.PATIENCE_S", 1000)
    try:
        with ThreadPoolExecutor(12) as pool:
            first = pool.submit(house.http.post, "/v1/jobs", json=JOB)
            assert inside.wait(10)
            rest = [
                pool.submit(house.http.post, "/v1/jobs", json={**JOB, "custom_id": f"c{n}"})
                for n in range(10)
            ]
            waiting = house.service._singles._waiting
            while len(waiting) < 10:
                threading.Event().wait(0.005)
            gate.set()
            answers = [one.result(20) for one in rest]
        assert first.result().status_code == 202 and sizes == [1, 10]
        assert [answer.json()["custom_id"] for answer in answers] == [f"c{n}" for n in range(10)]
    finally:
        house.stop()
