"""The schema: made by migrations alone, refusing impossible rows, with an index for every verb."""

from __future__ import annotations

import importlib
import pkgutil
import re
import threading
from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, select, text
from sqlalchemy.exc import IntegrityError

import storage.database
from storage.database import Database, migrations
from storage.database.jobs.paging import page
from storage.database.statements import Statement, ids_parameter, rows_parameter
from storage.database.tables import metadata
from storage.records.errors import Conflict
from storage.records.jobs import JobFilter, JobState
from tests.support.database import (
    ALICE,
    ManualClock,
    claim,
    finish,
    new_id,
    open_session,
    submit,
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


def _bare(where: object) -> str:
    """A condition without what PostgreSQL adds when it prints one."""
    text_of_it = "" if where is None else str(where)
    return re.sub(r"::text|[()\s]", "", text_of_it).replace("!=", "<>")


class TestImpossibleRows:
    """The state machine is in the schema too: a wrong statement is refused, not stored."""

    @pytest.mark.parametrize(
        "change",
        [
            "state = 'running'",
            "state = 'succeeded'",
            "state = 'done', finished_at = 1",
            "state = 'failed', finished_at = 1",
            "state = 'cancelled', finished_at = 1",
            "finished_at = 1",
            "session_id = id",
            "started_at = 1",
            "cancel_requested_at = 1",
            "attempts = max_attempts",
            "attempts = -1",
            "priority = 10",
            "kind = 'guess'",
            "seq = 0",
            "suspicions = -1",
            "group_index = 1",
            "error_code = 'x', error_message = 'x', error_attempt = 1",
            "result_pack_id = id, result_offset_bytes = 0, result_length_bytes = 1,"
            " result_digest = 'x'",
            "tenant = NULL",
        ],
    )
    def test_of_a_queued_job(self, database, change):
        submit(database)
        self._refused(database, f"UPDATE jobs SET {change}")

    @pytest.mark.parametrize(
        "change",
        [
            "session_id = NULL",
            "run_deadline_at = NULL",
            "epoch = 0",
            "state = 'queued'",
            "state = 'expired'",
        ],
    )
    def test_of_a_running_job(self, database, change):
        claim(database, open_session(database), submit(database))
        self._refused(database, f"UPDATE jobs SET {change}")

    @pytest.mark.parametrize(
        "change",
        [
            "state = 'queued'",
            "state = 'running', result_pack_id = NULL",
            "finished_at = NULL",
            "result_digest = NULL",
            "result_length_bytes = -1",
            "error_code = 'x'",
        ],
    )
    def test_of_a_succeeded_job(self, database, change):
        finish(database, open_session(database), submit(database))
        self._refused(database, f"UPDATE jobs SET {change}")

    @pytest.mark.parametrize(
        "change",
        ["body = NULL", "pack_id = job_id", "body = NULL, pack_id = job_id, digest = 'x'"],
    )
    def test_of_a_payload(self, database, change):
        submit(database)
        self._refused(database, f"UPDATE payloads SET {change}")

    def _refused(self, database: Database, statement: str) -> None:
        with (
            pytest.raises(IntegrityError),
            database._engines.writing.begin() as connection,
        ):
            connection.execute(text(statement))


def test_every_state_of_the_words_is_a_state_of_the_schema(database):
    submit(database)
    (check,) = (
        one for one in metadata.tables["jobs"].constraints if one.name == "jobs_state_known"
    )
    assert set(re.findall(r"'(\w+)'", str(check.sqltext))) == {state.value for state in JobState}


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
ONLY_ONE_DIALECT = {
    "jobs.submit.INLINE_PAYLOADS": "postgresql",
    "jobs.submit.INLINE_PAYLOAD": "sqlite",
}
SAMPLES: dict[str, object] = {
    "now": 1,
    "before": 1,
    "limit": 10,
    "bulk_limit": 10,
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
    "spends": 1,
    "suspects": 0,
    "tenants": [ALICE],
    "body": b"",
    "bodies": [b""],
}
IDS = {"id", "session", "group", "version"}


@pytest.mark.parametrize("name", list(STATEMENTS))
def test_every_statement_runs_along_an_index_whatever_it_is_asked(database, name):
    """Explained, on both engines: nothing walks through the finished jobs.

    Also proves that every statement kept by name is valid on every engine it is for.
    """
    statement = STATEMENTS[name]
    with database.read() as tx:
        dialect = tx._work.dialect
    if ONLY_ONE_DIALECT.get(name, dialect) != dialect:
        return
    plan = explain(database, name, statement, dialect)
    if dialect == "postgresql":
        assert not re.search(r"Seq Scan on (jobs|payloads|job_labels)", plan), plan
    else:
        walks = re.findall(
            r"^SCAN (j|jobs|p|payloads)\b(?! USING (?:COVERING )?INDEX).*", plan, re.M
        )
        assert not walks, plan


ALONG = {
    "backlog.POOLS": "jobs_backlog",
    "backlog.TENANTS": "jobs_backlog",
    "backlog.HEADS": "jobs_backlog",
    "backlog.WINDOW": "jobs_window",
    "backlog.URGENT": "jobs_expiring",
    "backlog.WINDOW_BY_CLASS": "jobs_window",
    "backlog.LOAD_OF_WINDOW": "jobs_window",
    "backlog.LOAD_OF_TENANT": "jobs_backlog",
    "backlog.DEPTH": "jobs_of_tenant_by_state",
    "backlog.MARK_PUBLISHED": "primary key",
    "backlog.UNMARK": "primary key",
    "jobs.running.CLAIM": "primary key",
    "jobs.running.COMMIT": "primary key",
    "jobs.running.BLAME": "primary key",
    "jobs.reading.GLIMPSE": "primary key",
    "jobs.ending.FAIL_VERSION": "jobs_queued_of_version",
    "jobs.ending.CANCEL_GROUP": "jobs_of_group",
    "jobs.duties.EXPIRE": "jobs_expiring",
    "jobs.duties.SWEEP": "jobs_window",
    "jobs.duties.TIME_OUT": "jobs_running",
    "jobs.duties.REAP": "jobs_running",
    "groups.COUNTS": "jobs_of_group",
    "groups.MEMBERS": "jobs_of_group",
}


@pytest.mark.parametrize("name", list(ALONG))
def test_the_hot_ones_have_no_other_index_to_walk_along_by_mistake(database, name):
    """Without statistics: a backlog of a million rows that came a second ago has none either.

    A planner that believes every partial index to be empty takes any that it may use. When the
    conditions of two followed from one another, the relay's look took 360 ms instead of one.
    """
    with database.read() as tx:
        dialect = tx._work.dialect
    plan = explain(database, name, STATEMENTS[name], dialect)
    of_jobs = r"(?:sqlite_autoindex_)?jobs_\w+" if dialect == "sqlite" else r"\bjobs_\w+"
    used = {
        "primary key" if re.search(r"_pk|auto", one) else one for one in re.findall(of_jobs, plan)
    }
    assert used <= {ALONG[name], "primary key"}, plan
    assert ALONG[name] in used, plan


FILTERS = {
    "all": (JobFilter(), {"jobs_of_tenant", "primary key"}),
    "model": (JobFilter(model_name="m"), {"jobs_of_model", "jobs_of_tenant"}),  # statistics decide
    "group": (JobFilter(group_id=new_id()), {"jobs_of_group"}),
    "failed": (JobFilter(states=frozenset({JobState.FAILED})), {"jobs_of_tenant_by_state"}),
    "label": (JobFilter(metadata={"k": "v"}), {"labels"}),
    "label and state": (
        JobFilter(metadata={"k": "v"}, states=frozenset({JobState.SUCCEEDED})),
        {"labels"},
    ),
    "labels and failed": (
        JobFilter(metadata={"k": "v", "l": "w"}, states=frozenset({JobState.FAILED})),
        {"jobs_of_tenant_by_state"},
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
    assert not re.search(r"Seq Scan|^SCAN jobs(?! USING)", plan, re.M), plan
    first = re.search(r"(?:using|USING(?: COVERING)? INDEX) (?!\S*groups)(\S+)", plan)
    assert first is not None, plan
    used = first[1].removeprefix("sqlite_autoindex_")
    used = {"job_labels_1": "labels", "job_labels_pk": "labels", "jobs_pk": "primary key"}.get(
        used, used
    )
    assert used in allowed, plan


def explain(database: Database, name: str, statement: Statement, dialect: str) -> str:
    sql = statement.by_dialect[dialect]
    wanted = set(re.findall(r"(?<![:\w]):([a-z]\w*)", statement.by_dialect["sqlite"]))
    wanted |= set(re.findall(r"%\((\w+)\)", statement.by_dialect["postgresql"]))
    parameters = {key: SAMPLES.get(key, "x") for key in wanted}
    parameters |= {key: new_id() for key in wanted & IDS}
    if name.startswith("models.") or "api" in name:
        parameters |= dict.fromkeys(wanted & {"version"}, 1)
        parameters |= dict.fromkeys(wanted & {"after"}, "")
    parameters |= {"ids": ids_parameter(dialect, [new_id()]), "rows": rows_parameter([])}
    prefix = "EXPLAIN QUERY PLAN " if dialect == "sqlite" else "EXPLAIN "
    with database._engines.writing.begin() as connection:
        rows = connection.exec_driver_sql(prefix + sql, parameters).fetchall()
    return "\n".join(str(row[-1]) for row in rows)
