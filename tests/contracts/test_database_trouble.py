"""A database in trouble: said clearly, in time, without secrets, and over when it is over."""

from __future__ import annotations

import socket
import sqlite3
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from storage.database import Database, engines
from storage.records.errors import DatabaseUnavailable, InvalidInput
from storage.records.jobs import JobFilter, JobState
from tests.support.database import ALICE, new_id, new_jobs, submit
from tests.support.ports import free_port
from tests.support.waiting import wait_until

SECRET = "canary-5ecret"


def said(error: BaseException) -> str:
    """Everything a log could show of an error."""
    return "".join(traceback.format_exception(error))


@pytest.fixture
def postgresql(migrated_postgres_url: str) -> Iterator[Database]:
    opened = Database.open(migrated_postgres_url, pool_size=2)
    yield opened
    opened.close()


@pytest.fixture
def sqlite(sqlite_url: str) -> Iterator[Database]:
    opened = Database.open(sqlite_url)
    opened.migrate()
    yield opened
    opened.close()


class TestOpening:
    @pytest.mark.parametrize(
        "url",
        [
            f"postgresql://someone:{SECRET}@192.0.2.1:5432/forebay",
            f"postgres://someone:{SECRET}@nowhere.invalid/forebay",
            f"postgresql+psycopg2://someone:{SECRET}@192.0.2.1/forebay",
            "sqlite:////no/such/folder/forebay.db",
        ],
    )
    def test_it_touches_neither_disk_nor_network(self, url):
        begun = time.monotonic()
        Database.open(url).close()
        assert time.monotonic() - begun < 1

    @pytest.mark.parametrize(
        "url",
        [
            f"mysql://someone:{SECRET}@host/db",
            f"//someone:{SECRET}@host/db",
            f"postgresql://someone:{SECRET}@host:port/db",
            "sqlite://",
            "sqlite:///relative.db",
            "sqlite:///:memory:",
            "",
        ],
    )
    def test_a_url_that_cannot_be_used_is_refused_without_its_password(self, url):
        with pytest.raises(ValueError) as refused:
            Database.open(url)
        assert SECRET not in said(refused.value)


class TestNobodyThere:
    def test_a_port_nobody_listens_on(self):
        closed = Database.open(f"postgresql://someone:{SECRET}@127.0.0.1:{free_port()}/forebay")
        for use in (closed.ping, closed.migrate, closed.schema_is_current, lambda: begin(closed)):
            with pytest.raises(DatabaseUnavailable) as error:
                use()
            assert SECRET not in said(error.value)
            assert error.value.retryable
            assert error.value.http_status == 503
        closed.close()

    def test_a_user_or_database_the_server_does_not_know(self, migrated_postgres_url):
        server, _, _ = migrated_postgres_url.rpartition("/")
        after_user = server.partition("@")[2]
        for url in (
            f"{server}/no_such_database",
            f"postgresql://nobody:{SECRET}@{after_user}/postgres",
            f"postgresql://{after_user}/postgres?user=nobody&password={SECRET}",
        ):
            unknown = Database.open(url)
            with pytest.raises(DatabaseUnavailable) as error:
                unknown.ping()
            assert SECRET not in said(error.value)
            unknown.close()

    def test_a_server_that_accepts_and_says_nothing(self, monkeypatch):
        monkeypatch.setattr(engines, "CONNECT_TIMEOUT_S", 2)
        with _Silence() as port:
            silent = Database.open(f"postgresql://u:{SECRET}@127.0.0.1:{port}/forebay")
            begun = time.monotonic()
            with pytest.raises(DatabaseUnavailable) as error:
                silent.ping()
            assert time.monotonic() - begun < 10
            assert SECRET not in said(error.value)
            silent.close()

    def test_a_folder_that_is_not_there(self, tmp_path):
        missing = Database.open(f"sqlite:///{tmp_path}/missing/forebay.db")
        with pytest.raises(DatabaseUnavailable, match=r"forebay\.db"):
            missing.ping()
        missing.close()

    def test_a_file_that_is_no_database(self, tmp_path):
        path = tmp_path / "forebay.db"
        path.write_bytes(b"not a database, " * 1000)
        wrong = Database.open(f"sqlite:///{path}")
        with pytest.raises(DatabaseUnavailable):
            begin(wrong)
        wrong.close()


