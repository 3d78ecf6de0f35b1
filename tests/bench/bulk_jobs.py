"""Bulk jobs on a full stack: files into S3, a job over them, and what it wrote read back."""

from __future__ import annotations

import contextlib
import io
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.database import Database
from tests.bench.rig import Rig, WrongAnswers, one
from tests.support.caller import Caller
from tests.support.stack import FullStack, descendants
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Scored:
    """A bulk job that succeeded, and where its outputs lie."""

    job: Mapping[str, Any]
    base: str  # the key in the bucket

    @property
    def seconds(self) -> float:
        """From the claim to the manifest and the job's commit."""
        return self._between("started_at", "finished_at")

    @property
    def seconds_since_submit(self) -> float:
        """From the request on."""
        return self._between("created_at", "finished_at")

    def _between(self, start: str, stop: str) -> float:
        first, last = (datetime.fromisoformat(self.job[name]) for name in (start, stop))
        return (last - first).total_seconds()


class Bucket:
    """Where the bench's inputs and outputs lie."""

    def __init__(self, rig: Rig) -> None:
        self._client = rig.servers.s3.buckets.client()
        self._bucket = rig.servers.bucket
        self._folder = f"bulk-{uuid.uuid4().hex[:8]}"

    def environment(self) -> dict[str, str]:
        """What a stack must be told to read and write here."""
        return {
            "FOREBAY_REF_PREFIXES": f"s3://{self._bucket}/{self._folder}/in/",
            "FOREBAY_OUTPUT_PREFIXES": f"s3://{self._bucket}/{self._folder}/out/",
        }

    def put(self, name: str, data: bytes) -> str:
        """An input; its address."""
        key = f"{self._folder}/in/{name}"
        self._client.put_object(Bucket=self._bucket, Key=key, Body=data)
        return f"s3://{self._bucket}/{key}"

    def put_parquet(self, name: str, table: pa.Table, group_rows: int) -> str:
        """The table as one file; its address."""
        sink = io.BytesIO()
        pq.write_table(table, sink, row_group_size=group_rows)
        return self.put(name, sink.getvalue())

    def at(self, pattern: str) -> str:
        """The address of inputs by a pattern."""
        return f"s3://{self._bucket}/{self._folder}/in/{pattern}"

    def read(self, key: str) -> bytes:
        """An object."""
        return bytes(self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read())

    def submit(self, caller: Caller, model: str, uri: str) -> tuple[str, str]:
        """A bulk job over these files: its id, and where its outputs will lie."""
        base = f"{self._folder}/out/{uuid.uuid4().hex[:12]}"
        body = {
            "kind": "bulk",
            "model": model,
            "input": {"uri": uri},
            "output": {"uri": f"s3://{self._bucket}/{base}", "format": "parquet"},
        }
        answer = caller.http.post("/v1/jobs", json=body)
        if answer.status_code != 202:
            raise WrongAnswers(f"{answer.status_code}: {answer.text[:500]}")
        return str(answer.json()["id"]), base

    def finish(self, caller: Caller, job_id: str, base: str, deadline_s: float = 600) -> Scored:
        """The job when it has succeeded."""
        job = caller.finish(job_id, deadline_s=deadline_s)
        if job["state"] != "succeeded":
            raise WrongAnswers(f"the bulk job is {job}")
        return Scored(job, base)

    def score(self, caller: Caller, model: str, uri: str, deadline_s: float = 600) -> Scored:
        """Submit and wait."""
        return self.finish(caller, *self.submit(caller, model, uri), deadline_s=deadline_s)

    def manifest(self, scored: Scored) -> Mapping[str, Any]:
        """What the run says of itself."""
        found: Mapping[str, Any] = json.loads(self.read(f"{scored.base}/manifest.json"))
        return found

    def outputs(self, scored: Scored) -> pa.Table:
        """All parts together, in the order of their names."""
        return pa.concat_tables(
            pq.read_table(io.BytesIO(self.read(key))) for key in sorted(self._parts(scored))
        )

    def _parts(self, scored: Scored) -> Sequence[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=f"{scored.base}/part-"
        )
        return [one["Key"] for page in pages for one in page.get("Contents", ())]


@contextlib.contextmanager
def bulk_stack(
    rig: Rig, bucket: Bucket, environment: Mapping[str, str] | None = None
) -> Iterator[FullStack]:
    """A stack that may read and write in the bucket, without a model yet."""
    own = {**bucket.environment(), **(environment or {})}
    with rig.stack(environment=own, model=False) as stack:
        yield stack


def describe(stack: FullStack, folder: Path, model: str, archive: Path) -> None:
    """What the bare loop has to know of the version, beside the model itself."""
    version_id = one(stack.services, "SELECT id FROM versions ORDER BY created_at DESC LIMIT 1")
    with Database.open(stack.services.database_url).read() as tx:
        version = tx.models.by_id(str(version_id))
    assert version is not None and version.name == model
    (folder / "version.json").write_text(json.dumps(asdict(version)))
    (folder / "model.keras").write_bytes(archive.read_bytes())


def device_pid(stack: FullStack) -> int:
    """The process below the worker's supervisor that computes, once there is one."""
    return wait_until(
        lambda: next(iter(descendants(stack.pid("worker"))), None), 60, what="the device process"
    )


def restart_worker(stack: FullStack) -> None:
    """Another process in the worker's place."""
    stack.stop("worker")
    stack.start("worker")
    device_pid(stack)
