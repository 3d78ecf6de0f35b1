"""Callers of two tenants, who write down what they sent and what was accepted.

Their book is what the auditor believes, so each line is written before anything else happens:
``sent`` before the request, ``accepted`` when its answer is there. A request that was not answered
is repeated only when it has an ``Idempotency-Key``, as the documents tell callers.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

MODEL = "echo"
SUCCEEDS = {"states": ["succeeded"]}
PATIENCE_S = 90.0  # a caller who was not answered repeats himself for so long
_LATER = frozenset({429, 500, 502, 503, 504})


class NotAccepted(Exception):
    """The request may or may not have been taken: it had no key, and nobody answered."""


class Book:
    """JSON lines, on disk when a method returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a", buffering=1)
        self._lock = threading.Lock()
        self.accepted: dict[str, str] = {}  # tenant by job

    def write(self, **line: Any) -> None:
        with self._lock:
            self._file.write(json.dumps(line) + "\n")

    def note(self, request: str, tenant: str, key: str | None, ids: Sequence[str]) -> None:
        self.write(accepted=request, tenant=tenant, key=key, ids=list(ids))
        with self._lock:
            self.accepted.update(dict.fromkeys(ids, tenant))

    def may_end(self, job_id: str, *states: str, codes: Iterable[str] = ()) -> None:
        """From now on the job may end in one of these states, a failure by one of the codes."""
        self.write(may=job_id, states=list(states), codes=list(codes))

    def close(self) -> None:
        self._file.close()


class Person:
    """One tenant's caller."""

    def __init__(self, url: str, tenant: str, key: str) -> None:
        self.tenant = tenant
        self.http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(20, connect=5),
            trust_env=False,
        )

    def cancel(self, job_id: str) -> httpx.Response:
        return self.http.post(f"/v1/jobs/{job_id}/cancel")

    def close(self) -> None:
        self.http.close()


