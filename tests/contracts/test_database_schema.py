"""The schema: made by migrations alone, refusing impossible rows, with an index for every verb."""

from __future__ import annotations

import importlib
import pkgutil
import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Row, inspect, select, text
from sqlalchemy.exc import IntegrityError

import storage.database
from storage.database import Database, migrations
from storage.database.jobs.paging import page
from storage.database.statements import Statement, ids_parameter, rows_parameter
from storage.database.tables import metadata
from storage.records.aliases import MoveReason, Why
from storage.records.bulk import ShardState
from storage.records.errors import Conflict
from storage.records.jobs import JobFilter, JobState
from storage.records.models import ModelRef, VersionState
from storage.records.training_runs import Scope
from storage.records.trials import TrialKind, TrialState
from tests.support.bulk import commit, cut, must_take, part, planned, submit_runs
from tests.support.database import (
    ALICE,
    ManualClock,
    claim,
    finish,
    new_id,
    new_version,
    open_session,
    submit,
)
from tests.support.training import (
    keep,
    note,
    own_training,
    put_checkpoint,
    steps,
    submit_training,
)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest) -> str:
    """A database without anything in it."""
    name = {"sqlite": "sqlite_url", "postgresql": "postgres_database_url"}[request.param]
    return request.getfixturevalue(name)


@pytest.fixture
def empty(empty_url: str) -> Iterator[Database]:
    opened = Database.open(empty_url)
    yield opened
    opened.close()


