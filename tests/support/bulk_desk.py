"""One tenant's bulk jobs: files put where a stack may read them, and all that came of a job."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema

from tests.support.bulk_files import Shelf, read_part, shelf
from tests.support.caller import TERMINAL, Caller
from tests.support.waiting import wait_until
from workers.bulk.manifest_schema import MANIFEST_SCHEMA

DEADLINE_S = 90.0


@dataclass(frozen=True)
class Shelves:
    """The prefixes that the stack's operator listed."""

    input: Shelf
    output: Shelf
    both: Shelf
    sealed: Shelf | None = None  # listed for output, and the service may only read it


def shelves(environment: Mapping[str, str], seen_by: Mapping[str, str]) -> Shelves:
    """Of a stack's environment; ``seen_by`` has the test's own keys to the buckets."""
    reads = environment["FOREBAY_REF_PREFIXES"].split(",")
    writes = environment["FOREBAY_OUTPUT_PREFIXES"].split(",")
    (both,) = set(reads) & set(writes)
    output, *sealed = (one for one in writes if one != both)
    return Shelves(
        *(shelf(uri, seen_by) for uri in (reads[0], output, both)),
        *(shelf(uri, seen_by) for uri in sealed),
    )


@dataclass(frozen=True)
class Outcome:
    """What a finished job wrote, each row by its id."""

    rows: dict[str, dict[str, Any]]
    errors: dict[str, dict[str, Any]]
    manifest: dict[str, Any]
    result: dict[str, Any]

    def predictions(self) -> dict[str, Any]:
        return {row_id: row["prediction"] for row_id, row in self.rows.items()}

    def codes(self) -> dict[str, str]:
        return {row_id: line["code"] for row_id, line in self.errors.items()}


