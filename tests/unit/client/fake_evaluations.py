"""A service of a few lines that evaluates: what each version comes to is written by hand."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.unit.client.fake_service import FakeService, problem

DATA = {"digest": "5e1f" * 16, "uris": ["s3://in/a.parquet"], "files": 1, "label": "digit"}
PLAIN = {
    "parts": 1,
    "size_bytes": 2048,
    "device_s": 0.5,
    "wall_s": 2.0,
    "skipped": 0,
    "failed": 0,
}
FIRST: dict[str, Any] = {
    **PLAIN,
    "model": "digits:3",
    "task": "classes",
    "data": DATA,
    "rows": 1000,
    "unlabelled": 3,
    "unknown_labels": 2,
    "unknown_label_values": ["x", "y"],
    "metrics": {"accuracy": 0.97, "f1": 0.9641, "auc": None, "log_loss": 0.00005, "rows": 1000},
    "intervals": {"accuracy": [0.958, 0.979]},
    "labels": [
        {"label": "0", "support": 98, "precision": 0.99, "recall": 0.98, "f1": 0.985},
        {"label": "1", "support": 0, "precision": None, "recall": None, "f1": None},
    ],
    "confusion": [[96, 2], [0, 0]],
    "calibration": {"ece": 0.01, "mce": 0.2, "brier": 0.05, "bins": []},
    "slices": [
        {
            "column": "hour",
            "values": [
                {
                    "value": "12",
                    "rows": 60,
                    "metrics": {"accuracy": 0.95, "f1": 0.9},
                    "intervals": {"accuracy": [0.86, 0.98]},
                },
                {"value": None, "rows": 0, "metrics": {"accuracy": None}, "intervals": {}},
            ],
            "other_values": 3,
            "other_rows": 12,
        }
    ],
    "against": None,
}
SECOND: dict[str, Any] = {
    **FIRST,
    "model": "digits:4",
    "metrics": {"accuracy": 0.985, "f1": 0.98, "auc": 0.99, "rows": 1000, "disagreement": 0.031},
    "intervals": {"accuracy": [0.98, 0.99]},
    "slices": [],
    "labels": [],
    "against": {
        "job": "0190aaaa-0000-7000-8000-000000000000",
        "group": None,
        "model": "digits:3",
        "rows": 998,
        "missing": 2,
        "disagreed": 31,
        "share": 0.031,
        "interval": [0.022, 0.044],
        "transitions": [{"from": "3", "to": "8", "rows": 7}, {"from": "8", "to": "3", "rows": 2}],
        "fixed": 20,
        "broken": 5,
        "differences": None,
        "metrics": {"accuracy": 0.97, "brier": 0.06},
        "examples": [
            {
                "row_id": "0:17",
                "truth": "8",
                "before": "3",
                "after": "8",
                "score_before": 0.51,
                "score_after": 0.97,
            }
        ],
    },
}


class EvaluatingService(FakeService):
    """``documents`` are the results by the model asked for, ``known`` the evaluations by version;
    ``gone`` are jobs past their retention."""

    def __init__(self) -> None:
        super().__init__()
        self.documents = {"digits:3": FIRST, "digits:4": SECOND}
        self.known: dict[str, list[dict[str, Any]]] = {"3": [], "4": []}
        self.gone: set[str] = set()

    def bodies(self) -> list[dict[str, Any]]:
        """What was submitted, in order."""
        return [
            json.loads(one.content)
            for one in self.requests
            if (one.method, one.url.path) == ("POST", "/v1/jobs")
        ]

    def _route(self, method: str, path: list[str], request: httpx.Request) -> httpx.Response:
        if path[:2] == ["v1", "jobs"] and len(path) > 2 and path[2] in self.gone:
            return problem(404, "job_not_found", "you have no such job")
        match (method, path):
            case ("GET", ["v1", "jobs", job_id, "result"]) if job_id in self.jobs:
                body = self.jobs[job_id]["_body"]
                if body["kind"] == "bulk":
                    return httpx.Response(200, json=PLAIN | {"rows": 1000})
                return httpx.Response(200, json=self.documents[body["model"]])
            case ("GET", ["v1", "jobs", job_id, "parts"]) if job_id in self.jobs:
                return httpx.Response(200, json={"data": [{"name": "part-0", "rows": 1000}]})
            case ("GET", ["v1", "models", _, "versions", number, "evaluations"]):
                limit = int(request.url.params.get("limit", 20))
                found = self.known[number][:limit]
                return httpx.Response(200, json={"data": found, "has_more": False, "next": None})
            case ("POST", ["v1", "files"]):
                document = {"id": "f", "uri": "forebay://files/f", "size_bytes": 1}
                return httpx.Response(201, json=document)
        return super()._route(method, path, request)

    def _new(self, body: dict[str, Any]) -> dict[str, Any]:
        job = super()._new(body)
        job["kind"], job["model"] = body["kind"], body["model"]
        return job

    def _submit(self, body: dict[str, Any]) -> httpx.Response:
        if body["input"].get("job") in self.gone:
            return problem(404, "job_not_found", "input.job: you have no such job")
        return super()._submit(body)

    def evaluated(self, model: str, at: str, digest: str = "d1") -> str:
        """An evaluation from before: its job."""
        body = {"kind": "evaluation", "model": model, "input": {"uri": "s3://in/a"}}
        job = self._new(body)
        job["state"] = "succeeded"
        told = {
            "job": job["id"],
            "model": model,
            "data_digest": digest,
            "data": DATA,
            "rows": 1000,
            "metrics": self.documents[model]["metrics"],
            "created_at": at,
        }
        self.known[model.partition(":")[2]].insert(0, told)
        return str(job["id"])