class TestMigrations:
    def test_they_lead_from_nothing_to_the_newest_schema_once(self, empty):
        assert not empty.schema_is_current()
        applied = empty.migrate()
        assert applied[0] == "0001"
        assert applied == sorted(applied)
        assert empty.schema_is_current()
        assert empty.migrate() == []

    def test_every_step_runs_forward_on_data(self, empty, empty_url):
        """Rows of the first schema are there, and of use, after the last step."""
        with empty._engines.writing.begin() as connection:
            migrations.upgrade(connection, "0001")
            for table, row in ROWS_OF_0001.items():
                names = ", ".join(row)
                values = ", ".join(f":{name}" for name in row)
                connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({values})"), row)
        empty.migrate()
        with empty.read() as tx:
            assert tx.jobs.get(ALICE, ROWS_OF_0001["jobs"]["id"]).state is JobState.QUEUED
            assert tx.jobs.payload(ALICE, ROWS_OF_0001["jobs"]["id"]) == b"1"
            assert [one.id for one in tx.sessions.live()] == []
        empty.close()
        at_the_time = Database.open(empty_url, clock=ManualClock(1))
        with at_the_time.begin() as tx:
            assert [one.stats for one in tx.sessions.live()] == [{}]
            (job,) = tx.jobs.claim(ROWS_OF_0001["sessions"]["id"], [ROWS_OF_0001["jobs"]["id"]])
            assert (job.suspicions, job.payload) == (0, b"1")
            assert tx.jobs.blame(ROWS_OF_0001["sessions"]["id"], [job.id, new_id()])
        at_the_time.close()

    def test_jobs_of_every_state_are_what_they_were_after_they_were_taken_apart(self, empty):
        with empty._engines.writing.begin() as connection:
            migrations.upgrade(connection, "0003")
            for fields in OF_EVERY_STATE_IN_0003.values():
                row = ROWS_OF_0001["jobs"] | fields
                names = ", ".join(row)
                values = ", ".join(f":{name}" for name in row)
                connection.execute(text(f"INSERT INTO jobs ({names}) VALUES ({values})"), row)
        empty.migrate()
        for state, fields in OF_EVERY_STATE_IN_0003.items():
            with empty.read() as tx:
                job = tx.jobs.get(ALICE, fields["id"])
            assert (job.state, job.seq) == (state, fields["seq"])
            for name in ("epoch", "published_at", "started_at", "finished_at", "session_id"):
                assert getattr(job, name) == fields.get(name, ROWS_OF_0001["jobs"].get(name))
            assert (job.error.code if job.error else None) == fields.get("error_code")
            assert (job.result.digest if job.result else None) == fields.get("result_digest")
        with empty.read() as tx:
            assert len(tx.jobs.list(ALICE, JobFilter(), limit=99, after=None)) == 6
            failed = JobFilter(states=frozenset({JobState.FAILED}))
            assert len(tx.jobs.list(ALICE, failed, limit=99, after=None)) == 1

    def test_versions_and_aliases_are_what_they_were_after_versions_could_be_in_training(
        self, empty
    ):
        with empty._engines.writing.begin() as connection:
            migrations.upgrade(connection, "0007")
            for table, rows in REGISTRY_OF_0007.items():
                for row in rows:
                    names, values = ", ".join(row), ", ".join(f":{name}" for name in row)
                    query = text(f"INSERT INTO {table} ({names}) VALUES ({values})")
                    connection.execute(query, row)
        empty.migrate()
        with empty.read() as tx:
            ready = tx.models.resolve(ALICE, ModelRef("digits", alias="prod"))
            assert tx.models.resolve(ALICE, ModelRef("digits")).version == 2
            broken, pending, first = tx.models.versions(ALICE, "digits")
            assert [one.id for one in tx.models.pending(9)] == [pending.id]
        assert ready == first
        for row, found in zip(REGISTRY_OF_0007["versions"], (first, pending, broken), strict=True):
            for name, value in row.items():
                assert getattr(found, name) == ({} if name == "signature" else value)
            for name in ("origin", "uploader", "licence", "notes", "deleted_at", "collected_at"):
                assert getattr(found, name) is None
        with empty._engines.reading.connect() as connection:
            (move,) = connection.execute(text("SELECT * FROM alias_moves")).mappings()
        assert (move["generation"], move["from_version"], move["to_version"]) == (3, None, 1)
        assert (move["why"], move["moved_at"]) == ("set", 6)
        with empty.begin() as tx:
            assert tx.models.reserve(ALICE, new_id(), "digits").version == 4
            moved = tx.aliases.move(ALICE, "digits", "prod", 2, Why(), expected=1)
            assert (moved.generation, moved.from_version) == (4, 1)
        # What the rows have to keep to is as it was.
        for wrong in (
            "UPDATE aliases SET version = 9",
            "DELETE FROM versions WHERE version = 2",
            "UPDATE versions SET version = 1 WHERE version = 2",
            "UPDATE versions SET name = 'cats'",
            "UPDATE versions SET format = 'h5'",
        ):
            with pytest.raises(IntegrityError), empty._engines.writing.begin() as connection:
                connection.execute(text(wrong))

    def test_a_schema_of_a_later_version_is_left_alone(self, empty):
        empty.migrate()
        with empty._engines.writing.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        assert not empty.schema_is_current()
        with pytest.raises(Conflict, match="9999") as refused:
            empty.migrate()
        assert refused.value.stable_code == "schema_newer"

    def test_what_they_make_is_what_the_code_expects(self, empty):
        empty.migrate()
        with empty._engines.reading.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "compare_server_default": True}
            )
            assert compare_metadata(context, metadata) == []
            # Alembic does not compare these.
            found = inspect(connection)
            for table in metadata.sorted_tables:
                wanted = {index.name: index for index in table.indexes}
                for index in found.get_indexes(table.name):
                    if index["name"] in wanted:
                        made = index.get("dialect_options", {})
                        expected = wanted.pop(index["name"]).dialect_options["postgresql"]["where"]
                        where = next((v for k, v in made.items() if k.endswith("_where")), None)
                        assert _bare(where) == _bare(expected), index["name"]
                assert wanted == {}
                checks = {one["name"] for one in found.get_check_constraints(table.name)}
                assert checks == {
                    one.name
                    for one in table.constraints
                    if one.__class__.__name__ == "CheckConstraint"
                }

    def test_many_processes_may_start_on_an_empty_database_at_once(self, empty_url):
        ready, applied, errors = threading.Barrier(4), [], []

        def start() -> None:
            opened = Database.open(empty_url)
            try:
                ready.wait(30)
                applied.append(opened.migrate())
            except BaseException as error:
                errors.append(error)
            finally:
                opened.close()

        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert errors == []
        assert sorted(len(one) for one in applied)[:3] == [0, 0, 0]
        assert sum(len(one) for one in applied) >= 1

    def test_a_migration_that_fails_leaves_nothing_behind(self, empty, monkeypatch):
        def break_down(connection):
            upgrade(connection)
            raise ZeroDivisionError

        upgrade = migrations.upgrade
        monkeypatch.setattr(migrations, "upgrade", break_down)
        with pytest.raises(ZeroDivisionError):
            empty.migrate()
        monkeypatch.undo()
        with empty._engines.reading.connect() as connection:
            assert inspect(connection).get_table_names() == []
        assert empty.migrate()


