"""A commit that waits for a cancel's lock ends the job as cancelled; it does not break off.

PostgreSQL checks a new row first as made from the statement's snapshot, in which the cancel is
not visible yet: the whole batch once failed on the check that a cancelled job was asked to be.
"""

from __future__ import annotations

import threading

import psycopg
import pytest

from storage.database import Database
from storage.records.jobs import CommitReport, JobState
from tests.support.database import (
    ALICE,
    claim,
    migrated_postgres_url,  # noqa: F401
    open_session,
    retry,
    submit,
)
from tests.support.waiting import wait_until


@pytest.fixture
def running(migrated_postgres_url: str):  # noqa: F811
    opened = Database.open(migrated_postgres_url)
    yield opened
    opened.close()


def test_the_batch_is_committed_and_the_cancelled_job_is_cancelled(
    running: Database,
    migrated_postgres_url: str,  # noqa: F811
) -> None:
    first, second = submit(running, count=2)
    session = open_session(running)
    claims = claim(running, session, [first, second])
    reports: list[CommitReport] = []

    def commit() -> None:
        with running.begin() as tx:
            reports.append(tx.jobs.commit(session, [retry(one) for one in claims]))

    committing = threading.Thread(target=commit)
    with running.begin() as tx:
        tx.jobs.request_cancel(ALICE, first)
        committing.start()
        wait_until(lambda: _somebody_waits(migrated_postgres_url), 10, what="the commit to wait")
    committing.join(20)
    assert reports, "the commit failed"
    assert reports[0].settled == {first: JobState.CANCELLED, second: JobState.QUEUED}


def _somebody_waits(url: str) -> bool:
    with psycopg.connect(url) as looking:
        row = looking.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()
    return bool(row and row[0])
