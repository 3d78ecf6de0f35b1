"""News of jobs that changed: told with the commit, harmless whoever speaks or does not listen."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.database import Database, Transaction, work
from storage.database.jobs import leaving
from storage.database.news import (
    CHANNEL,
    MAX_PAYLOAD_BYTES,
    News,
    ids_of,
    payloads_of,
)
from storage.records.errors import DatabaseUnavailable
from storage.records.ids import uuid7, uuid7_series
from storage.records.jobs import JobError
from storage.records.training_runs import TrainingProgress
from tests.support.bulk import Owned
from tests.support.database import (
    ALICE,
    BOB,
    LEASE_MS,
    START_MS,
    ManualClock,
    claim,
    emptied,
    failure,
    new_id,
    new_jobs,
    new_version,
    open_session,
    retry,
    submit,
)
from tests.support.training import MADE, own_training
from tests.support.waiting import wait_until

DEADLINE_S = 20


@pytest.fixture
def postgresql(migrated_postgres_url: str, clock: ManualClock) -> Iterator[Database]:
    opened = emptied(Database.open(migrated_postgres_url, clock=clock))
    yield opened
    opened.close()


@pytest.fixture
def news(postgresql: Database) -> Iterator[News]:
    listening = postgresql.listen()
    assert listening is not None
    yield listening
    listening.close()


def heard(news: News, count: int) -> list[str]:
    """The next ``count`` ids or more."""
    found: list[str] = []
    deadline_s = time.monotonic() + DEADLINE_S
    while len(found) < count and time.monotonic() < deadline_s:
        found += news.wait(DEADLINE_S)
    return found


def notify(url: str, *payloads: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for payload in payloads:
            connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, payload))


class TestPacking:
    @given(st.lists(st.tuples(st.integers(1, 2**48 - 1), st.integers(0, 2**74 - 1)), max_size=60))
    def test_what_is_packed_comes_out_again_whatever_the_ids(self, parts):
        ids = {uuid7(*part) for part in parts}
        payloads = payloads_of(ids)
        assert sorted(one for told in payloads for one in ids_of(told.encode())) == sorted(ids)

    def test_a_largest_batch_of_unrelated_ids_is_one_notification(self):
        chance = random.Random(3)
        ids = [uuid7(START_MS + index // 8, chance.getrandbits(80)) for index in range(512)]
        (told,) = payloads_of(ids)
        assert len(told) <= MAX_PAYLOAD_BYTES
        assert ids_of(told.encode()) == sorted(ids)

    def test_a_request_of_thousands_is_one_notification(self):
        (told,) = payloads_of(uuid7_series(2_900, START_MS, 7))
        assert len(told) <= MAX_PAYLOAD_BYTES

    def test_more_than_fits_goes_in_several(self):
        chance = random.Random(4)
        ids = [uuid7(START_MS + 10_000 * index, chance.getrandbits(80)) for index in range(2_000)]
        payloads = payloads_of(ids)
        assert len(payloads) > 3
        assert max(map(len, payloads)) <= MAX_PAYLOAD_BYTES
        assert [one for told in payloads for one in ids_of(told.encode())] == ids

    def test_what_is_not_one_of_our_ids_is_not_told(self):
        other = "01a3185c-5000-4000-8000-000000000001"  # of version 4
        assert payloads_of(["", "x", other, "A" * 36]) == []

    @pytest.mark.parametrize(
        "payload",
        [
            *(b"", b"1", b"2AAAA", b"hello", b"1*", b"1AAA", b"1AA==", b"1Ag==", b"1/w==", b"\xff"),
            *(b"1" + b"/" * 7_996, b"1EP" + b"/" * 22),
        ],
    )
    def test_a_payload_of_anybodys_making_tells_nothing(self, payload):
        assert ids_of(payload) == []


def test_a_commit_tells_which_jobs_it_settled(postgresql, news):
    mine, theirs = submit(postgresql, ALICE, 2), submit(postgresql, BOB, 1)
    session = open_session(postgresql)
    jobs = claim(postgresql, session, mine + theirs)
    assert news.wait(0.05) == [], "a claim is no news"
    with postgresql.begin() as tx:
        tx.jobs.commit(session, [failure(jobs[0]), retry(jobs[1]), failure(jobs[2])])
        assert news.wait(0.05) == [], "not before the commit"
    assert sorted(heard(news, 3)) == sorted(mine + theirs)


def test_a_transaction_that_is_taken_back_tells_nothing(postgresql, news):
    (job_id,) = submit(postgresql)
    with pytest.raises(ZeroDivisionError), postgresql.begin() as tx:
        tx.jobs.request_cancel(ALICE, job_id)
        raise ZeroDivisionError
    (other,) = submit(postgresql)
    with postgresql.begin() as tx:
        tx.jobs.request_cancel(ALICE, other)
    assert heard(news, 1) == [other]


Way = Callable[[Transaction, str, str], object]
WAYS: dict[str, tuple[bool, int, Way]] = {
    "cancel": (False, 0, lambda tx, session, one: tx.jobs.request_cancel(ALICE, one)),
    "ask to stop": (True, 0, lambda tx, session, one: tx.jobs.request_cancel(ALICE, one)),
    "expire": (False, 10**8, lambda tx, session, one: tx.jobs.expire()),
    "reap": (True, LEASE_MS, lambda tx, session, one: tx.jobs.reap()),
    "time out": (True, 10**7, lambda tx, session, one: tx.jobs.time_out()),
    "blame": (True, 0, lambda tx, session, one: tx.jobs.blame(session, [one])),
    "release": (True, 0, lambda tx, session, one: tx.jobs.release(session, [(one, 1)])),
}


@pytest.mark.parametrize("way", list(WAYS))
def test_every_way_a_job_changes_is_told(postgresql, news, clock, way):
    running, after_ms, verb = WAYS[way]
    (job_id,) = submit(postgresql)
    session = open_session(postgresql)
    if running:
        claim(postgresql, session, [job_id])
    clock.pass_ms(after_ms)
    with postgresql.begin() as tx:
        assert verb(tx, session, job_id)
    assert heard(news, 1) == [job_id]


TOLD_BY_TRAININGS: dict[str, Callable[[Transaction, Owned], object]] = {
    "note": lambda tx, one: tx.training.note(*key(one), TrainingProgress(step=1)),
    "say": lambda tx, one: tx.training.note(*key(one), TrainingProgress(), lines=["a"]),
    "describe": lambda tx, one: tx.training.describe(*key(one), {}),
    "die": lambda tx, one: tx.training.died(*key(one)),
    "fail": lambda tx, one: tx.training.fail(*key(one), JobError("loss_is_nan", "no")),
    "finish": lambda tx, one: tx.training.finish(*key(one), {}, MADE),
    "pause": lambda tx, one: tx.training.pause(ALICE, one.job_id),
}


def key(owned: Owned) -> tuple[str, str, int]:
    return owned.job_id, owned.session_id, owned.epoch


@pytest.mark.parametrize("way", list(TOLD_BY_TRAININGS))
def test_whatever_a_training_writes_is_told(postgresql, news, way):
    owned = own_training(postgresql)
    with postgresql.begin() as tx:
        assert TOLD_BY_TRAININGS[way](tx, owned)
    assert heard(news, 1) == [owned.job_id]


def test_a_training_that_says_nothing_new_is_no_news(postgresql, news):
    owned = own_training(postgresql)
    for _ in range(2):
        with postgresql.begin() as tx:
            tx.training.note(*key(owned), TrainingProgress(step=1))
    assert heard(news, 1) == [owned.job_id]
    assert news.wait(0.05) == []


def test_a_cancelled_group_and_a_broken_version_are_told(postgresql, news):
    group, jobs, broken = new_id(), new_jobs(3), new_version(postgresql)
    ids = submit(postgresql, count=2, version_id=broken)
    with postgresql.begin() as tx:
        tx.groups.create(ALICE, group, 3)
        tx.jobs.submit(ALICE, jobs, group_id=group)
        tx.jobs.cancel_group(ALICE, group)
        assert tx.jobs.fail_version(broken, JobError("model_broken", "no")) == 2
    assert sorted(heard(news, 5)) == sorted(ids + [job.id for job in jobs])


def test_a_whole_largest_commit_is_told_to_every_listener(postgresql, news):
    ids = submit(postgresql, count=512)
    session = open_session(postgresql)
    jobs = claim(postgresql, session, ids)
    second = postgresql.listen()
    with postgresql.begin() as tx:
        tx.jobs.commit(session, [failure(job) for job in jobs])
    assert sorted(heard(news, 512)) == sorted(heard(second, 512)) == sorted(ids)
    second.close()


def test_nonsense_from_anybody_is_passed_over(postgresql, news, migrated_postgres_url):
    notify(migrated_postgres_url, "", "1", "hello", "1////", "é" * 1000, "1" + "A" * 7_000)
    (job_id,) = submit(postgresql)
    with postgresql.begin() as tx:
        tx.jobs.request_cancel(ALICE, job_id)
    assert job_id in heard(news, 1)


def test_waiting_ends_with_its_time(news):
    assert news.wait(0) == []
    assert news.wait(0.01) == []


def test_a_listener_whose_connection_died_says_so_and_a_new_one_hears_again(
    postgresql, news, migrated_postgres_url
):
    with psycopg.connect(migrated_postgres_url, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        )
    with pytest.raises(DatabaseUnavailable):
        heard(news, 1)
    with pytest.raises(DatabaseUnavailable):
        news.wait(0)
    again = postgresql.listen()
    (job_id,) = submit(postgresql)
    with postgresql.begin() as tx:
        tx.jobs.request_cancel(ALICE, job_id)
    assert heard(again, 1) == [job_id]
    again.close()


def test_closing_ends_a_wait_that_is_under_way(postgresql):
    listening = postgresql.listen()
    got: list[object] = []

    def wait() -> None:
        got.append(listening.wait(60))

    thread = threading.Thread(target=wait)
    thread.start()
    listening.close()
    thread.join(DEADLINE_S)
    assert got == [[]]
    listening.close()
    assert listening.wait(0) == []


def test_nobody_can_listen_where_nobody_answers(sqlite_url):
    nowhere = Database.open("postgresql://someone:canary-5ecret@127.0.0.1:1/forebay")
    with pytest.raises(DatabaseUnavailable) as error:
        nowhere.listen()
    assert "5ecret" not in str(error.value)
    plain = Database.open(sqlite_url)
    assert plain.listen() is None


def test_commits_go_on_while_a_listener_takes_nothing(postgresql, news, migrated_postgres_url):
    """Its backend fills the socket and then holds PostgreSQL's queue back; nobody waits for it."""
    big = "x" * MAX_PAYLOAD_BYTES
    notify(migrated_postgres_url, *[f"{index}{big}"[:MAX_PAYLOAD_BYTES] for index in range(1500)])
    with psycopg.connect(migrated_postgres_url, autocommit=True) as looking:

        def queued() -> bool:
            row = looking.execute("SELECT pg_notification_queue_usage()").fetchone()
            return row is not None and row[0] > 0

        wait_until(queued, DEADLINE_S, what="the queue to hold what the listener did not take")
    (job_id,) = submit(postgresql)
    with postgresql.begin() as tx:
        tx.jobs.request_cancel(ALICE, job_id)
    assert job_id in heard(news, 1)