# Never edited: what an installation of the first day may hold.
ROWS_OF_0001: dict[str, dict[str, object]] = {
    "jobs": {
        "id": "01a3185c-5000-7000-8000-000000000001",
        "tenant": ALICE,
        "kind": "inference",
        "state": "queued",
        "model_name": "digits",
        "version": 1,
        "version_id": "01a3185c-5000-7000-8000-000000000002",
        "pool": "default",
        "priority": 5,
        "rank": 1,
        "seq": 1,
        "epoch": 0,
        "attempts": 0,
        "max_attempts": 3,
        "losses": 0,
        "created_at": 1,
        "expires_at": 2,
        "not_before": 1,
        "run_timeout_ms": 1,
    },
    "payloads": {
        "job_id": "01a3185c-5000-7000-8000-000000000001",
        "tenant": ALICE,
        "body": b"1",
    },
    "sessions": {
        "id": "01a3185c-5000-7000-8000-000000000003",
        "node": "n",
        "host": "h",
        "device": "cpu",
        "pool": "default",
        "started_at": 1,
        "lease_until": 2,
        "jobs_per_s": 0.5,
    },
}


OF_EVERY_STATE_IN_0003: dict[JobState, dict[str, object]] = {
    state: {"id": f"01a3185c-5000-7000-8000-{number:012}", "seq": number} | fields
    for number, (state, fields) in enumerate(
        {
            JobState.QUEUED: {"published_at": 5},
            JobState.RUNNING: {
                "session_id": "01a3185c-5000-7000-8000-00000000000a",
                "epoch": 1,
                "started_at": 6,
                "run_deadline_at": 7,
            },
            JobState.SUCCEEDED: {
                "session_id": "01a3185c-5000-7000-8000-00000000000a",
                "epoch": 2,
                "started_at": 6,
                "run_deadline_at": 7,
                "finished_at": 9,
                "published_at": 5,
                "result_pack_id": "01a3185c-5000-7000-8000-00000000000b",
                "result_offset_bytes": 1,
                "result_length_bytes": 2,
                "result_digest": "d",
            },
            JobState.FAILED: {
                "finished_at": 9,
                "error_code": "c",
                "error_message": "m",
                "error_attempt": 1,
            },
            JobState.CANCELLED: {"finished_at": 9, "cancel_requested_at": 8},
            JobState.EXPIRED: {"finished_at": 9},
        }.items(),
        start=2,
    )
    for fields in [{"state": state.value, **fields}]
}


_VERSION_OF_0007 = {
    "tenant": ALICE,
    "name": "digits",
    "format": "keras",
    "digest": "d",
    "size_bytes": 7,
    "object_key": "k",
    "signature": "{}",
    "trusted": False,
    "created_at": 1,
}
REGISTRY_OF_0007: dict[str, list[dict[str, object]]] = {
    "models": [{"tenant": ALICE, "name": "digits", "latest_version": 3, "created_at": 1}],
    "versions": [
        _VERSION_OF_0007 | {"id": f"01a3185c-5000-7000-8000-00000000000{number}"} | fields
        for number, fields in enumerate(
            [
                {"version": 1, "state": "ready", "loaded_at": 5},
                {"version": 2, "state": "pending"},
                {"version": 3, "state": "broken", "error": "no"},
            ]
        )
    ],
    "aliases": [
        {
            "tenant": ALICE,
            "name": "digits",
            "alias": "prod",
            "version": 1,
            "generation": 3,
            "updated_at": 6,
        }
    ],
}


def _bare(where: object) -> str:
    """A condition without what PostgreSQL adds when it prints one."""
    text_of_it = "" if where is None else str(where)
    return re.sub(r"::text|[()\s]", "", text_of_it).replace("!=", "<>")


