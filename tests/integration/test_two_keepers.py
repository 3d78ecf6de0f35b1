"""Two keepers with all their duties, each in threads of its own, over one workload on PostgreSQL:
whatever a duty does is done once."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from storage.clock import Clock, SystemClock
from storage.database import Database
from storage.objects import open_objects
from storage.records.jobs import TERMINAL, JobState
from storage.records.packs import NewPack, PackKind
from storage.records.sessions import NewSession
from storage.records.trials import Limits, TrialKind, TrialState
from storage.records.webhook_guard import Guard
from tests.support.household import Household, new_id, tensor
from tests.support.receiver import Receiver, receiving
from tests.support.trials import answer, begin
from tests.support.waiting import wait_until
from workers.keeper.abandoned_trainings import AbandonedTrainings, AbandonedTrainingsConfig
from workers.keeper.artifact_collection import ArtifactCollection, ArtifactCollectionConfig
from workers.keeper.duty import Duty
from workers.keeper.expiry import Expiry, ExpiryConfig
from workers.keeper.group_completion import GroupCompletion, GroupCompletionConfig
from workers.keeper.loop import Keeper, standard_duties
from workers.keeper.pack_collection import PackCollection, PackCollectionConfig
from workers.keeper.reaper import Reaper, ReaperConfig
from workers.keeper.retention import Retention, RetentionConfig
from workers.keeper.sweep import Sweep, SweepConfig
from workers.keeper.trials import Trials, TrialsConfig
from workers.keeper.webhook_delivery import WebhookDelivery, WebhookDeliveryConfig

JOBS = 200
WAITING = "SELECT id FROM live WHERE shadow_of IS NOT NULL AND state = 'queued'"
TWICE = "SELECT shadow_of FROM jobs WHERE shadow_of IS NOT NULL GROUP BY 1 HAVING count(*) > 1"
ENDED = "SELECT DISTINCT shadow_of FROM ends WHERE shadow_of IS NOT NULL AND state = 'succeeded'"
DAY_MS = 86_400_000


def eager(receiver: Receiver) -> list[Duty]:
    """All of them, far more often than anybody would, and a few rows at a time: they meet."""
    return [
        WebhookDelivery(
            WebhookDeliveryConfig(every_s=0.01, held=16),
            guard=Guard((f"127.0.0.1:{receiver.port}",)),
        ),
        Sweep(SweepConfig(every_s=0.01, publish_ttl_s=0.0, limit=7)),
        Reaper(ReaperConfig(every_s=0.01, limit=7)),
        Expiry(ExpiryConfig(every_s=0.01, limit=7)),
        GroupCompletion(GroupCompletionConfig(every_s=0.01, limit=2)),
        PackCollection(PackCollectionConfig(every_s=0.01, again_s=0.0, limit=7)),
        Retention(RetentionConfig(every_s=0.01, again_s=0.0, limit=7)),
        AbandonedTrainings(AbandonedTrainingsConfig(every_s=0.01, limit=7)),
        Trials(TrialsConfig(every_s=0.01, most_live=7, compare=3)),
        ArtifactCollection(ArtifactCollectionConfig(every_s=0.01, limit=7)),
    ]


@contextmanager
def two_keepers(
    house: Household, url: str, receiver: Receiver, clock: Clock | None = None
) -> Iterator[None]:
    """Each with a database of its own, as in processes of their own."""
    stop = threading.Event()
    databases = [Database.open(url, clock=clock) for _ in range(2)]
    threads = [
        threading.Thread(target=Keeper(one, house.objects, eager(receiver)).run, args=(stop,))
        for one in databases
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
        for database in databases:
            database.close()
    assert not any(thread.is_alive() for thread in threads)


@pytest.fixture
def house(postgres_database_url: str, tmp_path: Path) -> Iterator[Household]:
    database = Database.open(postgres_database_url)
    yield Household(database, open_objects(f"file://{tmp_path}/objects"))
    database.close()


def query(house: Household, sql: str) -> list[tuple[object, ...]]:
    with house.database._engines.reading.connect() as connection:
        return [tuple(row) for row in connection.execute(text(sql))]


def test_whatever_two_keepers_do_is_done_once(
    house: Household, postgres_database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with receiving() as receiver:
        go_through(house, postgres_database_url, receiver, caplog)


def test_two_keepers_score_an_input_again_once_and_return_a_candidate_once(
    house: Household, postgres_database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits(error_share=None, disagreement=0.5, min_jobs=JOBS // 4)
    beside = begin(house.database, kind=TrialKind.SHADOW, limits=limits)
    ids = beside.submit("base", JOBS)
    answer(house.database, house.objects, {one: {"label": "a"} for one in ids})
    queued = beside.submit(count=JOBS)  # of a canary they would be: they go back once
    with receiving() as receiver, two_keepers(house, postgres_database_url, receiver):

        def over() -> bool:
            waiting = query(house, WAITING)
            again = {str(one): {"label": "b"} for (one,) in waiting}
            if again and beside.now().state is TrialState.RUNNING:
                answer(house.database, house.objects, again)
            return beside.now().repointed > 0

        wait_until(over, 60, what="the candidate's return")
    trial = beside.now()
    assert (trial.state, trial.repointed) == (TrialState.RETURNED, JOBS)
    assert trial.disagreed == trial.compared >= JOBS // 4
    assert trial.compared <= len(query(house, ENDED))
    assert not query(house, TWICE)
    assert beside.versions(queued) == [1] * JOBS
    told = [one.getMessage() for one in caplog.records if one.levelname in ("ERROR", "WARNING")]
    assert len(told) == 1 and "is returned from 'prod'" in told[0]


def go_through(
    house: Household, url: str, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    names = {duty.name for duty in eager(receiver)}
    assert names == {duty.name for duty in standard_duties()}
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    database = house.database
    with database.begin() as tx:
        tx.webhooks.add("default", new_id(), receiver.url(), ["*"])

    lost = house.submit([tensor(n) for n in range(JOBS)])  # claimed by sessions that die
    late = house.submit([tensor(n) for n in range(JOBS)], expires_in_ms=1)
    stuck = house.submit([tensor(n) for n in range(JOBS)], run_timeout_ms=1, max_attempts=1)
    published = house.submit([tensor(n) for n in range(JOBS)])
    groups = [new_id() for _ in range(20)]
    for group in groups:
        with database.begin() as tx:
            tx.groups.create("default", group, 0)
    packs = [new_id() for _ in range(40)]
    with database.begin() as tx:
        for pack in packs:
            tx.packs.open(NewPack(pack, "default", PackKind.RESULT, f"packs/{pack}"))
        for number in range(40):
            tx.idempotency.remember("default", f"key {number}", "f", "ref", 1)
        for _ in range(40):
            tx.models.reserve("default", new_id(), "m")
    sessions = [new_id() for _ in range(8)]
    with database.begin() as tx:
        for session in sessions:
            tx.sessions.open(NewSession(session, "n", "h", "cpu", "default"), 60_000)
        alive = new_id()
        tx.sessions.open(NewSession(alive, "n", "h", "cpu", "default"), 600_000)
    for place, session in enumerate(sessions):
        with database.begin() as tx:
            assert tx.jobs.claim(session, lost[place::8])
    with database.begin() as tx:
        assert len(tx.jobs.claim(alive, stuck)) == JOBS
    with database.begin() as tx:
        tx.backlog.mark_published(published)
    for pack in packs:
        house.objects.put(f"packs/{pack}", b"a pack")
    with database._engines.writing.begin() as connection:
        connection.execute(text("UPDATE packs SET created_at = created_at - 3600000"))

    with two_keepers(house, url, receiver):
        order = list(sessions)
        chance.shuffle(order)
        for session in order:
            with database.begin() as tx:
                tx.sessions.close(session)
            time.sleep(chance.uniform(0, 0.05))

        def settled() -> bool:
            jobs = house.jobs([*lost, *late, *stuck])
            states = Counter(job.state for job in jobs)
            return (
                states[JobState.RUNNING] == 0
                and states[JobState.EXPIRED] == JOBS
                and states[JobState.FAILED] == JOBS
                and not query(house, "SELECT id FROM groups WHERE completed_at IS NULL")
                and not query(house, "SELECT id FROM packs")
                and not query(house, "SELECT key FROM idempotency")
                and not query(house, "SELECT id FROM versions WHERE state = 'training'")
                and not query(house, "SELECT event_id FROM deliveries WHERE state = 'pending'")
                and not query(house, "SELECT id FROM live WHERE published_at IS NOT NULL")
            )

        wait_until(settled, 120, what="the keepers to have done all of it")
    counted = query(house, "SELECT type, count(*) FROM events GROUP BY type")
    told = query(house, "SELECT event_id FROM deliveries")
    ended = {one for (one,) in query(house, "SELECT id FROM ends")}
    assert ended == {*late, *stuck}
    assert dict(counted) == {
        "job.expired": JOBS,
        "job.failed": JOBS,
        "group.completed": len(groups),
    }
    over = [*late, *stuck, *groups]
    assert sorted(one for (one,) in told) == sorted(over)
    assert sorted(receiver.ids()) == sorted(map(message_of, over))
    for job in house.jobs(lost):
        assert (job.state, job.losses, job.attempts, job.seq) == (JobState.QUEUED, 1, 0, 3)
    for job in house.jobs(stuck):
        assert (job.attempts, job.losses, job.seq) == (1, 0, 3)
        assert job.error is not None and job.error.code == "run_timeout"
    for job in house.jobs(late):
        assert (job.state in TERMINAL, job.seq) == (True, 2)
    assert not [pack for pack in packs if house.objects.exists(f"packs/{pack}")]
    with database.read() as tx:
        assert {one.name for one in tx.duties.notes()} == names
    assert_no_trouble(caplog)

    # Forty days later: what ended is past its retention, and what still waited expires only now.
    with two_keepers(house, url, receiver, InFortyDays()):
        waiting = sorted([*lost, *published])

        def forgotten() -> bool:
            left = sorted(one for (one,) in query(house, "SELECT id FROM jobs"))
            ended = sorted(one for (one,) in query(house, "SELECT id FROM ends"))
            events = sorted(one for (one,) in query(house, "SELECT id FROM events"))
            pending = query(house, "SELECT event_id FROM deliveries WHERE state = 'pending'")
            return left == ended == events == waiting and not pending

        wait_until(forgotten, 120, what="what was kept long enough to be gone")
    for table, column in (("payloads", "job_id"), ("ends", "id")):
        rows = query(house, f"SELECT {column} FROM {table}")
        assert sorted(one for (one,) in rows) == waiting
    assert not query(house, "SELECT id FROM live") + query(house, "SELECT id FROM groups")
    told = query(house, "SELECT event_id FROM deliveries")
    assert sorted(one for (one,) in told) == waiting
    assert sorted(receiver.ids()) == sorted(map(message_of, [*over, *waiting]))
    assert_no_trouble(caplog)


def message_of(event_id: str) -> str:
    return "evt_" + event_id.replace("-", "")


class InFortyDays:
    def now_ms(self) -> int:
        return SystemClock().now_ms() + 40 * DAY_MS

    def monotonic_s(self) -> float:
        return SystemClock().monotonic_s()


def assert_no_trouble(caplog: pytest.LogCaptureFixture) -> None:
    wrong = [one.getMessage() for one in caplog.records if one.levelname in ("ERROR", "WARNING")]
    assert not wrong, wrong[:5]