def test_when_the_queue_fills_up_commits_stop_telling_rather_than_fail(
    monkeypatch, postgresql, news
):
    for module, name in ((work, "TELLING"), (leaving, "END")):
        full = getattr(module, name)
        text = full.text.replace("< 0.5", "< 0.0")
        assert text != full.text
        monkeypatch.setattr(module, name, replace(full, text=text))
    (ended,), (running,) = submit(postgresql), submit(postgresql)
    claim(postgresql, open_session(postgresql), [running])
    with postgresql.begin() as tx:
        tx.jobs.request_cancel(ALICE, ended)
        tx.jobs.request_cancel(ALICE, running)
    monkeypatch.undo()
    (other,) = submit(postgresql)
    with postgresql.begin() as tx:
        tx.jobs.request_cancel(ALICE, other)
    assert heard(news, 1) == [other]


def test_a_transaction_that_need_not_last_does_all_the_others_do(database):
    (job_id,) = submit(database)
    session = open_session(database)
    with database.begin(lasting=False) as tx:
        (job,) = tx.jobs.claim(session, [job_id])
    with pytest.raises(ZeroDivisionError), database.begin(lasting=False) as tx:
        tx.jobs.commit(session, [failure(job)])
        raise ZeroDivisionError
    with database.begin() as tx:
        assert tx.jobs.commit(session, [failure(job)]).settled


def test_only_the_transactions_that_need_not_last_do_not_wait_for_the_disk(database):
    def waits(lasting: bool) -> bool:
        with database.begin(lasting=lasting) as tx:
            connection = tx._work._connection
            if connection.dialect.name == "sqlite":
                return connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
            return connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"

    assert [waits(one) for one in (True, False, True, False, True)] == [
        *(True, False, True),
        *(False, True),
    ]