class TestImpossibleRows:
    """The state machine is in the schema too: a wrong statement is refused, not stored."""

    @pytest.mark.parametrize(
        "change",
        [
            "priority = 10",
            "kind = 'guess'",
            "group_index = 1",
            "max_attempts = 0",
            "tenant = NULL",
        ],
    )
    def test_of_a_job(self, database, change):
        submit(database)
        self._refused(database, f"UPDATE jobs SET {change}")

    @pytest.mark.parametrize(
        "change",
        [
            "state = 'running'",
            "state = 'succeeded'",
            "session_id = id",
            "started_at = 1",
            "cancel_requested_at = 1",
            "attempts = max_attempts",
            "attempts = -1",
            "seq = 0",
            "suspicions = -1",
            "tenant = NULL",
        ],
    )
    def test_of_a_queued_job(self, database, change):
        submit(database)
        self._refused(database, f"UPDATE live SET {change}")

    @pytest.mark.parametrize(
        "change",
        [
            "session_id = NULL",
            "run_deadline_at = NULL",
            "epoch = 0",
            "state = 'queued'",
            "state = 'expired'",
            "attempts = max_attempts + 1",
        ],
    )
    def test_of_a_running_job(self, database, change):
        claim(database, open_session(database), submit(database))
        self._refused(database, f"UPDATE live SET {change}")

    @pytest.mark.parametrize(
        "change",
        [
            "state = 'queued'",
            "state = 'done'",
            "state = 'cancelled', result_pack_id = NULL",
            "state = 'failed', result_pack_id = NULL",
            "finished_at = NULL",
            "result_digest = NULL",
            "result_length_bytes = -1",
            "error_code = 'x'",
            "error_code = 'x', error_message = 'x', error_attempt = 1",
            "seq = 1",
        ],
    )
    def test_of_a_succeeded_job(self, database, change):
        finish(database, open_session(database), submit(database))
        self._refused(database, f"UPDATE ends SET {change}")

    @pytest.mark.parametrize(
        "change",
        ["body = NULL", "pack_id = job_id", "body = NULL, pack_id = job_id, digest = 'x'"],
    )
    def test_of_a_payload(self, database, change):
        submit(database)
        self._refused(database, f"UPDATE payloads SET {change}")

    @pytest.mark.parametrize(
        "change",
        [
            "plan = NULL",
            "planned_at = NULL",
            "shards = -1",
            "units_total = NULL",
            "rows_total = -1",
            "error_code = 'x'",
            "progress = '{}'",
            "tenant = NULL",
        ],
    )
    def test_of_a_run(self, database, change):
        planned(database, cut(1))
        self._refused(database, f"UPDATE bulk_runs SET {change}")

    def test_of_a_run_that_is_not_planned(self, database):
        submit_runs(database)
        for change in ("rows_total = 1", "closed_at = 1", "plan = '{}'"):
            self._refused(database, f"UPDATE bulk_runs SET {change}")

    @pytest.mark.parametrize(
        "change",
        [
            "state = 'running'",
            "state = 'done'",
            "state = 'lost'",
            "start = stop",
            "start = stop + 1",
            "start = -1",
            "session_id = job_id",
            "losses = -1",
            "suspect_start = 1",
            "suspect_start = 2, suspect_stop = 2, suspect_deaths = 0",
            "suspect_start = 2, suspect_stop = 3, suspect_deaths = -1",
            "live_rows = 1",
        ],
    )
    def test_of_an_open_shard(self, database, change):
        planned(database, cut(1))
        self._refused(database, f"UPDATE bulk_shards SET {change}")

    @pytest.mark.parametrize(
        "change", ["session_id = NULL", "state = 'open'", "epoch = 0", "live_failed = -1"]
    )
    def test_of_a_running_shard(self, database, change):
        planned(database, cut(1))
        must_take(database, open_session(database))
        self._refused(database, f"UPDATE bulk_shards SET {change}")

    @pytest.mark.parametrize(
        "change",
        [
            "start = stop",
            "start = -1",
            "epoch = 0",
            "rows = -1",
            "object_key = NULL",
            "object_key = NULL, digest = NULL",
            "failed = 1",
            "device_ms = -1",
        ],
    )
    def test_of_a_part(self, database, change):
        planned(database, cut(1))
        session = open_session(database)
        shard = must_take(database, session)
        assert commit(database, session, shard, part(shard))
        self._refused(database, f"UPDATE bulk_parts SET {change}")

    @pytest.mark.parametrize(
        "change",
        [
            "deaths = -1",
            "lines = -1",
            "result = NULL, tenant = NULL",
            "error_code = 'x'",
            "progress = NULL",
            "checkpoint_step = NULL",
            "checkpoint_step = -1",
            "checkpoint_pack_id = NULL",
        ],
    )
    def test_of_a_training(self, database, change):
        owned = own_training(database)
        assert keep(database, owned, put_checkpoint(database, 1))
        note(database, owned, step=1)
        self._refused(database, f"UPDATE training_runs SET {change}")

    def test_of_what_a_training_says(self, database):
        owned = own_training(database)
        note(database, owned, [steps(1, 2)], ["a"])
        for table, change in (
            ("measures", "scope = 'row'"),
            ("measures", "step = -1"),
            ("log", "number = 0"),
            ("log", "line = NULL"),
        ):
            self._refused(database, f"UPDATE training_{table} SET {change}")

    @pytest.mark.parametrize(
        "change",
        [
            "state = 'pending'",
            "state = 'ready', loaded_at = 1",
            "state = 'broken'",
            "state = 'lost'",
            "digest = 'd'",
            "digest = 'd', object_key = 'k'",
            "size_bytes = 1",
        ],
    )
    def test_of_a_version_in_training(self, database, change):
        submit_training(database)
        self._refused(database, f"UPDATE versions SET {change}")

    @pytest.mark.parametrize(
        "change",
        [
            "state = 'training'",
            "digest = ''",
            "object_key = ''",
            "state = 'deprecated'",
            "state = 'deleted'",
            "deleted_at = 1",
            "collected_at = 1",
        ],
    )
    def test_of_a_version(self, database, change):
        new_version(database)
        self._refused(database, f"UPDATE versions SET {change}")

    def _refused(self, database: Database, statement: str) -> None:
        with (
            pytest.raises(IntegrityError),
            database._engines.writing.begin() as connection,
        ):
            connection.execute(text(statement))