class TestNotMigrated:
    @pytest.mark.parametrize("fixture", ["sqlite_url", "postgres_database_url"])
    def test_it_says_what_to_do(self, request, fixture):
        bare = Database.open(request.getfixturevalue(fixture))
        with pytest.raises(DatabaseUnavailable, match="forebay migrate") as error:
            submit(bare)
        assert error.value.stable_code == "database_not_migrated"
        bare.close()


class TestBusy:
    def test_a_pool_without_a_free_connection(self, monkeypatch, migrated_postgres_url):
        monkeypatch.setattr(engines, "POOL_TIMEOUT_S", 0.05)
        small = Database.open(migrated_postgres_url, pool_size=1)
        with small.read() as tx:
            tx.now()
            with pytest.raises(DatabaseUnavailable, match="came free"):
                small.ping()
        small.ping()
        small.close()

    def test_a_file_that_another_process_writes(self, monkeypatch, sqlite_url):
        quick = [p for p in engines._SQLITE_PRAGMAS if "busy_timeout" not in p]
        monkeypatch.setattr(engines, "_SQLITE_PRAGMAS", ["PRAGMA busy_timeout = 50", *quick])
        database = Database.open(sqlite_url)
        database.migrate()
        (job_id,) = submit(database)
        other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseUnavailable, match="locked"):
            submit(database)
        with database.read() as tx:
            assert tx.jobs.get(ALICE, job_id) is not None, "readers go on"
        other.execute("ROLLBACK")
        other.close()
        submit(database)
        database.close()

    def test_a_row_that_stays_locked(self, postgresql, migrated_postgres_url):
        (job_id,) = submit(postgresql)
        hasty = Database.open(f"{migrated_postgres_url}?options=-c%20lock_timeout%3D100")
        with postgresql.begin() as tx:
            tx.jobs.request_cancel(ALICE, job_id)
            with pytest.raises(DatabaseUnavailable), hasty.begin() as second:
                second.jobs.request_cancel(ALICE, job_id)
        with hasty.begin() as tx:
            assert tx.jobs.request_cancel(ALICE, job_id).state is JobState.CANCELLED
        hasty.close()

    def test_a_statement_that_takes_too_long(self, migrated_postgres_url):
        hasty = Database.open(f"{migrated_postgres_url}?options=-c%20statement_timeout%3D50")
        with pytest.raises(DatabaseUnavailable), hasty.read() as tx:
            tx._work._connection.exec_driver_sql("SELECT pg_sleep(10)")
        hasty.ping()
        hasty.close()

    def test_a_disk_that_is_full(self, sqlite):
        with sqlite._engines.writing.begin() as connection:
            used = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {used + 2}").close()
        with pytest.raises(DatabaseUnavailable, match="full"), sqlite.begin() as tx:
            tx.jobs.submit(ALICE, new_jobs(500, payload=b"x" * 1000))
        with sqlite._engines.writing.begin() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1000000").close()
        with sqlite.read() as tx:
            assert tx.jobs.list(ALICE, JobFilter(), limit=5, after=None) == []
        submit(sqlite, count=500)


class TestLostConnections:
    def test_after_one_failure_every_connection_is_new(self, postgresql, migrated_postgres_url):
        postgresql.ping()
        terminate(migrated_postgres_url)
        with pytest.raises(DatabaseUnavailable):
            postgresql.ping()
        postgresql.ping()
        submit(postgresql)

    def test_one_that_idled_is_looked_at_before_it_is_used(
        self, monkeypatch, postgresql, migrated_postgres_url
    ):
        monkeypatch.setattr(engines, "PING_AFTER_IDLE_S", 0.0)
        postgresql.ping()
        terminate(migrated_postgres_url)
        postgresql.ping()

    def test_one_that_dies_in_a_transaction_takes_the_transaction_with_it(
        self, postgresql, migrated_postgres_url
    ):
        job = new_jobs(1)
        with pytest.raises(DatabaseUnavailable), postgresql.begin() as tx:
            tx.jobs.submit(ALICE, job)
            terminate(migrated_postgres_url)
        with postgresql.read() as tx:
            assert tx.jobs.get(ALICE, job[0].id) is None


