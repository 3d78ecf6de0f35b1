"""A service of a few lines that keeps jobs in a dict: enough to hold the SDK and the command to.

The real one is held to the same calls in the integration and acceptance suites.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx

from tests.unit.client.fake_webhooks import FakeWebhooks

Handler = Callable[[httpx.Request], httpx.Response]


def problem(status: int, code: str, detail: str, headers: dict | None = None, **more: Any):
    body = {"type": f"urn:{code}", "title": code, "status": status, "detail": detail, "code": code}
    return httpx.Response(status, json=body | more, headers=headers)


class FakeService:
    """``answers`` holds the end of each job by its input; others succeed with their input."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.faults: list[Exception | httpx.Response] = []  # served first, one per request
        self.jobs: dict[str, dict[str, Any]] = {}
        self.groups: dict[str, list[str]] = {}
        self.seen_keys: dict[str, httpx.Response] = {}
        self.looks_until_done = 1
        self.models: dict[str, dict[str, Any]] = {}
        self.pages: list[str] = [""]  # of figures: one after another, the last again and again
        self.scrapes = 0
        self.webhooks = FakeWebhooks()
        self.versions: dict[str, dict[str, Any]] = {}  # by number, of any model
        self.trials: list[dict[str, Any]] = []  # an id is its place
        self.trial_ends: dict[str, Any] | None = None  # what becomes of one that is started

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.handle)

    def handle(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        if self.faults:
            fault = self.faults.pop(0)
            if isinstance(fault, Exception):
                raise fault
            return fault
        return self._route(request.method, request.url.path.strip("/").split("/"), request)

    def _route(self, method: str, path: list[str], request: httpx.Request) -> httpx.Response:
        if path[:2] == ["v1", "webhooks"] and (known := self.webhooks.route(path[2:], request)):
            return known
        match (method, path):
            case ("POST", ["v1", "jobs"]):
                return self._once(request, lambda: self._submit(json.loads(request.content)))
            case ("POST", ["v1", "jobs", "many"]):
                return self._once(request, lambda: self._many(json.loads(request.content)["jobs"]))
            case ("GET", ["v1", "jobs"]):
                return self._list(request)
            case ("GET", ["v1", "jobs", job_id]) if job_id in self.jobs:
                return httpx.Response(200, json=self._look(self.jobs[job_id]))
            case ("GET", ["v1", "jobs", job_id, "result"]) if job_id in self.jobs:
                return self._result(self.jobs[job_id])
            case ("POST", ["v1", "jobs", job_id, "cancel"]) if job_id in self.jobs:
                self.jobs[job_id]["state"] = "cancelled"
                return httpx.Response(200, json=self._shown(self.jobs[job_id]))
            case ("POST", ["v1", "jobs", job_id, "retry"]) if job_id in self.jobs:
                again = self._new(self.jobs[job_id]["_body"])
                again["retry_of"] = job_id
                return httpx.Response(202, json=self._shown(again))
            case ("GET", ["v1", "groups", group_id]) if group_id in self.groups:
                return httpx.Response(200, json=self._group(group_id, look=True))
            case ("GET", ["v1", "groups", group_id, "results"]) if group_id in self.groups:
                return httpx.Response(200, content=self._lines(group_id))
            case ("POST", ["v1", "groups", group_id, "cancel"]) if group_id in self.groups:
                for job_id in self.groups[group_id]:
                    self.jobs[job_id]["state"] = "cancelled"
                return httpx.Response(200, json=self._group(group_id, look=False))
            case ("POST", ["v1", "models", name, "versions"]):
                return self._push(name)
            case ("GET", ["v1", "models"]):
                rows = list(self.models.values())
                return httpx.Response(200, json={"data": rows, "has_more": False, "next": None})
            case ("GET", ["metrics"]):
                self.scrapes += 1
                return httpx.Response(200, text=self.pages[min(self.scrapes, len(self.pages)) - 1])
            case ("GET", ["v1", "models", name]) if name in self.models:
                return httpx.Response(200, json={"versions": [], **self.models[name]})
            case ("GET", ["v1", "models", name, "versions", number]) if number in self.versions:
                return httpx.Response(200, json={"name": name, **self.versions[number]})
            case ("GET", ["v1", "models", name, "versions", number, "card"]):
                if request.url.params.get("format") == "markdown":
                    return httpx.Response(200, text=f"# {name}:{number}\n")
                return httpx.Response(200, json={"model": f"{name}:{number}"})
            case ("PATCH", ["v1", "models", name, "versions", number]) if number in self.versions:
                self.versions[number] |= json.loads(request.content)
                return httpx.Response(200, json={"name": name, **self.versions[number]})
            case ("DELETE", ["v1", "models", name, "versions", number]) if number in self.versions:
                self.versions[number]["state"] = "deleted"
                made = {"made_from_it": [f"{name}:9"]}
                return httpx.Response(200, json={"name": name, **self.versions[number], **made})
            case ("GET", ["v1", "models", _, "aliases", _, "trials"]):
                return httpx.Response(200, json={"data": self.trials})
            case ("POST", ["v1", "models", name, "aliases", alias, "trials"]):
                return self._start_trial(name, alias)
            case ("GET", ["v1", "models", _, "aliases", _, "trials", number]):
                return httpx.Response(200, json=self.trials[int(number)])
            case ("POST", ["v1", "models", _, "aliases", _, "trials", number, "stop"]):
                self.trials[int(number)] |= {"state": "stopped", "repointed": 3}
                return httpx.Response(200, json=self.trials[int(number)])
            case ("PUT", ["v1", "models", name, "aliases", alias]):
                return httpx.Response(
                    200, json={"name": name, "alias": alias, **json.loads(request.content)}
                )
        return problem(404, "not_found", f"there is no {'/'.join(path)}")

    def _once(self, request: httpx.Request, make: Callable[[], httpx.Response]) -> httpx.Response:
        key = request.headers["Idempotency-Key"]
        if key not in self.seen_keys:
            self.seen_keys[key] = make()
        stored = self.seen_keys[key]
        return httpx.Response(stored.status_code, content=stored.content)

    def _submit(self, body: dict[str, Any]) -> httpx.Response:
        if body["model"] == "nobody":
            return problem(404, "model_not_found", "there is no model 'nobody'", field="model")
        return httpx.Response(202, json=self._shown(self._new(body)))

    def _new(self, body: dict[str, Any]) -> dict[str, Any]:
        job_id = f"0190aaaa-0000-7000-8000-{len(self.jobs):012d}"
        self.jobs[job_id] = {
            "id": job_id,
            "kind": "inference",
            "state": "queued",
            "model": f"{body['model']}:1",
            "custom_id": body.get("custom_id"),
            "metadata": body.get("metadata", {}),
            "attempts": 0,
            "max_attempts": 3,
            "error": None,
            "_looks": 0,
            "_body": body,
        }
        return self.jobs[job_id]

    def _many(self, bodies: list[dict[str, Any]]) -> httpx.Response:
        jobs = [self._new(body) for body in bodies]
        group_id = f"0190bbbb-0000-7000-8000-{len(self.groups):012d}"
        self.groups[group_id] = [job["id"] for job in jobs]
        rows = [{"id": job["id"], "custom_id": job["custom_id"]} for job in jobs]
        return httpx.Response(202, json={"group": group_id, "jobs": rows})

    def _list(self, request: httpx.Request) -> httpx.Response:
        limit = int(request.url.params.get("limit", 50))
        after = request.url.params.get("after")
        state = request.url.params.get("state")
        rows = [self._shown(job) for job in reversed(self.jobs.values())]
        rows = [row for row in rows if state in (None, row["state"])]
        rows = [row for row in rows if after is None or row["id"] < after]
        page, more = rows[:limit], len(rows) > limit
        document = {"data": page, "has_more": more, "next": page[-1]["id"] if more else None}
        return httpx.Response(200, json=document)

    def _look(self, job: dict[str, Any]) -> dict[str, Any]:
        job["_looks"] += 1
        if job["state"] == "queued" and job["_looks"] >= self.looks_until_done:
            job["state"] = "succeeded"
            text = job["_body"]["input"].get("text")
            if text in ("failed", "cancelled", "expired"):
                job["state"] = text
            if text == "failed":
                job["error"] = {"code": "bad_item", "message": "it is bad", "attempt": 1}
        return self._shown(job)

    def _result(self, job: dict[str, Any]) -> httpx.Response:
        if job["state"] == "succeeded":
            return httpx.Response(200, json={"outputs": job["_body"]["input"]})
        code = "job_failed" if job["state"] == "failed" else "not_ready"
        return problem(409, code, "there is no result")

    def _group(self, group_id: str, *, look: bool) -> dict[str, Any]:
        jobs = [self.jobs[job_id] for job_id in self.groups[group_id]]
        states = [self._look(job)["state"] if look else job["state"] for job in jobs]
        counts = {
            state: states.count(state)
            for state in ("queued", "running", "succeeded", "failed", "cancelled", "expired")
        }
        done = counts["queued"] + counts["running"] == 0
        return {"id": group_id, "total": len(jobs), "counts": counts, "done": done}

    def _lines(self, group_id: str) -> bytes:
        lines = []
        for job_id in self.groups[group_id]:
            job = self.jobs[job_id]
            good = job["state"] == "succeeded"
            row = {key: job[key] for key in ("id", "custom_id", "state", "error")}
            lines.append(json.dumps(row | {"result": job["_body"]["input"] if good else None}))
        return "\n".join(lines).encode() + b"\n"

    def _push(self, name: str) -> httpx.Response:
        version = {
            "name": name,
            "version": 1,
            "state": "pending",
            "format": "keras",
            "size_bytes": 3,
            "digest": "ab" * 32,
            "error": None,
        }
        self.models[name] = {"name": name, "latest_version": 1, "aliases": {}}
        return httpx.Response(201, json=version)

    def _start_trial(self, name: str, alias: str) -> httpx.Response:
        asked = json.loads(self.requests[-1].content)
        trial = {
            "id": str(len(self.trials)),
            "name": name,
            "alias": alias,
            "kind": asked["kind"],
            "base": 1,
            "candidate": asked["version"],
            "share": asked["share"],
            "state": "running",
            "reason": None,
            "seen": {},
            "compared": 0,
            "disagreed": 0,
            "repointed": 0,
        }
        self.trials.append({**trial, **(self.trial_ends or {})})
        return httpx.Response(201, json=trial)

    @staticmethod
    def _shown(job: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in job.items() if not key.startswith("_")}