def test_every_state_of_the_words_is_a_state_of_the_schema(database):
    states = set()
    for table in ("live", "ends"):
        (check,) = (
            one for one in metadata.tables[table].constraints if one.name == f"{table}_state_known"
        )
        found = set(re.findall(r"'(\w+)'", str(check.sqltext)))
        assert not found & states
        states |= found
    assert states == {state.value for state in JobState}


def test_every_state_of_a_shard_is_a_state_of_the_schema(database):
    (check,) = (
        one
        for one in metadata.tables["bulk_shards"].constraints
        if one.name == "bulk_shards_state_known"
    )
    assert set(re.findall(r"'(\w+)'", str(check.sqltext))) == {one.value for one in ShardState}


@pytest.mark.parametrize(
    ("table", "check", "words"),
    [
        ("versions", "state_known", VersionState),
        ("training_measures", "scope_known", Scope),
        ("alias_moves", "why_known", MoveReason),
        ("trials", "kind_known", TrialKind),
        ("trials", "state_known", TrialState),
    ],
)
def test_every_word_of_these_is_a_word_of_the_schema(table, check, words):
    (found,) = (one for one in metadata.tables[table].constraints if one.name == f"{table}_{check}")
    assert set(re.findall(r"'(\w+)'", str(found.sqltext))) == {one.value for one in words}


def statements() -> dict[str, Statement]:
    """Every statement of the package, by module and name."""
    found = {}
    modules = pkgutil.walk_packages(storage.database.__path__, "storage.database.")
    for module in modules:
        if "migrations" in module.name:
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, Statement) and value not in found.values():
                found[f"{module.name.removeprefix('storage.database.')}.{name}"] = value
    return found


