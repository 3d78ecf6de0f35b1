"""A worker's part in a bulk job, played by hand: through the same verbs, a step at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from storage.objects import Objects
from storage.records.bulk import (
    BulkFormat,
    BulkProgress,
    NewPart,
    Plan,
    PlannedFile,
    ShardPlan,
    ShardState,
)
from storage.records.jobs import JobError
from tests.support.api import ApiHouse


@dataclass
class BulkHand:
    """Owner and runner of one job of a tenant's house. Every shard has ten positions."""

    house: ApiHouse
    job_id: str
    objects: Objects | None = None  # where parts go, if not to our own store
    base: str = ""
    extra: Mapping[str, object] = field(default_factory=dict)

    def start(self, shards: int = 2, uri: str = "s3://in/rows.csv") -> BulkHand:
        """Claim the job and write its plan."""
        self.session, (self.claim,) = self.house.claim([self.job_id])
        self.own = f"bulk/{self.house.tenant}/{self.job_id}"
        self.base = self.base or self.own
        self.files = [PlannedFile(uri, BulkFormat.CSV, 10 * shards, 10 * shards, 10 * shards)]
        plan = Plan(tuple(self.files), ("a",), self.base, 10 * shards, self.extra)
        cut = [ShardPlan(n, 0, 10 * n, 10 * n + 10) for n in range(shards)]
        with self.house.database.begin() as tx:
            assert tx.bulk.plan(self.job_id, self.session, self.claim.epoch, plan, cut)
        return self

    def part(self, data: bytes = b"one\n", errors: Sequence[Any] = ()) -> str:
        """Score the next shard: its part's name."""
        with self.house.database.begin() as tx:
            shard = tx.bulk.claim(self.session, "default")
        assert shard is not None and shard.job_id == self.job_id
        name = f"part-{shard.number:05}-{shard.epoch:03}-{shard.start}"
        lines = b"".join(orjson.dumps(one) + b"\n" for one in errors)
        if data:
            self.put(f"{name}.csv", data)
        if errors:
            self.house.objects.put(f"{self.own}/{name}.errors.jsonl", lines)
        part = NewPart(
            shard.start,
            shard.stop,
            rows=10 - len(errors) if data else 0,
            failed=len(errors),
            size_bytes=len(data),
            key=f"{name}.csv" if data else None,
            digest=hashlib.sha256(data).hexdigest() if data else None,
            errors_key=f"{self.own}/{name}.errors.jsonl" if errors else None,
            errors_bytes=len(lines),
            device_ms=250,
        )
        with self.house.database.begin() as tx:
            assert tx.bulk.commit(self.session, shard, part, ShardState.DONE)
        return f"{name}.csv" if data else f"{name}.errors.jsonl"

    def tell(self, rows_per_s: float = 0.0) -> BulkProgress:
        """Note how far it is, as an owner does about once a second."""
        with self.house.database.begin() as tx:
            progress = replace(tx.bulk.count(self.job_id), rows_per_s=rows_per_s)
            assert tx.bulk.touch(self.job_id, self.session, self.claim.epoch, progress)
        return progress

    def finish(self, result: Any = None, *, manifest: Any = None) -> None:
        """End the job; a ``JobError`` as result fails it."""
        if manifest is not None:
            self.put("manifest.json", orjson.dumps(manifest))
        found = {"rows": 0} if result is None else result
        self.house.finish(self.session, [self.claim], lambda _: found)

    def fail(self, code: str = "input_not_found", message: str = "there is no file") -> None:
        """End it with an error."""
        self.finish(JobError(code, message))

    def put(self, name: str, data: bytes) -> None:
        """An object of the output."""
        (self.objects or self.house.objects).put(f"{self.base}/{name}", data)
