"""Where faults are played: servers, and a stack that many faults can share."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

import kombu
import psycopg
from amqp.exceptions import NotFound

from tests.faults.dump import (
    Vanished,
    delete_objects,
    dump_objects,
    dump_queues,
    dump_tables,
    stored,
)
from tests.faults.fault import Fault
from tests.faults.load import MODEL, Load, Person
from tests.faults.stack import STANDARD, FaultStack
from tests.support.archives import archive, input_layer, layer, sequential
from tests.support.caller import Caller, tensor
from tests.support.stack import Servers, Stack

S = TypeVar("S", bound=Stack)
TENANTS = ("ayla", "bora")
BATCH = 16  # small, so that 200 jobs are many passes
DEAD = "forebay.dead"
_QUIET_S = 10.0  # for messages that are still being acknowledged
FINISHED = (
    "DELETE FROM payloads WHERE job_id IN (SELECT id FROM ends)",
    "DELETE FROM job_labels WHERE job_id IN (SELECT id FROM ends)",
    "DELETE FROM bulk_parts",
    "DELETE FROM bulk_shards",
    "DELETE FROM bulk_runs",
    "DELETE FROM training_measures",
    "DELETE FROM training_log",
    "DELETE FROM training_runs",
    "DELETE FROM jobs WHERE id IN (SELECT id FROM ends)",
    "DELETE FROM ends",
    "DELETE FROM groups",
    "DELETE FROM idempotency",
    "DELETE FROM events",
    "DELETE FROM deliveries",
    "DELETE FROM webhook_attempts",
    "DELETE FROM webhook_filters",
    "DELETE FROM webhook_endpoints",
)
FINISHED_PACKS = "DELETE FROM packs WHERE state <> 'writing' RETURNING object_key"


class OneStack(Generic[S]):
    """What keeps a stack and its callers from one fault to the next."""

    _stack: S | None = None
    _load: Load | None = None

    def drop(self) -> None:
        """Its stack is gone; the next fault gets another."""
        stack, load = self._stack, self._load
        self._stack = self._load = None
        if load is not None:
            load.close()
        if stack is not None:
            stack.close()
            shutil.rmtree(stack.folder / "cache", ignore_errors=True)

    def logs(self) -> str:
        return self._stack.logs() if self._stack is not None else ""


class Stage(OneStack[FaultStack]):
    """One stack at a time, made anew when a fault asks for another or left the last one broken."""

    def __init__(
        self, folder: Path, servers: Servers, environment: Mapping[str, str] | None = None
    ) -> None:
        self._folder, self._servers = folder, servers
        self._environment = dict(environment or {})
        self._made_for: tuple[Any, ...] = ()
        self._count = 0
        self._device = 0  # the process that computed when the last run began

    def ready(self, fault: Fault) -> tuple[FaultStack, Load]:
        """A stack on which everything runs, with an empty past."""
        wanted = (tuple(sorted(fault.settings.items())), fault.heavy)
        if self._stack is not None and (fault.fresh or wanted != self._made_for):
            self.drop()
        if self._stack is None:
            self._make(fault)
            self._made_for = wanted
        assert self._stack is not None and self._load is not None
        stack = self._stack
        if stack.runs("worker") and stack.device() != self._device:
            stack.kill("worker")  # its supervisor would wait longer before each new start
        for name in STANDARD:
            if not stack.runs(name):
                stack.start(name)
        self._device = stack.device()
        stack.wait_ready()
        return stack, self._load

    def _make(self, fault: Fault) -> None:
        self._count += 1
        folder = self._folder / f"stack-{self._count}"
        environment = {**self._environment, **fault.settings}
        stack = FaultStack(folder, self._servers, environment, heavy=fault.heavy)
        self._stack = stack
        try:
            stack.prepare()
            stack.start()
            people = []
            for tenant in TENANTS:
                key = stack.new_key(tenant)
                with stack.caller(key) as caller:
                    push_echo(caller)
                    caller.ask(MODEL, tensor(0, 0))
                people.append(Person(stack.url, tenant, key))
            self._load, self._device = Load(people), stack.device()
            self.forget(stack)
        except BaseException:
            self.drop()
            raise

    def collect(self, stack: FaultStack, folder: Path) -> None:
        """What the auditor reads besides the book, which lies there already.

        Doomed checkpoints and empty packs are taken away after the jobs have ended: rows and
        objects are of one moment when neither changed in between.
        """
        queues = self._quiet_queues(stack)
        (folder / "queues.json").write_text(json.dumps(queues))
        end_s = time.monotonic() + _QUIET_S
        while True:
            late = time.monotonic() > end_s
            before = stored(stack.services.database_url)
            try:
                self._copy(stack, folder)
            except Vanished:
                if late:
                    raise
                continue
            if late or stored(stack.services.database_url) == before:
                break
        stack.files.dump(folder / "files")

    def _copy(self, stack: FaultStack, folder: Path) -> None:
        """Tables and objects as they are now, in the place of an earlier copy."""
        shutil.rmtree(folder / "objects", ignore_errors=True)
        dump_tables(stack.services.database_url, folder / "tables")
        client = self._servers.s3.buckets.client()
        try:
            for kind in ("packs/", "bulk/", "models/"):
                dump_objects(client, stack.services.objects_url, folder / "objects", kind)
        finally:
            client.close()

    def _quiet_queues(self, stack: FaultStack) -> list[Mapping[str, Any]]:
        """The queues' depths once nothing is under way in them, or after a while as they are."""
        end_s = time.monotonic() + _QUIET_S
        while True:
            found = dump_queues(self._servers.rabbitmq.ctl, stack.services.broker_url)
            busy = [
                one
                for one in found
                if one["name"] != DEAD and (one["messages_ready"] or one["messages_unacknowledged"])
            ]
            if not busy or time.monotonic() > end_s:
                return found
            time.sleep(0.3)

    def forget(self, stack: FaultStack) -> None:
        """Take the audited past away, so that the next audit is of the next run alone."""
        with psycopg.connect(stack.services.database_url, connect_timeout=10) as connection:
            for statement in FINISHED:
                connection.execute(statement)
            keys = [key for (key,) in connection.execute(FINISHED_PACKS)]
        # Whatever the depths say: of a quorum queue they are up to five seconds old.
        with kombu.Connection(stack.services.broker_url) as broker, suppress(NotFound):
            broker.default_channel.queue_purge(DEAD)
        delete_objects(self._servers.s3.buckets.client(), stack.services.objects_url, keys)
        stack.files.clear()


def push_echo(caller: Caller) -> None:
    """The model of two numbers that all questions are for, loaded."""
    dense = layer("Dense", name="y", units=2)
    made = archive(sequential(input_layer("x", (None, 2), "float32"), dense)).getvalue()
    pushed = caller.push(MODEL, made, {"serving": {"max_batch": BATCH}})
    found = caller.settle_version(MODEL, pushed["version"])
    assert found["state"] == "ready", found