STATEMENTS = statements()
SAMPLES: dict[str, object] = {
    "now": 1,
    "before": 1,
    "limit": 10,
    "most": 10,
    "bulk_limit": 10,
    "further": 1,
    "cap": 10,
    "after": 1,
    "tenant": ALICE,
    "pool": "default",
    "max_losses": 10,
    "lease_until": 2,
    "jobs_per_s": 1.0,
    "total": 1,
    "size_bytes": 1,
    "expires_at": 1,
    "expected": 1,
    "trusted": True,
    "tenants": "{}",
    "pack_ids": "{}",
    "pack_entries": "{}",
    "pack_sizes": "{}",
    "told": "{}",
    "age": 1,
    "within_ms": 1,
    "priority": 5,
    "max_attempts": 3,
    "run_timeout_ms": 1,
    "expires_in_ms": 1,
    "ttl_ms": 1,
    "published": False,
    "arm_id": None,
    "shadow_of": None,
    "body": b"",
    "bodies": [b""],
    "enabled": True,
    "every_ms": 1,
    "lease_ms": 1,
    "clear": 1,
    "any": 1,
    "since": 1,
    "until": 1,
    "horizon": new_id(),
    "skip": 1,
    "at": 1,
    "epoch": 1,
    "number": 1,
    "file": 1,
    "start": 1,
    "stop": 2,
    "end": 2,
    "shards": 1,
    "units": 1,
    "row_count": 1,
    "failed": 1,
    "skipped": 1,
    "errors_bytes": 1,
    "device_ms": 1,
    "lines": 1,
    "epochs": 1,
    "step": 1,
    "generation": 1,
    "from_version": 1,
    "undoes": 1,
    "rest": 1,
    "newest": 10,
    "share": 0.5,
    "moved": 1,
    "compared": 1,
    "disagreed": 1,
    "base_version": 1,
    "candidate_version": 1,
}
IDS = {"id", "session", "group", "version", "version_id", "group_id", "retry_of"}
IDS |= {"last", "base_id", "candidate_id", "base_arm", "candidate_arm", "shadow_arm"}
IDS |= {"endpoint", "webhook", "webhook_id", "job", "old_job", "pack", "old", "new", "arm"}


@pytest.mark.parametrize("name", list(STATEMENTS))
def test_every_statement_runs_along_an_index_whatever_it_is_asked(database, name):
    """Explained, on both engines: nothing walks through the finished jobs.

    Also proves that every statement kept by name is valid on every engine it is for.
    """
    statement = STATEMENTS[name]
    with database.read() as tx:
        dialect = tx._work.dialect
    if statement.only not in (None, dialect):
        return
    plan = explain(database, name, statement, dialect)
    if dialect == "postgresql":
        assert not re.search(
            r"Seq Scan on (jobs|live|ends|payloads|job_labels|bulk|training)", plan
        ), plan
    else:
        walks = re.findall(
            r"^SCAN (j|jobs|l|live|e|ends|p|payloads|(?:bulk|training)_\w+)\b"
            r"(?! USING (?:COVERING )?INDEX).*",
            plan,
            re.M,
        )
        assert not walks, plan