class Load:
    """Submits numbered questions of both tenants and keeps the book."""

    def __init__(self, people: Sequence[Person]) -> None:
        self.people = people
        self._numbers = itertools.count(1)
        self._requests = itertools.count(1)
        self.runs = itertools.count(1)  # bulk jobs
        self._lock = threading.Lock()
        self.book: Book
        self.asked = 0

    def begin(self, path: Path) -> None:
        """A new book."""
        self.book, self.asked = Book(path), 0

    def submit(self, count: int, **fields: Any) -> list[str]:
        """So many jobs of both tenants: groups with and without a key, and single jobs; a part of
        the keyed requests is sent twice. The ids of those that were accepted."""
        ids: list[str] = []
        singles = min(count, max(2, count // 5))
        rest = count - singles
        sizes = [rest // 3, rest // 3, rest - 2 * (rest // 3)]
        for place, size in enumerate(sizes):
            if size:
                person = self.people[place % len(self.people)]
                priority = {} if place else {"priority": 8}
                jobs = [self.question(**priority, **fields) for _ in range(size)]
                ids += self.group(person, jobs, keyed=place != 1, twice=place == 0)

        def one(place: int) -> list[str]:
            person = self.people[place % len(self.people)]
            twice = place % 4 == 0
            return self.single(person, self.question(**fields), keyed=place % 3 > 0, twice=twice)

        with ThreadPoolExecutor(4) as threads:
            for found in threads.map(one, range(singles)):
                ids += found
        return ids

    def question(
        self, *values: float, expect: Any = None, model: str = MODEL, **fields: Any
    ) -> dict[str, Any]:
        """A job that nobody else has asked, and what its end has to be."""
        with self._lock:
            number = next(self._numbers)
            self.asked += 1
        tensor = list(values) or [float(number), float(-number)]
        job = {"kind": "inference", "model": model, "input": {"tensor": tensor}, **fields}
        return {"job": {**job, "custom_id": f"n{number}"}, "expect": expect or SUCCEEDS}

    def single(
        self, person: Person, asked: dict[str, Any], *, keyed: bool = True, twice: bool = False
    ) -> list[str]:
        """One ``POST /v1/jobs``; no ids when it was not answered and could not be repeated."""
        return self._send(person, "/v1/jobs", [asked], asked["job"], keyed, twice)

    def group(
        self,
        person: Person,
        asked: Sequence[dict[str, Any]],
        *,
        keyed: bool = True,
        twice: bool = False,
    ) -> list[str]:
        """One ``POST /v1/jobs/many``."""
        body = {"jobs": [one["job"] for one in asked]}
        return self._send(person, "/v1/jobs/many", asked, body, keyed, twice)

    def run(
        self, person: Person, job: dict[str, Any], bulk: dict[str, Any], *, expect: Any = None
    ) -> str:
        """One bulk job; its id. ``bulk`` is what the auditor is told of it."""
        with self._lock:
            name = f"b{next(self._numbers)}"
        told = {"question": None, "bulk": bulk, "expect": expect or SUCCEEDS}
        asked = {"job": {**job, "kind": "bulk", "model": MODEL, "custom_id": name}, **told}
        (job_id,) = self._send(person, "/v1/jobs", [asked], asked["job"], True, False)
        return job_id

    def train(
        self, person: Person, model: str, spec: dict[str, Any], told: dict[str, Any], *, expect: Any
    ) -> str:
        """One training; its id. ``told`` is what the auditor is told of it."""
        with self._lock:
            name = f"t{next(self._numbers)}"
        job = {"kind": "training", "model": model, "spec": spec, "custom_id": name}
        asked = {"job": job, "question": None, "training": {"model": model, **told}}
        asked["expect"] = expect or SUCCEEDS
        (job_id,) = self._send(person, "/v1/jobs", [asked], job, True, True)
        return job_id

    def _send(
        self,
        person: Person,
        path: str,
        asked: Sequence[dict[str, Any]],
        body: dict[str, Any],
        keyed: bool,
        twice: bool,
    ) -> list[str]:
        with self._lock:
            request = f"r{next(self._requests)}"
        key = f"key-{request}-{asked[0]['job']['custom_id']}" if keyed else None
        said = [
            {
                "custom_id": one["job"]["custom_id"],
                "question": one["job"].get("input", {}).get("tensor"),
                "expect": one["expect"],
                **{kind: one[kind] for kind in ("bulk", "training") if kind in one},
            }
            for one in asked
        ]
        self.book.write(sent=request, tenant=person.tenant, key=key, jobs=said)
        ids: list[str] = []
        for _ in range(2 if keyed and twice else 1):
            try:
                answer = _ask(person.http, path, body, key)
            except NotAccepted:
                with self._lock:
                    self.asked -= len(asked)  # somebody else has to be asked instead
                return []
            ids = [one["id"] for one in answer["jobs"]] if "jobs" in answer else [answer["id"]]
            self.book.note(request, person.tenant, key, ids)
        return ids

    def close(self) -> None:
        for person in self.people:
            person.close()


def _ask(http: httpx.Client, path: str, body: dict[str, Any], key: str | None) -> dict[str, Any]:
    """The answer of 202, however often it has to be asked for."""
    end_s = time.monotonic() + PATIENCE_S
    headers = {"Idempotency-Key": key} if key else {}
    while True:
        try:
            answer = http.post(path, json=body, headers=headers)
        except httpx.ConnectError:
            said = "no connection"  # certainly not taken
        except httpx.HTTPError as error:
            if key is None:
                raise NotAccepted from error
            said = repr(error)
        else:
            if answer.status_code == 202:
                found: dict[str, Any] = answer.json()
                return found
            said = f"{answer.status_code} {answer.text[:300]}"
            if answer.status_code not in _LATER:
                raise AssertionError(f"POST {path} → {said}")
            if key is None and answer.status_code != 429:
                raise NotAccepted(said)  # a commit whose end is unknown says 503, too
        if time.monotonic() > end_s:
            raise AssertionError(f"POST {path}: not accepted within {PATIENCE_S} s: {said}")
        time.sleep(0.1)