class TestReading:
    def test_a_reader_is_never_idle_in_a_transaction(self, postgresql, migrated_postgres_url):
        with postgresql.read() as tx:
            tx.now()
            tx.jobs.list(ALICE, JobFilter(), limit=5, after=None)
            with psycopg.connect(migrated_postgres_url, autocommit=True) as other:
                wait_until(
                    lambda: other.execute(
                        "SELECT count(*) = 0 FROM pg_stat_activity WHERE state <> 'idle'"
                        " AND pid <> pg_backend_pid() AND datname = current_database()"
                    ).fetchone()[0],
                    what="no backend of ours in a transaction",
                )

    def test_a_reader_sees_the_moment_each_statement_runs_in(self, database):
        with database.read() as tx:
            assert tx.jobs.list(ALICE, JobFilter(), limit=5, after=None) == []
            (job_id,) = submit(database)
            assert tx.jobs.get(ALICE, job_id) is not None

    def test_a_reader_cannot_write(self, database):
        (job_id,) = submit(database)
        with database.read() as tx:
            with pytest.raises(RuntimeError, match="only reads"):
                tx.jobs.request_cancel(ALICE, job_id)
            with pytest.raises(RuntimeError, match="only reads"):
                tx.jobs.submit(ALICE, new_jobs(1))
        with database.read() as tx:
            assert tx.jobs.get(ALICE, job_id).state is JobState.QUEUED

    def test_a_name_with_nul_is_nobodys(self, postgresql, sqlite):
        with pytest.raises(InvalidInput), postgresql.read() as tx:
            tx.models.model(ALICE, "a\x00b")
        with sqlite.read() as tx:
            assert tx.models.model(ALICE, "a\x00b") is None


class TestClock:
    def test_the_databases_clock_counts_milliseconds(self, postgresql, sqlite):
        for database in (postgresql, sqlite):
            before = time.time_ns() // 1_000_000
            with database.read() as tx:
                now = tx.now()
                assert tx.now() == now, "one moment per transaction"
            assert before - 1 <= now <= time.time_ns() // 1_000_000 + 1

    def test_one_override_reaches_every_row(self, database, clock):
        clock.pass_ms(12_345)
        (job_id,) = submit(database)
        with database.read() as tx:
            job = tx.jobs.get(ALICE, job_id)
        assert job.created_at == job.not_before == clock.now_ms()


class TestDurability:
    def test_sqlite_syncs_every_commit(self, sqlite):
        for engine in (sqlite._engines.writing, sqlite._engines.reading):
            with engine.connect() as connection:
                pragma = connection.exec_driver_sql
                assert pragma("PRAGMA synchronous").scalar_one() == 2
                assert pragma("PRAGMA journal_mode").scalar_one() == "wal"
                assert pragma("PRAGMA foreign_keys").scalar_one() == 1

    def test_threads_queue_for_the_one_writer(self, sqlite):
        errors: list[BaseException] = []

        def write() -> None:
            try:
                for _ in range(5):
                    submit(sqlite, count=2)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=write) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert errors == []
        with sqlite.read() as tx:
            assert tx.backlog.depth(ALICE, 1000) == 80

    def test_what_was_committed_is_there_after_reopening(self, sqlite, sqlite_url):
        (job_id,) = submit(sqlite)
        sqlite.close()
        again = Database.open(sqlite_url)
        with again.read() as tx:
            assert tx.jobs.get(ALICE, job_id) is not None
        again.close()
        assert Path(sqlite_url.removeprefix("sqlite:///")).exists()


def begin(database: Database) -> None:
    with database.begin() as tx:
        tx.sessions.close(new_id())


def terminate(url: str) -> None:
    """End every other connection to the database."""
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


class _Silence:
    """A listener that accepts and never answers."""

    def __enter__(self) -> int:
        self._socket = socket.create_server(("127.0.0.1", 0))
        port: int = self._socket.getsockname()[1]
        return port

    def __exit__(self, *_: object) -> None:
        self._socket.close()