KEY = "primary key"
ALONG: dict[str, set[str]] = {
    "backlog.POOLS": {"live_backlog"},
    "backlog.TENANTS": {"live_backlog"},
    "backlog.HEADS": {"live_backlog"},
    "backlog.WINDOW": {"live_window"},
    "backlog.URGENT": {"live_expiring"},
    "backlog.WINDOW_BY_CLASS": {"live_window"},
    "backlog.LOAD_OF_WINDOW": {"live_window", KEY},
    "backlog.LOAD_OF_TENANT": {"live_backlog", KEY},
    "backlog.DEPTH": {"live_queued"},
    "backlog.MARK_PUBLISHED": {KEY},
    "backlog.UNMARK": {KEY},
    "jobs.running.CLAIM": {KEY},
    "jobs.running.CLAIM_HERE": {KEY},
    "jobs.running.PAYLOADS": {KEY},
    "jobs.leaving.HOLD": {KEY},
    "jobs.leaving.END": {KEY},
    "jobs.leaving.END_HERE": {KEY},
    "jobs.leaving.END_THERE": {KEY},
    "jobs.leaving.REQUEUE": {KEY},
    "jobs.ending.ASK": {KEY},
    "jobs.ending.GET": {KEY},
    "jobs.reading.GLIMPSE": {KEY},
    "jobs.reading.PAYLOADS": {KEY},
    "jobs.ending.OF_TENANT": {KEY},
    "jobs.ending.OF_VERSION": {"live_queued", "versions_pk"},
    "jobs.repointing.REPOINT": {"live_queued", KEY},
    "jobs.repointing.REPOINT_ARM": {"live_of_arm", KEY},
    "jobs.ending.OF_GROUP": {"jobs_of_group", KEY},
    "jobs.duties.EXPIRED": {"live_expiring"},
    "jobs.duties.SWEEP": {"live_window", KEY},
    "jobs.duties.TIMED_OUT": {"live_running", KEY},
    "jobs.duties.LOST": {"live_running", "sessions_pk"},
    "steering.HALT": {KEY},
    "steering.GO_ON": {KEY},
    "training.runs.STEERED": {KEY},
    "bulk.runs.STEERED": {KEY},
    "bulk.shards.WAITS": {"bulk_runs_open", "bulk_shards_open", KEY},
    "bulk.shards.TAKE": {"bulk_shards_open", "sessions_pk", KEY},
    "bulk.shards.READY": {"bulk_runs_open", "bulk_shards_open", "bulk_shards_running", KEY},
    "bulk.shards.MOVE": {KEY},
    "bulk.sums.COUNT": {"bulk_shards_open", "bulk_shards_running", KEY},
    "bulk.sums.UNFINISHED": {"bulk_shards_open", "bulk_shards_running"},
    "bulk.runs.WATCH": {KEY},
    "bulk.deaths.REAP": {"bulk_shards_running", "sessions_pk", KEY},
    "bulk.deaths.CLOSE": {"bulk_runs_open", KEY},
    "retention.OLD_ENDS": {KEY},
    "retention.ENDS": {KEY},
    "retention.PAYLOADS": {KEY},
    "retention.JOBS": {KEY},
    "training.runs.CREATE": {KEY},
    "training.measuring.NOTED": {KEY},
    "training.runs.BUMP_OWNED": {KEY},
    "training.runs.FORGET": {KEY},
    "training.measuring.TOUCH": {KEY},
    "training.measuring.MEASURES": {KEY},
    "training.measuring.LOG": {KEY},
    "models.ORPHANS": {"training_runs_of_version", KEY},
    "packs.DOOM_UNUSED": {"payloads_of_pack", "training_runs_of_pack"},
    "groups.COUNTS": {"jobs_of_group", "ends_of_group", KEY},
    "groups.ENDED": {"ends_of_group", KEY},
    "groups.MEMBERS": {"jobs_of_group", KEY},
}


@pytest.mark.parametrize("name", list(ALONG))
def test_the_hot_ones_have_no_other_index_to_walk_along_by_mistake(database, name):
    """Without statistics: a backlog of a million rows that came a second ago has none either.

    A planner that believes every partial index to be empty takes any that it may use. When the
    conditions of two followed from one another, the relay's look took 360 ms instead of one; and
    a commit that could be joined from either side walked through everything that was queued.
    """
    with database.read() as tx:
        dialect = tx._work.dialect
    if STATEMENTS[name].only not in (None, dialect):
        return
    plan = explain(database, name, STATEMENTS[name], dialect)
    used = set(
        re.findall(
            r"\b(?:sqlite_autoindex_)?((?:jobs|live|ends|payloads|(?:bulk|training)_[a-z]+)_\w+)",
            plan,
        )
    )
    used = {KEY if re.search(r"_(pk|1)$", one) else one for one in used}
    assert used <= ALONG[name], plan
    assert used >= {one for one in ALONG[name] if not one.endswith("_pk")} - {KEY}, plan
    if dialect == "postgresql":
        whole = re.findall(
            r"Index (?:Only )?Scan using \w+_pk on [^\n]*\n(?!\s*Index Cond).*", plan
        )
        assert not whole, f"walks a whole primary key:\n{plan}"