class Desk:
    """Files of one test lie below one prefix of its own."""

    def __init__(self, caller: Caller, shelves: Shelves, name: str) -> None:
        self.caller, self.shelves = caller, shelves
        self.input, self.output = shelves.input.at(name), shelves.output.at(name)
        self.both = shelves.both.at(name)
        self._jobs: list[str] = []

    def submit(
        self, model: str, input: Mapping[str, Any], output: Mapping[str, Any], **fields: Any
    ) -> str:
        """A bulk job, accepted; its id. ``output`` may name its place as ``to``."""
        told = dict(output)
        if "to" in told:
            told["uri"] = self.output.uri(told.pop("to"))
        job_id = str(self.caller.submit(model, input, kind="bulk", output=told, **fields)["id"])
        self._jobs.append(job_id)
        return job_id

    def clear(self) -> None:
        """End what a test that failed has left running."""
        for job_id in self._jobs:
            if self.caller.job(job_id)["state"] not in TERMINAL:
                self.caller.http.post(f"/v1/jobs/{job_id}/cancel")

    def finish(self, job_id: str, state: str = "succeeded") -> dict[str, Any]:
        job = self.caller.finish(job_id, DEADLINE_S)
        assert job["state"] == state, job
        return job

    def error(self, job_id: str) -> tuple[str, str]:
        """Code and message of a job that has to fail."""
        error = self.finish(job_id, "failed")["error"]
        return error["code"], error["message"]

    def progress(self, job_id: str) -> dict[str, Any]:
        progress: dict[str, Any] = self.caller.job(job_id)["progress"]
        return progress

    def until_some_rows(self, job_id: str, rows: int = 1) -> dict[str, Any]:
        """Until so many rows are in committed parts, and the job goes on: its progress."""

        def look() -> bool:
            parts = self.parts(job_id)
            return sum(one["rows"] + one["failed"] for one in parts) >= rows

        wait_until(look, DEADLINE_S, what="a first part", every_s=0.05)
        job = self.caller.job(job_id)
        assert job["state"] == "running", "the job was over too soon to tell"
        return dict(job["progress"])

    def parts(self, job_id: str) -> list[dict[str, Any]]:
        """As the service lists them."""
        answer = self.caller.http.get(f"/v1/jobs/{job_id}/parts")
        assert answer.status_code == 200, answer.text
        return list(answer.json()["data"])

    def listed_rows(self, job_id: str) -> Iterator[dict[str, Any]]:
        """The rows of the parts that are committed by now, over the API."""
        for part in self.parts(job_id):
            if part["name"]:
                data = self._get(part["href"])
                assert hashlib.sha256(data).hexdigest() == part["sha256"]
                yield from read_part(part["name"], data)[0]

    def manifest(self, job_id: str) -> dict[str, Any]:
        return dict(json.loads(self._get(f"/v1/jobs/{job_id}/manifest")))

    def outcome(self, job_id: str) -> Outcome:
        """Everything that a job wrote that succeeded, checked: as the manifest says it, nothing
        beside it, and no row twice."""
        self.finish(job_id)
        result = self.caller.result(job_id)
        manifest = self.manifest(job_id)
        jsonschema.validate(manifest, MANIFEST_SCHEMA)
        assert manifest["complete"] and manifest["state"] == "succeeded"
        where = result["output"]
        read = self._reader(job_id, where)
        named = {one["name"]: one for one in manifest["parts"] if one["name"]}
        rows: list[dict[str, Any]] = []
        for name, part in named.items():
            data = read(name)
            assert (len(data), _digest(data)) == (part["size_bytes"], part["sha256"])
            found, columns = read_part(name, data)
            assert len(found) == part["rows"] > 0
            _check_columns(name, columns, found, manifest["output"]["columns"])
            rows += found
        lines = self._error_lines(job_id, manifest, read)
        if where is not None:
            there = shelf_of(self.shelves.output, where)
            beside = {"manifest.json"} | ({"errors.jsonl"} if lines else set())
            assert set(there.names()) == set(named) | beside
            assert json.loads(there.read("manifest.json")) == manifest
        by_id, wrong = (
            {row["row_id"]: row for row in rows},
            {line["row_id"]: line for line in lines},
        )
        assert len(by_id) == len(rows) == manifest["rows"] == result["rows"]
        assert len(wrong) == len(lines) == manifest["failed"] == result["failed"]
        assert not by_id.keys() & wrong.keys()
        for name in ("rows", "failed", "skipped", "size_bytes"):
            assert sum(one[name] for one in manifest["parts"]) == manifest[name] == result[name]
        return Outcome(by_id, wrong, manifest, result)

    def _reader(self, job_id: str, where: str | None) -> Any:
        if where is not None:
            return shelf_of(self.shelves.output, where).read
        hrefs = {one["name"]: one["href"] for one in self.parts(job_id)}
        return lambda name: self._get(hrefs[name])

    def _error_lines(
        self, job_id: str, manifest: Mapping[str, Any], read: Any
    ) -> list[dict[str, Any]]:
        """The same from the service and, where there is one, from the merged file."""
        data = self._get(f"/v1/jobs/{job_id}/errors")
        told = manifest["errors"]
        if told is None:
            assert data == b""
            return []
        assert (len(data), _digest(data)) == (told["size_bytes"], told["sha256"])
        if manifest["output"]["uri"] is not None:
            assert read(told["name"]) == data
        found = [json.loads(line) for line in data.splitlines()]
        assert len(found) == told["lines"]
        assert all(line["message"] for line in found)
        return found

    def _get(self, path: str) -> bytes:
        answer = self.caller.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.content


def shelf_of(near: Shelf, uri: str) -> Shelf:
    """The prefix at ``uri``, which lies below ``near``."""
    assert uri.startswith(near.uri() + "/"), uri
    return near.at(uri.removeprefix(near.uri() + "/"))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _check_columns(
    name: str, columns: list[str] | None, rows: list[dict[str, Any]], told: list[dict[str, str]]
) -> None:
    """The parts' columns are those that the manifest tells, a CSV's lists cut into cells."""
    names = [one["name"] for one in told]
    if columns is None:
        assert all(list(row) == names for row in rows), name
    elif name.endswith(".csv"):
        flat = [column.rpartition("_")[0] if column not in names else column for column in columns]
        assert list(dict.fromkeys(flat)) == names
    else:
        assert columns == names, name
