"""Short words for tests of batches, and a worker that is played by hand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from openai import OpenAI

from storage.objects import object_key
from storage.records.bulk import (
    BulkFormat,
    NewPart,
    Plan,
    PlannedFile,
    ShardPlan,
    ShardState,
    spec_of,
)
from storage.records.jobs import JobError
from storage.records.signatures import OutputSpec, Signature
from tests.support.api import ApiHouse

BATCH = {"endpoint": "/v1/jobs", "completion_window": "24h"}


def open_client(house: ApiHouse, key: str = "any") -> OpenAI:
    return OpenAI(base_url=f"{house.url}/openai/v1", api_key=key, max_retries=0, timeout=60)


def line(custom_id: str = "a", **changes: Any) -> dict[str, Any]:
    """A request as it should be."""
    body = {"model": "vectors", "input": {"tensor": [1, 2, 3, 4]}}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/jobs", "body": body} | changes


def jsonl(lines: Iterable[Any]) -> bytes:
    """A file of them; bytes are lines as they are."""
    return b"".join(
        (one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in lines
    )


def upload(client: OpenAI, lines: Iterable[Any]) -> str:
    """The id of a file of these lines."""
    file = client.files.create(file=("requests.jsonl", jsonl(lines)), purpose="batch")
    return file.id


def submit(client: OpenAI, count: int = 3, **more: Any) -> Any:
    """A batch of so many requests."""
    file_id = upload(client, [line(f"c{n}") for n in range(count)])
    return client.batches.create(input_file_id=file_id, **BATCH, **more)


def job_id_of(batch: Any) -> str:
    digits = batch.id.removeprefix("batch_")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


@dataclass
class BatchHand:
    """The owner and the runner of a batch's job. A shard is so many lines of its file."""

    house: ApiHouse
    job_id: str
    each: int = 2

    def claim(self) -> BatchHand:
        """Take the job, as its owner."""
        self.session, (self.claimed,) = self.house.claim([self.job_id])
        return self

    def plan(self) -> BatchHand:
        """Read the file and cut it."""
        with self.house.database.read() as tx:
            payload = tx.jobs.payload(self.house.tenant, self.job_id)
            (uri,) = spec_of(payload).input.uris
            file = tx.files.get(self.house.tenant, uri.rpartition("/")[2])
            job = tx.jobs.get(self.house.tenant, self.job_id)
            signature = Signature.from_json(tx.models.by_id(job.version_id).signature)
        self.signature = replace(signature, outputs=(OutputSpec("d", "float32", (2,)),))
        with self.house.database.begin() as tx:  # as whoever loads a version first
            tx.models.mark_ready(job.version_id, self.signature.to_json())
        data = self.house.objects.get(file.object_key)
        self.rows, at = [], 0
        for text in data.splitlines(keepends=True):
            self.rows.append((at, json.loads(text)["custom_id"]))
            at += len(text)
        edges = [*(self.rows[n][0] for n in range(0, len(self.rows), self.each)), at]
        cut = [ShardPlan(n, 0, edges[n], edges[n + 1]) for n in range(len(edges) - 1)]
        self.base = object_key("bulk", self.house.tenant, "2030-01-01", self.job_id)
        planned = PlannedFile(uri, BulkFormat.REQUESTS, len(data), None, at)
        plan = Plan((planned,), ("custom_id",), self.base, None)
        with self.house.database.begin() as tx:
            assert tx.bulk.plan(self.job_id, self.session, self.claimed.epoch, plan, cut)
        return self

    def score(self, wrong: Sequence[str] = ()) -> list[str]:
        """The next shard; what it holds. ``wrong`` ones become errors."""
        with self.house.database.begin() as tx:
            shard = tx.bulk.claim(self.session, "default")
        assert shard is not None and shard.job_id == self.job_id
        mine = [(at, one) for at, one in self.rows if shard.start <= at < shard.stop]
        good = [(at, one) for at, one in mine if one not in wrong]
        name = f"{shard.number:05}-{shard.epoch:03}-{shard.start}"
        told = b"".join(orjson.dumps(self._row(at, one)) + b"\n" for at, one in good)
        errors = b"".join(
            orjson.dumps(
                {"row_id": f"0:{at}", "code": "wrong_shape", "message": "no", "custom_id": one}
            )
            + b"\n"
            for at, one in mine
            if one in wrong
        )
        for key, data in ((f"part-{name}.jsonl", told), (f"_errors-{name}.jsonl", errors)):
            if data:
                self.house.objects.put(f"{self.base}/{key}", data)
        part = NewPart(
            shard.start,
            shard.stop,
            rows=len(good),
            failed=len(mine) - len(good),
            size_bytes=len(told),
            key=f"part-{name}.jsonl" if told else None,
            digest=hashlib.sha256(told).hexdigest() if told else None,
            errors_key=f"{self.base}/_errors-{name}.jsonl" if errors else None,
            errors_bytes=len(errors),
        )
        with self.house.database.begin() as tx:
            assert tx.bulk.commit(self.session, shard, part, ShardState.DONE)
            tx.bulk.touch(self.job_id, self.session, self.claimed.epoch, tx.bulk.count(self.job_id))
        return [one for _, one in mine]

    def _row(self, at: int, custom_id: str) -> dict[str, Any]:
        """As parts are written: see how the worker encodes them."""
        row: dict[str, Any] = {"row_id": f"0:{at}", "custom_id": custom_id}
        if self.signature.labels:
            row |= {"label": self.signature.labels[0], "score": 0.75}
        return row | {"prediction": answer_of(custom_id)}

    def finish(self, error: JobError | None = None) -> None:
        """End the job."""
        self.house.finish(self.session, [self.claimed], lambda _: error or {"rows": 1})

    def all(self, wrong: Sequence[str] = ()) -> None:
        """From the claim to the end."""
        self.claim().plan()
        seen = 0
        while seen < len(self.rows):
            seen += len(self.score(wrong))
        self.finish()


def answer_of(custom_id: str) -> list[float]:
    """What the worker here answers."""
    return [0.25, float(len(custom_id))]