FILTERS = {
    "all": (JobFilter(), {"jobs_of_tenant", "primary key"}),
    "model": (JobFilter(model_name="m"), {"jobs_of_model", "jobs_of_tenant"}),  # statistics decide
    "group": (JobFilter(group_id=new_id()), {"jobs_of_group"}),
    "failed": (JobFilter(states=frozenset({JobState.FAILED})), {"ends_by_state"}),
    "queued": (JobFilter(states=frozenset({JobState.QUEUED})), {"live_queued"}),
    "running": (JobFilter(states=frozenset({JobState.RUNNING})), {"live_running"}),
    "queued of a model": (
        JobFilter(states=frozenset({JobState.QUEUED}), model_name="m"),
        {"live_queued"},
    ),
    "succeeded": (
        JobFilter(states=frozenset({JobState.SUCCEEDED})),
        {"jobs_of_tenant", "primary key"},
    ),
    "failed of a group": (
        JobFilter(states=frozenset({JobState.FAILED}), group_id=new_id()),
        {"jobs_of_group"},
    ),
    "label": (JobFilter(metadata={"k": "v"}), {"labels"}),
    "label and state": (
        JobFilter(metadata={"k": "v"}, states=frozenset({JobState.SUCCEEDED})),
        {"labels"},
    ),
    "labels and failed": (
        JobFilter(metadata={"k": "v", "l": "w"}, states=frozenset({JobState.FAILED})),
        {"ends_by_state"},
    ),
}


@pytest.mark.parametrize("name", list(FILTERS))
def test_every_page_of_a_list_is_found_along_the_index_of_its_filter(database, name):
    where, allowed = FILTERS[name]
    query = select(page(ALICE, where, 10, new_id()).c.id)
    with database._engines.writing.begin() as connection:
        sql = query.compile(connection.engine, compile_kwargs={"literal_binds": True})
        prefix = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
        rows = connection.exec_driver_sql(prefix + str(sql)).fetchall()
    plan = "\n".join(str(row[-1]) for row in rows)
    assert not re.search(r"Seq Scan|^SCAN (jobs|live|ends)(?! USING)", plan, re.M), plan
    first = re.search(r"(?:using|USING(?: COVERING)? INDEX) (?!\S*groups)(\S+)", plan)
    assert first is not None, plan
    used = first[1].removeprefix("sqlite_autoindex_")
    used = {"job_labels_1": "labels", "job_labels_pk": "labels", "jobs_pk": "primary key"}.get(
        used, used
    )
    assert used in allowed, plan


def explain(database: Database, name: str, statement: Statement, dialect: str) -> str:
    sql = statement.by_dialect[dialect]
    if dialect == "postgresql" and statement.own_clock is not None:
        sql = statement.own_clock  # as it runs outside tests
    wanted = set(re.findall(r"(?<![:\w]):([a-z]\w*)", statement.by_dialect["sqlite"]))
    wanted |= set(re.findall(r"%\((\w+)\)", statement.by_dialect["postgresql"]))
    parameters = {key: SAMPLES.get(key, "x") for key in wanted}
    parameters |= {key: new_id() for key in wanted & IDS}
    if name.startswith("jobs.submit."):
        parameters |= dict.fromkeys(wanted & {"version", "group_index"}, 1)
        parameters |= {"kind": "inference", "group_index": 1}
    if name.startswith(("models.", "aliases.")) or "api" in name:
        parameters |= dict.fromkeys(wanted & {"version"}, 1)
        parameters |= dict.fromkeys(wanted & {"after"}, "")
    if name.startswith(("files.", "webhooks.", "retention.", "packs.")):
        parameters |= {key: new_id() for key in wanted & {"after"}}
    parameters |= {"ids": ids_parameter(dialect, [new_id()]), "rows": rows_parameter([])}
    prefix = "EXPLAIN QUERY PLAN " if dialect == "sqlite" else "EXPLAIN "
    with database._engines.writing.begin() as connection:
        rows = connection.exec_driver_sql(prefix + sql, parameters).fetchall()
        if dialect == "postgresql":
            rows += generic_plan(connection, sql)
    return "\n".join(str(row[-1]) for row in rows)


def generic_plan(connection: Connection, sql: str) -> Sequence[Row[Any]]:
    """The plan that is kept for every parameter, which is what runs outside tests."""
    names: dict[str, int] = {}
    numbered = re.sub(
        r"%\((\w+)\)[sb]", lambda found: f"${names.setdefault(found[1], len(names) + 1)}", sql
    )
    driver = connection.connection.driver_connection
    with psycopg.RawCursor(driver) as cursor:
        return cursor.execute(f"EXPLAIN (GENERIC_PLAN) {numbered}").fetchall()
