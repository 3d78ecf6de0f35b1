"""A caller who speaks plain HTTP: what any program without the SDK would do."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx

TERMINAL = frozenset({"succeeded", "failed", "cancelled", "expired"})
POLL_S = 20.0


class Caller:
    """One tenant's HTTP client. Verbs assert the status that the documents promise."""

    def __init__(self, url: str, key: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.url = url
        self.http = httpx.Client(
            base_url=url, headers=headers, timeout=httpx.Timeout(60, connect=5), trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def close(self) -> None:
        self.http.close()

    def submit(self, model: str, input: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
        """One job, accepted."""
        key = fields.pop("idempotency_key", None)
        body = {"kind": "inference", "model": model, "input": input, **fields}
        headers = {"Idempotency-Key": key} if key else {}
        return _expect(self.http.post("/v1/jobs", json=body, headers=headers), 202)

    def submit_many(self, jobs: Sequence[Mapping[str, Any]], **headers: str) -> dict[str, Any]:
        """A group, accepted: ``{"group": id, "jobs": [{"id", "custom_id"}]}``."""
        body = {"jobs": [{"kind": "inference", **job} for job in jobs]}
        answer = _expect(self.http.post("/v1/jobs/many", json=body, headers=headers), 202)
        if isinstance(answer["group"], Mapping):
            answer["group"] = answer["group"]["id"]
        return answer

    def job(self, job_id: str, wait_s: float = 0) -> dict[str, Any]:
        """The job as it stands, or as it stands when it is done or the wait is over."""
        return _expect(self.http.get(f"/v1/jobs/{job_id}", params=_wait(wait_s)), 200)

    def finish(self, job_id: str, deadline_s: float = 60) -> dict[str, Any]:
        """The job when it is terminal."""
        end = time.monotonic() + deadline_s
        while (job := self.job(job_id, _left(end)))["state"] not in TERMINAL:
            assert time.monotonic() < end, f"not done after {deadline_s} s: {job}"
        return job

    def jobs(self, **filters: str) -> Iterator[dict[str, Any]]:
        """Every job that the filters of ``GET /v1/jobs`` let through."""
        after: str | None = ""
        while after is not None:
            params = {"limit": "1000", **filters, **({"after": after} if after else {})}
            page = _expect(self.http.get("/v1/jobs", params=params), 200)
            yield from page["data"]
            after = page["next"]

    def result(self, job_id: str) -> Any:
        """The answer of a job that has one."""
        return _expect(self.http.get(f"/v1/jobs/{job_id}/result"), 200)

    def ask(self, model: str, input: Mapping[str, Any], **fields: Any) -> Any:
        """Submit, wait, and give the answer."""
        job = self.finish(self.submit(model, input, **fields)["id"])
        assert job["state"] == "succeeded", job
        return self.result(job["id"])

    def group(self, group_id: str, wait_s: float = 0) -> dict[str, Any]:
        """The group as it stands."""
        return _expect(self.http.get(f"/v1/groups/{group_id}", params=_wait(wait_s)), 200)

    def finish_group(self, group_id: str, deadline_s: float = 90) -> dict[str, Any]:
        """The group when all of it is done."""
        end = time.monotonic() + deadline_s
        while not (group := self.group(group_id, _left(end)))["done"]:
            assert time.monotonic() < end, f"not done after {deadline_s} s: {group}"
        return group

    def results(self, group_id: str) -> list[dict[str, Any]]:
        """Every answer of a group, in submission order."""
        with self.http.stream("GET", f"/v1/groups/{group_id}/results") as response:
            response.read()
            assert response.status_code == 200, response.text
            return [json.loads(line) for line in response.iter_lines() if line]

    def push(
        self,
        name: str,
        archive: Path | bytes,
        options: Mapping[str, Any] | None = None,
        expect: int | None = 201,
    ) -> dict[str, Any]:
        """A version of a model; with ``expect=None`` one that is there already will do."""
        content = archive if isinstance(archive, bytes) else archive.read_bytes()
        response = self.http.post(
            f"/v1/models/{name}/versions",
            files={"file": ("model.keras", content, "application/octet-stream")},
            data={"options": json.dumps(options or {})},
        )
        return _expect(response, expect or (200 if response.status_code == 200 else 201))

    def version(self, name: str, version: int, wait_s: float = 0) -> dict[str, Any]:
        """A version as it stands."""
        path = f"/v1/models/{name}/versions/{version}"
        return _expect(self.http.get(path, params=_wait(wait_s)), 200)

    def settle_version(self, name: str, version: int, deadline_s: float = 60) -> dict[str, Any]:
        """A version when a worker has judged it."""
        end = time.monotonic() + deadline_s
        while (found := self.version(name, version, _left(end)))["state"] == "pending":
            assert time.monotonic() < end, f"not judged after {deadline_s} s: {found}"
        return found


def tensor(*numbers: float) -> dict[str, Any]:
    """The input of one vector."""
    return {"tensor": list(numbers)}


def echo_jobs(model: str, numbers: Iterable[int], **fields: Any) -> list[dict[str, Any]]:
    """Jobs whose custom id says what their answer must say."""
    return [
        {"model": model, "input": tensor(number, -number), "custom_id": f"n{number}", **fields}
        for number in numbers
    ]


def only_output(result: Mapping[str, Any]) -> Any:
    """The one output of an answer."""
    (value,) = result["outputs"].values()
    return value


def _expect(response: httpx.Response, status: int) -> Any:
    asked = f"{response.request.method} {response.request.url.path}"
    assert response.status_code == status, (
        f"{asked} → {response.status_code}: {response.text[:2000]}"
    )
    return response.json()


def _wait(wait_s: float) -> dict[str, str]:
    return {"wait": f"{wait_s:.3f}"} if wait_s > 0 else {}


def _left(end: float) -> float:
    return max(0.1, min(POLL_S, end - time.monotonic()))
