"""The schema, as SQLAlchemy tables: what Alembic compares with and what the listing selects from.

Four rules shape it.

* **A job is written once, its state elsewhere.** ``jobs`` holds what was asked for and is never
  updated, but for the version of one that is queued, when another stands in (``repointing``). While
  a job is live, what changes is in its row of ``live``: small, in few indexes, and gone with the
  end, which is one row in ``ends``, never updated either. So ten million finished jobs have no dead
  rows among them, and a transition rewrites 200 bytes instead of the whole job and its five listing
  indexes. Every job has a row in exactly one of ``live`` and ``ends``.
* **The database refuses impossible rows.** The state machine of ``storage.records.jobs`` is
  repeated in CHECKs: a running job has a session, a queued one no cancel.
* **Size follows the live jobs.** Whatever the relay, the workers and the duties look at is in
  ``live``. Finished jobs are found by primary key and by the listing indexes only. Ids are
  time-ordered, so retention is a range.
* **No foreign keys from jobs.** They would cost a probe per row on the hottest statements; what
  they would protect (tenants, versions, packs) is only ever deleted by duties that look first.

All times are integer milliseconds on the database's own clock.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION, UUID
from sqlalchemy.types import Float

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pk",
        "uq": "%(table_name)s_%(column_0_name)s_once",
        "ck": "%(table_name)s_%(constraint_name)s",
        "fk": "%(table_name)s_%(column_0_name)s_fk",
    }
)

ID = String(36).with_variant(UUID(as_uuid=False), "postgresql")
DOUBLE = Float(53).with_variant(DOUBLE_PRECISION(), "postgresql")


def _partial(name: str, *columns: str | Column[str], where: str, unique: bool = False) -> Index:
    condition = text(where)
    return Index(name, *columns, unique=unique, sqlite_where=condition, postgresql_where=condition)


jobs = Table(
    "jobs",
    metadata,
    Column("id", ID, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("model_name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("version_id", ID, nullable=False),
    Column("pool", Text, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("group_id", ID),
    Column("group_index", Integer),
    Column("custom_id", Text),
    Column("metadata", Text),  # JSON; searched through job_labels
    Column("max_attempts", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("run_timeout_ms", BigInteger, nullable=False),
    Column("retry_of", ID),
    Column("webhook_id", ID),
    Column("shadow_of", ID),  # the job whose input a trial scores again: nobody's but the trial's
    PrimaryKeyConstraint("id"),
    CheckConstraint("kind IN ('inference', 'bulk', 'training', 'evaluation')", name="kind_known"),
    CheckConstraint("priority BETWEEN 0 AND 9", name="priority_in_range"),
    CheckConstraint("max_attempts >= 1", name="attempts_in_range"),
    CheckConstraint("(group_id IS NULL) = (group_index IS NULL)", name="group_and_index"),
    # Listing: all, one model, one group.
    Index("jobs_of_tenant", "tenant", "id"),
    Index("jobs_of_model", "tenant", "model_name", "id"),
    _partial("jobs_of_group", "group_id", "group_index", where="group_id IS NOT NULL"),
    _partial("jobs_shadows", "shadow_of", where="shadow_of IS NOT NULL", unique=True),
)

live = Table(
    "live",
    metadata,
    Column("id", ID, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("pool", Text, nullable=False),
    Column("version_id", ID, nullable=False),
    Column("group_id", ID),
    Column("priority", SmallInteger, nullable=False),
    Column("rank", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("suspicions", Integer, nullable=False),
    Column("session_id", ID),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("not_before", BigInteger, nullable=False),
    Column("published_at", BigInteger),
    Column("started_at", BigInteger),
    Column("run_deadline_at", BigInteger),
    Column("run_timeout_ms", BigInteger, nullable=False),
    Column("cancel_requested_at", BigInteger),
    Column("webhook_id", ID),
    Column("arm_id", ID),  # of the trial that the job takes part in
    Column("shadow_of", ID),
    PrimaryKeyConstraint("id"),
    CheckConstraint("state IN ('queued', 'running')", name="state_known"),
    CheckConstraint(
        "seq >= 1 AND epoch >= 0 AND losses >= 0 AND suspicions >= 0"
        " AND attempts BETWEEN 0 AND max_attempts",
        name="counters_in_range",
    ),
    CheckConstraint(
        "state <> 'queued' OR (session_id IS NULL AND started_at IS NULL"
        " AND run_deadline_at IS NULL AND cancel_requested_at IS NULL AND attempts < max_attempts)",
        name="queued_is_nobodys",
    ),
    CheckConstraint(
        "state <> 'running' OR (session_id IS NOT NULL AND epoch >= 1"
        " AND started_at IS NOT NULL AND run_deadline_at IS NOT NULL)",
        name="running_has_session",
    ),
    # No condition follows from another's (the second halves always hold): a planner that knows
    # nothing yet of a backlog of a million rows believes every one of these indexes to be empty,
    # and would walk through whichever it may use.
    _partial(
        "live_backlog",
        "pool",
        "tenant",
        "priority",
        "rank",
        "id",
        where="state = 'queued' AND published_at IS NULL",
    ),
    _partial(
        "live_window",
        "pool",
        "tenant",
        "published_at",
        where="state = 'queued' AND published_at IS NOT NULL",
    ),
    _partial("live_expiring", "expires_at", where="state = 'queued' AND started_at IS NULL"),
    _partial("live_queued", "tenant", "id", where="state = 'queued' AND run_deadline_at IS NULL"),
    _partial("live_running", "tenant", "id", where="state = 'running'"),
    _partial("live_of_arm", "arm_id", where="arm_id IS NOT NULL"),
    # Every row is updated twice and deleted, so its dead rows are as many as the jobs that pass.
    # Vacuuming it is cheap, as it is small; the default would let it grow by a fifth.
    postgresql_with={"autovacuum_vacuum_scale_factor": "0.01"},
)

ends = Table(
    "ends",
    metadata,
    Column("id", ID, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("group_id", ID),
    Column("state", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("session_id", ID),
    Column("published_at", BigInteger),
    Column("started_at", BigInteger),
    Column("cancel_requested_at", BigInteger),
    Column("finished_at", BigInteger, nullable=False),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("error_attempt", Integer),
    Column("result_pack_id", ID),
    Column("result_offset_bytes", BigInteger),
    Column("result_length_bytes", BigInteger),
    Column("result_digest", Text),
    Column("arm_id", ID),
    Column("shadow_of", ID),
    PrimaryKeyConstraint("id"),
    CheckConstraint("state IN ('succeeded', 'failed', 'cancelled', 'expired')", name="state_known"),
    CheckConstraint(
        "seq >= 2 AND epoch >= 0 AND losses >= 0 AND attempts >= 0", name="counters_in_range"
    ),
    CheckConstraint(
        "state <> 'cancelled' OR cancel_requested_at IS NOT NULL", name="cancelled_was_asked"
    ),
    CheckConstraint(
        "(state = 'failed') = (error_code IS NOT NULL)"
        " AND (error_code IS NULL) = (error_message IS NULL)"
        " AND (error_code IS NULL) = (error_attempt IS NULL)",
        name="failed_has_error",
    ),
    CheckConstraint(
        "result_pack_id IS NULL OR (state = 'succeeded' AND result_offset_bytes >= 0"
        " AND result_length_bytes >= 0 AND result_digest IS NOT NULL)",
        name="result_is_whole",
    ),
    # Listing: the rare states; a group's counts.
    _partial("ends_by_state", "tenant", "state", "id", where="result_pack_id IS NULL"),
    _partial("ends_of_group", "group_id", "state", where="group_id IS NOT NULL"),
    # What came of a trial's arms, the last first.
    _partial("ends_of_arm", "arm_id", "finished_at", where="arm_id IS NOT NULL"),
)

payloads = Table(
    "payloads",
    metadata,
    Column("job_id", ID, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("body", LargeBinary),
    Column("pack_id", ID),
    Column("offset_bytes", BigInteger),
    Column("length_bytes", BigInteger),
    Column("digest", Text),
    PrimaryKeyConstraint("job_id"),
    CheckConstraint(
        "(body IS NULL) <> (pack_id IS NULL) AND (pack_id IS NULL) = (digest IS NULL)"
        " AND (pack_id IS NULL) = (offset_bytes IS NULL)"
        " AND (pack_id IS NULL) = (length_bytes IS NULL)",
        name="inline_or_packed",
    ),
    _partial("payloads_of_pack", "pack_id", where="pack_id IS NOT NULL"),
)

job_labels = Table(
    "job_labels",
    metadata,
    Column("tenant", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("job_id", ID, nullable=False),
    PrimaryKeyConstraint("tenant", "key", "value", "job_id"),
)

groups = Table(
    "groups",
    metadata,
    Column("id", ID, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("total", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("webhook_id", ID),
    Column("settled", Integer, nullable=False, server_default="0"),  # so many from the first on
    Column("completed_at", BigInteger),
    PrimaryKeyConstraint("id"),
    CheckConstraint("total >= 0", name="total_in_range"),
    _partial("groups_open", "id", where="completed_at IS NULL"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", ID, nullable=False),
    Column("node", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("pool", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("lease_until", BigInteger, nullable=False),
    Column("jobs_per_s", DOUBLE, nullable=False),
    Column("ended_at", BigInteger),
    Column("stats", Text),  # JSON: what the process counted so far
    PrimaryKeyConstraint("id"),
    CheckConstraint("lease_until >= started_at AND jobs_per_s >= 0", name="lease_in_range"),
    _partial("sessions_live", "lease_until", where="ended_at IS NULL"),
    _partial("sessions_ended", "ended_at", where="ended_at IS NOT NULL"),
)

packs = Table(
    "packs",
    metadata,
    Column("id", ID, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("object_key", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("entries", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("object_key"),
    CheckConstraint("state IN ('writing', 'live', 'doomed')", name="state_known"),
    CheckConstraint("kind IN ('input', 'result')", name="kind_known"),
    CheckConstraint("entries >= 0 AND size_bytes >= 0", name="sizes_in_range"),
    _partial("packs_writing", "created_at", where="state = 'writing'"),
    _partial("packs_doomed", "id", where="state = 'doomed'"),
)

models = Table(
    "models",
    metadata,
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("latest_version", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "name"),
    CheckConstraint("latest_version >= 1", name="latest_in_range"),
)

versions = Table(
    "versions",
    metadata,
    Column("id", ID, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("object_key", Text, nullable=False),
    Column("signature", Text, nullable=False),  # JSON
    Column("trusted", Boolean, nullable=False),
    Column("error", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("loaded_at", BigInteger),
    Column("origin", Text),  # JSON: what a training made it from
    Column("uploader", Text),
    Column("licence", Text),
    Column("notes", Text),
    Column("deleted_at", BigInteger),
    Column("collected_at", BigInteger),  # its artifact was taken away
    PrimaryKeyConstraint("id"),
    UniqueConstraint("tenant", "name", "version"),
    ForeignKeyConstraint(["tenant", "name"], ["models.tenant", "models.name"]),
    CheckConstraint(
        "state IN ('training', 'pending', 'ready', 'broken', 'deprecated', 'deleted')",
        name="state_known",
    ),
    CheckConstraint("format IN ('keras', 'h5', 'saved_model')", name="format_known"),
    CheckConstraint("format = 'keras' OR trusted", name="others_are_trusted"),
    CheckConstraint(
        "state = 'deleted' OR (state = 'broken') = (error IS NOT NULL)", name="broken_says_why"
    ),
    CheckConstraint(
        "state = 'deleted' OR (state IN ('ready', 'deprecated')) = (loaded_at IS NOT NULL)",
        name="ready_was_loaded",
    ),
    # While it is in training there is no artifact, and if it is given up there never was one.
    CheckConstraint(
        "(digest = '') = (object_key = '') AND (digest <> '' OR size_bytes = 0)"
        " AND (state <> 'training' OR digest = '')"
        " AND (digest <> '' OR state IN ('training', 'broken', 'deleted'))",
        name="artifact_is_whole",
    ),
    # A deleted one stays as a record; what was queued for it before it went may need its artifact.
    CheckConstraint(
        "(state = 'deleted') = (deleted_at IS NOT NULL)"
        " AND (collected_at IS NULL OR deleted_at IS NOT NULL)",
        name="deleted_has_time",
    ),
    _partial("versions_pending", "created_at", where="state = 'pending'"),
    _partial("versions_training", "created_at", where="state = 'training'"),
    _partial(
        "versions_deleted",
        "deleted_at",
        where="collected_at IS NULL AND deleted_at IS NOT NULL",
    ),
)

latency = Table(
    "latency",
    metadata,
    Column("version_id", ID, nullable=False),
    Column("device", Text, nullable=False),
    Column("shape", Text, nullable=False),
    Column("bucket", Integer, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("mean_s", DOUBLE, nullable=False),
    Column("p95_s", DOUBLE, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("version_id", "device", "shape", "bucket"),
    CheckConstraint(
        "bucket >= 1 AND count >= 0 AND mean_s >= 0 AND p95_s >= 0", name="measures_in_range"
    ),
)

version_costs = Table(
    "version_costs",
    metadata,
    Column("version_id", ID, nullable=False),
    Column("device", Text, nullable=False),
    Column("device_s_per_job", DOUBLE, nullable=False),
    Column("path_s_per_job", DOUBLE, nullable=False),
    Column("load_s", DOUBLE, nullable=False),
    Column("memory_bytes", BigInteger, nullable=False),
    Column("safe_rows", Integer),
    Column("updated_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("version_id", "device"),
    CheckConstraint(
        "device_s_per_job >= 0 AND path_s_per_job >= 0 AND load_s >= 0"
        " AND memory_bytes >= 0 AND safe_rows >= 1",
        name="measures_in_range",
    ),
)

aliases = Table(
    "aliases",
    metadata,
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("alias", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "name", "alias"),
    ForeignKeyConstraint(
        ["tenant", "name", "version"], ["versions.tenant", "versions.name", "versions.version"]
    ),
)

# What a version was worth on some data: written once, with the end of the job that measured it.
evaluations = Table(
    "evaluations",
    metadata,
    Column("job_id", ID, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("version_id", ID, nullable=False),
    Column("model_name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("data_digest", Text, nullable=False),  # two with the same one can be compared
    Column("rows", BigInteger, nullable=False),
    Column("metrics", Text, nullable=False),  # JSON: number or null by name, what gates ask for
    Column("document", Text, nullable=False),  # JSON: all of it
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("job_id"),
    CheckConstraint("rows >= 0", name="rows_in_range"),
    Index("evaluations_of_version", "version_id", "created_at"),
)

# Where an alias stood after each of its moves: one row for each generation, never updated.
alias_moves = Table(
    "alias_moves",
    metadata,
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("alias", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("from_version", Integer),
    Column("to_version", Integer, nullable=False),
    Column("why", Text, nullable=False),
    Column("undoes", Integer),  # the generation that a rollback takes back
    Column("gate", Text),
    Column("seen", Text),  # JSON: the values that the gate was decided by
    Column("note", Text),
    Column("moved_by", Text),
    Column("moved_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "name", "alias", "generation"),
    CheckConstraint("why IN ('set', 'promote', 'rollback')", name="why_known"),
    CheckConstraint("(why = 'rollback') = (undoes IS NOT NULL)", name="rollback_undoes"),
)

# A candidate beside what an alias stands for. A job that takes part has the id of its arm.
trials = Table(
    "trials",
    metadata,
    Column("id", ID, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("alias", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("base_version_id", ID, nullable=False),
    Column("base_version", Integer, nullable=False),
    Column("candidate_version_id", ID, nullable=False),
    Column("candidate_version", Integer, nullable=False),
    Column("base_arm_id", ID, nullable=False),
    Column("candidate_arm_id", ID, nullable=False),
    Column("shadow_arm_id", ID, nullable=False),
    Column("share", DOUBLE, nullable=False),
    Column("limits", Text, nullable=False),  # JSON
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("started_by", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("settled_at", BigInteger),  # nothing of it is queued any more
    Column("repointed", BigInteger, nullable=False),
    Column("compared", BigInteger, nullable=False),
    Column("disagreed", BigInteger, nullable=False),
    Column("seen", Text),  # JSON: what was last counted
    Column("progress", Text),  # JSON: how far the duty is
    PrimaryKeyConstraint("id"),
    CheckConstraint("kind IN ('canary', 'shadow')", name="kind_known"),
    CheckConstraint("state IN ('running', 'promoted', 'returned', 'stopped')", name="state_known"),
    CheckConstraint("share > 0 AND share <= 1", name="share_in_range"),
    CheckConstraint(
        "(state = 'running') = (ended_at IS NULL) AND (state = 'running') = (reason IS NULL)"
        " AND (settled_at IS NULL OR ended_at IS NOT NULL)",
        name="ended_says_why",
    ),
    CheckConstraint(
        "repointed >= 0 AND disagreed >= 0 AND compared >= disagreed", name="counters_in_range"
    ),
    Index("trials_of_model", "tenant", "name", "created_at"),
    _partial("trials_unsettled", "id", where="settled_at IS NULL"),
    _partial("trials_running", "tenant", "name", "alias", where="state = 'running'", unique=True),
)

tenants = Table(
    "tenants",
    metadata,
    Column("name", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("name"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", ID, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("key_hash", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("key_hash"),
    ForeignKeyConstraint(["tenant"], ["tenants.name"]),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("tenant", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("ref", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "key"),
    Index("idempotency_expiring", "expires_at"),
)

files = Table(
    "files",
    metadata,
    Column("id", ID, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("object_key", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("id"),
    CheckConstraint("size_bytes >= 0", name="size_in_range"),
    Index("files_of_tenant", "tenant", "id"),
)

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", ID, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("types", Text, nullable=False),  # JSON list
    Column("description", Text),
    Column("listed", Boolean, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("disabled_reason", Text),
    Column("failures", Integer, nullable=False),
    Column("paused_until", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("id"),
    CheckConstraint("failures >= 0 AND paused_until >= 0", name="counters_in_range"),
    CheckConstraint("enabled = (disabled_reason IS NULL)", name="disabled_says_why"),
    Index("webhook_endpoints_of_tenant", "tenant", "id"),
)

# Who wants which events, for the commit that ends jobs: one look for each of them.
webhook_filters = Table(
    "webhook_filters",
    metadata,
    Column("tenant", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("endpoint_id", ID, nullable=False),
    Column("enabled", Boolean, nullable=False),
    PrimaryKeyConstraint("tenant", "type", "endpoint_id"),
    Index("webhook_filters_of_endpoint", "endpoint_id"),
)

# In the clear: a signature needs the secret itself.
webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    Column("id", ID, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("endpoint_id", ID),
    Column("secret", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    PrimaryKeyConstraint("id"),
    Index("webhook_secrets_of_tenant", "tenant", "id"),
)

events = Table(
    "events",
    metadata,
    Column("id", ID, nullable=False),  # the job's or the group's: one event for each
    Column("tenant", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("group_id", ID),
    Column("seq", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("id"),
    Index("events_of_tenant", "tenant", "created_at", "id"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("event_id", ID, nullable=False),
    Column("endpoint_id", ID, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("event_id", "endpoint_id"),
    CheckConstraint("state IN ('pending', 'delivered', 'given_up')", name="state_known"),
    CheckConstraint("attempts >= 0", name="attempts_in_range"),
    _partial("deliveries_pending", "endpoint_id", "due_at", where="state = 'pending'"),
    postgresql_with={"autovacuum_vacuum_scale_factor": "0.02"},
)

webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    Column("id", ID, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("endpoint_id", ID, nullable=False),
    Column("event_id", ID, nullable=False),
    Column("number", Integer, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("result", Text, nullable=False),
    Column("status", Integer),
    Column("error", Text),
    PrimaryKeyConstraint("id"),
    CheckConstraint("number >= 1 AND duration_ms >= 0", name="counters_in_range"),
    Index("webhook_attempts_of_endpoint", "endpoint_id", "id"),
)

# When a keeper last ran each of its duties, and when it last left nothing to do.
duties = Table(
    "duties",
    metadata,
    Column("name", Text, nullable=False),
    Column("every_ms", BigInteger, nullable=False),
    Column("ran_at", BigInteger, nullable=False),
    Column("clear_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("name"),
)

# A bulk job's own record. It is in ``bulk_runs_open`` from its planning until a keeper saw that
# its job is over: so what workers look at all the time is as long as the runs that there are now.
bulk_runs = Table(
    "bulk_runs",
    metadata,
    Column("job_id", ID, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("pool", Text, nullable=False),
    Column("version_id", ID, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("rank", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("paused_at", BigInteger),
    Column("planned_at", BigInteger),
    Column("closed_at", BigInteger),
    Column("plan", Text),  # JSON
    Column("shards", Integer),
    Column("units_total", BigInteger),
    Column("rows_total", BigInteger),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("progress", Text),  # JSON
    Column("progressed_at", BigInteger),
    PrimaryKeyConstraint("job_id"),
    CheckConstraint(
        "(planned_at IS NULL) = (plan IS NULL) AND (planned_at IS NULL) = (shards IS NULL)"
        " AND (planned_at IS NULL) = (units_total IS NULL)"
        " AND (planned_at IS NOT NULL OR rows_total IS NULL AND closed_at IS NULL)",
        name="planned_is_whole",
    ),
    CheckConstraint(
        "(shards IS NULL OR shards >= 0) AND (units_total IS NULL OR units_total >= 0)"
        " AND (rows_total IS NULL OR rows_total >= 0)",
        name="totals_in_range",
    ),
    CheckConstraint("(error_code IS NULL) = (error_message IS NULL)", name="error_is_whole"),
    CheckConstraint("(progress IS NULL) = (progressed_at IS NULL)", name="progress_has_time"),
    _partial(
        "bulk_runs_open",
        "pool",
        "rank",
        "job_id",
        where="planned_at IS NOT NULL AND closed_at IS NULL",
    ),
)

# Between ``start`` and ``stop`` is what is still to be done: commits move the start.
bulk_shards = Table(
    "bulk_shards",
    metadata,
    Column("job_id", ID, nullable=False),
    Column("number", Integer, nullable=False),
    Column("file", Integer, nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("stop", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("session_id", ID),
    Column("losses", Integer, nullable=False),
    Column("suspect_start", BigInteger),
    Column("suspect_stop", BigInteger),
    Column("suspect_deaths", Integer),
    Column("live_rows", BigInteger, nullable=False),
    Column("live_failed", BigInteger, nullable=False),
    Column("live_device_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("job_id", "number"),
    CheckConstraint("state IN ('open', 'running', 'done')", name="state_known"),
    CheckConstraint(
        "number >= 0 AND file >= 0 AND start >= 0 AND start <= stop AND epoch >= 0 AND losses >= 0",
        name="counters_in_range",
    ),
    CheckConstraint("(state = 'done') = (start = stop)", name="done_has_no_rest"),
    CheckConstraint(
        "(state = 'running') = (session_id IS NOT NULL) AND (state <> 'running' OR epoch >= 1)",
        name="running_has_session",
    ),
    CheckConstraint(
        "(suspect_start IS NULL) = (suspect_stop IS NULL)"
        " AND (suspect_start IS NULL) = (suspect_deaths IS NULL) AND (suspect_start IS NULL OR"
        " suspect_start >= 0 AND suspect_start < suspect_stop AND suspect_deaths >= 0)",
        name="suspect_is_whole",
    ),
    CheckConstraint(
        "live_rows >= 0 AND live_failed >= 0 AND live_device_ms >= 0"
        " AND (state = 'running' OR live_rows + live_failed + live_device_ms = 0)",
        name="live_while_running",
    ),
    _partial("bulk_shards_open", "job_id", "number", where="state = 'open'"),
    _partial("bulk_shards_running", "job_id", "number", "session_id", where="state = 'running'"),
    postgresql_with={"autovacuum_vacuum_scale_factor": "0.02"},
)

# Written once each, and never updated.
bulk_parts = Table(
    "bulk_parts",
    metadata,
    Column("job_id", ID, nullable=False),
    Column("number", Integer, nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("stop", BigInteger, nullable=False),
    Column("file", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("skipped", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("object_key", Text),
    Column("digest", Text),
    Column("errors_key", Text),
    Column("errors_bytes", BigInteger, nullable=False),
    Column("device_ms", BigInteger, nullable=False),
    Column("committed_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("job_id", "number", "start"),
    CheckConstraint(
        "number >= 0 AND file >= 0 AND start >= 0 AND start < stop AND epoch >= 1",
        name="range_in_range",
    ),
    CheckConstraint(
        "rows >= 0 AND failed >= 0 AND skipped >= 0 AND size_bytes >= 0 AND errors_bytes >= 0"
        " AND device_ms >= 0",
        name="sums_in_range",
    ),
    CheckConstraint(
        "(object_key IS NULL) = (digest IS NULL) AND (rows = 0 OR object_key IS NOT NULL)"
        " AND (failed = 0 OR errors_key IS NOT NULL)",
        name="what_was_scored_is_stored",
    ),
)

# A training job's own record: small, rewritten every second while it runs. What it measured and
# said is in rows of their own, written once each.
training_runs = Table(
    "training_runs",
    metadata,
    Column("job_id", ID, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("version_id", ID, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("paused_at", BigInteger),
    Column("progress", Text),  # JSON
    Column("progressed_at", BigInteger),
    Column("lines", Integer, nullable=False),  # the number of the last one in its log
    Column("checkpoint_pack_id", ID),
    Column("checkpoint_key", Text),
    Column("checkpoint_digest", Text),
    Column("checkpoint_bytes", BigInteger),
    Column("checkpoint_epoch", Integer),
    Column("checkpoint_step", BigInteger),
    Column("checkpoint_at", BigInteger),
    Column("deaths", Integer, nullable=False),
    Column("data", Text),  # JSON
    Column("result", Text),  # JSON
    Column("error_code", Text),
    Column("error_message", Text),
    PrimaryKeyConstraint("job_id"),
    CheckConstraint(
        "(checkpoint_pack_id IS NULL) = (checkpoint_key IS NULL)"
        " AND (checkpoint_pack_id IS NULL) = (checkpoint_digest IS NULL)"
        " AND (checkpoint_pack_id IS NULL) = (checkpoint_bytes IS NULL)"
        " AND (checkpoint_pack_id IS NULL) = (checkpoint_epoch IS NULL)"
        " AND (checkpoint_pack_id IS NULL) = (checkpoint_step IS NULL)"
        " AND (checkpoint_pack_id IS NULL) = (checkpoint_at IS NULL)",
        name="checkpoint_is_whole",
    ),
    CheckConstraint(
        "lines >= 0 AND deaths >= 0 AND (checkpoint_pack_id IS NULL OR checkpoint_bytes >= 0"
        " AND checkpoint_epoch >= 0 AND checkpoint_step >= 0)",
        name="counters_in_range",
    ),
    CheckConstraint("(error_code IS NULL) = (error_message IS NULL)", name="error_is_whole"),
    CheckConstraint("(progress IS NULL) = (progressed_at IS NULL)", name="progress_has_time"),
    Index("training_runs_of_version", "version_id"),
    _partial("training_runs_of_pack", "checkpoint_pack_id", where="checkpoint_pack_id IS NOT NULL"),
)

training_measures = Table(
    "training_measures",
    metadata,
    Column("job_id", ID, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("scope", Text, nullable=False),
    Column("told", Text, nullable=False),  # JSON
    PrimaryKeyConstraint("job_id", "step", "scope"),
    CheckConstraint("scope IN ('steps', 'epoch')", name="scope_known"),
    CheckConstraint("step >= 0", name="step_in_range"),
)

training_log = Table(
    "training_log",
    metadata,
    Column("job_id", ID, nullable=False),
    Column("number", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("line", Text, nullable=False),
    PrimaryKeyConstraint("job_id", "number"),
    CheckConstraint("number >= 1", name="number_in_range"),
)
