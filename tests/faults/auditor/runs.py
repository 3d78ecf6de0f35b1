"""Bulk jobs: every row of the input has one answer, the right one, and the manifest says where.

A row's id is ``FILE:POSITION``, the file by its place among the input's addresses. The model's
answer to a row is the row (column ``x``), and the column ``n`` goes with it.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq

from tests.faults.auditor.evidence import Evidence, Promise, Row
from tests.faults.auditor.packs import Damaged, read

LOST, DOUBLED, CROSSED, STRAY = "lost", "doubled", "crossed", "stray"
NEAR = 1e-5
MANIFEST, ERRORS = "manifest.json", "errors.jsonl"
_SHOWN = 5
Found = Iterator[tuple[str, str]]
Answer = tuple[int, list[float]]


def runs(evidence: Evidence) -> Found:
    """Each bulk job that ended, against its input."""
    ends = {row["id"]: row for row in evidence.table("ends")}
    for promise in evidence.book.promises.values():
        end = ends.get(promise.id)
        if promise.bulk is None or end is None:
            continue
        run = _Run(evidence, promise, end)
        if end["state"] == "succeeded":
            yield from run.whole()
        else:
            yield from run.kept()


class _Run:
    def __init__(self, evidence: Evidence, promise: Promise, end: Row) -> None:
        self._evidence, self._promise, self._end = evidence, promise, end
        assert promise.bulk is not None
        self._bulk = promise.bulk
        self._name = f"bulk job {promise.id} ({promise.tenant} {promise.custom_id})"
        self._seen: Counter[str] = Counter()
        self._failed: dict[str, str] = {}
        self._answers: dict[str, Answer] = {}

    def whole(self) -> Found:
        """It succeeded: all is there, once, and nothing else."""
        result = self._result()
        if result is None:
            yield LOST, f"{self._name} has a result that cannot be read"
            return
        name = result["names"]["manifest"]
        data = self._read(name)
        if data is None:
            yield LOST, f"{self._name} succeeded without a manifest"
            return
        manifest = json.loads(data)
        if manifest["job"] != self._promise.id:
            yield CROSSED, f"{self._name} has the manifest of job {manifest['job']}"
        if not manifest["complete"] or manifest["state"] != "succeeded":
            yield LOST, f"{self._name} succeeded, and its manifest is not complete"
        yield from self._parts(manifest["parts"])
        yield from self._errors(manifest["errors"], result["names"]["errors"])
        yield from self._rows()
        yield from self._sums(manifest, result)
        yield from self._others(name, result["names"]["errors"], manifest["parts"])

    def kept(self) -> Found:
        """It did not succeed: nothing says that it did, and what was committed is there."""
        if self._bulk["output"] is not None and self._read(MANIFEST) is not None:
            yield CROSSED, f"{self._name} is {self._end['state']} and has a complete manifest"
        rows = [
            row for row in self._evidence.table("bulk_parts") if row["job_id"] == self._promise.id
        ]
        parts = [
            {
                "name": row["object_key"],
                "size_bytes": row["size_bytes"],
                "sha256": row["digest"],
                "rows": row["rows"],
            }
            for row in rows
        ]
        yield from self._parts(parts)
        for row_id, count in self._seen.items():
            if count > 1:
                yield DOUBLED, f"{self._name} answers row {row_id} {count} times"
        wanted = self._wanted()
        yield from self._right({one: wanted[one] for one in self._answers if one in wanted})

    def _result(self) -> Any:
        packs = {row["id"]: row for row in self._evidence.table("packs")}
        pack = packs.get(self._end["result_pack_id"])
        data = self._evidence.object(pack["object_key"]) if pack else None
        if data is None:
            return None
        try:
            return json.loads(read(data)[self._promise.id].data)
        except (Damaged, KeyError, ValueError):
            return None

    def _folder(self) -> str | None:
        """In the service's own store: wherever the key says that it is this job's."""
        keys = self._evidence.object_keys()
        inside = f"/{self._promise.id}/"
        found = [one for one in keys if one.startswith(f"bulk/{self._end['tenant']}/")]
        return next((one.partition(inside)[0] + inside for one in found if inside in one), None)

    def _read(self, name: str) -> bytes | None:
        if self._bulk["output"] is None:
            folder = self._folder()
            return None if folder is None else self._evidence.object(folder + name)
        path = self._evidence.file(f"{self._bulk['output']}/{name}")
        return path.read_bytes() if path.is_file() else None

    def _parts(self, parts: list[Row]) -> Found:
        for part in parts:
            if part["name"] is None:
                if part["rows"]:
                    yield LOST, f"{self._name} has {part['rows']} answers in no part"
                continue
            data = self._read(part["name"])
            if data is None:
                yield LOST, f"{self._name} lacks {part['name']}"
                continue
            said = (part["size_bytes"], part["sha256"])
            if said != (len(data), hashlib.sha256(data).hexdigest()):
                yield LOST, f"{self._name}: {part['name']} has other bytes than was said"
                continue
            table = pq.read_table(io.BytesIO(data))
            if table.num_rows != part["rows"]:
                yield LOST, f"{self._name}: {part['name']} has {table.num_rows} rows"
            columns = [table[name].to_pylist() for name in ("row_id", "n", "prediction")]
            for row_id, number, answer in zip(*columns, strict=True):
                self._seen[row_id] += 1
                self._answers[row_id] = (number, answer)

    def _errors(self, said: Row | None, name: str | None) -> Found:
        if (said is None) != (name is None):
            yield CROSSED, f"{self._name}: its manifest and its result differ about errors"
        if said is None or name is None:
            return
        data = self._read(name)
        if data is None:
            yield LOST, f"{self._name} lacks {name}"
            return
        digest = hashlib.sha256(data).hexdigest()
        if (said["size_bytes"], said["sha256"]) != (len(data), digest):
            yield LOST, f"{self._name}: {name} has other bytes than the manifest says"
        for line in data.splitlines():
            one = json.loads(line)
            self._seen[one["row_id"]] += 1
            self._failed[one["row_id"]] = one["code"]

    def _wanted(self) -> dict[str, Answer]:
        found: dict[str, Answer] = {}
        for file, name in enumerate(self._bulk["files"]):
            table = pq.read_table(self._evidence.file(name))
            rows = zip(table["n"].to_pylist(), table["x"].to_pylist(), strict=True)
            found |= {f"{file}:{position}": row for position, row in enumerate(rows)}
        return found

    def _rows(self) -> Found:
        wanted, wrong = self._wanted(), self._bulk["wrong"]
        yield from self._some(LOST, "has no answer to", wanted.keys() - self._seen.keys())
        yield from self._some(CROSSED, "answers unknown", self._seen.keys() - wanted.keys())
        twice = {row_id for row_id, count in self._seen.items() if count > 1}
        yield from self._some(DOUBLED, "answers more than once", twice)
        yield from self._some(LOST, "gave up innocent", self._failed.keys() - wrong.keys())
        yield from self._some(CROSSED, "predicts for wrong", wrong.keys() - self._failed.keys())
        for row_id in self._failed.keys() & wrong.keys():
            if self._failed[row_id] != wrong[row_id]:
                said = f"{self._failed[row_id]}, not {wrong[row_id]}"
                yield CROSSED, f"{self._name}: row {row_id} has the code {said}"
        shown = self._answers.keys() & wanted.keys() - wrong.keys()
        yield from self._right({one: wanted[one] for one in shown})

    def _right(self, wanted: dict[str, Answer]) -> Found:
        other = [one for one, row in wanted.items() if not _same(row, self._answers[one])]
        yield from self._some(CROSSED, "answers otherwise than asked", other)

    def _sums(self, manifest: Row, result: Row) -> Found:
        for name, count in (("rows", len(self._answers)), ("failed", len(self._failed))):
            said = {manifest[name], result[name], sum(one[name] for one in manifest["parts"])}
            if said != {count}:
                yield LOST, f"{self._name} has {count} {name}, and says {sorted(said)}"

    def _others(self, manifest: str, errors: str | None, parts: list[Row]) -> Found:
        """In an output of the caller's; in our own store every object is known by its row."""
        if self._bulk["output"] is None:
            return
        named = {manifest, errors, *(part["name"] for part in parts)}
        for name in self._evidence.file_names(self._bulk["output"]):
            if name not in named:
                yield STRAY, f"{self._name}: its manifest does not name {name}"

    def _some(self, kind: str, says: str, rows: Any) -> Found:
        if rows:
            some = ", ".join(sorted(rows)[:_SHOWN])
            yield kind, f"{self._name} {says} {len(rows)} rows: {some}"


def _same(wanted: Answer, found: Answer) -> bool:
    number, values = wanted
    said, answer = found
    return (
        said == number
        and len(values) == len(answer)
        and all(
            abs(one - other) <= NEAR * max(1.0, abs(one))
            for one, other in zip(values, answer, strict=True)
        )
    )
