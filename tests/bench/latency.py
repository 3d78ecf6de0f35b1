"""An idle service: from the submit to the answer's being seen by a long-poll, and where it goes.

Asked by Python's own plain HTTP client, which adds little of itself. Every other job is asked for
by httpx, as the SDK does it: what a Python caller sees is told beside the figure.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from tests.bench.report import Figure, Goal, percentile
from tests.bench.rig import Rig
from tests.bench.stages import STAGES, Seen, stages
from tests.support.caller import TERMINAL, Caller
from tests.support.stack import FullStack

NAME = "latency"
P50, P99 = Goal(20, 10), Goal(60, 30)
SAMPLES, WARM_UP = 1_000, 50
SEED = 11

Ask = Callable[[str, str, bytes | None], Any]


def measure(rig: Rig, stack: FullStack) -> list[Figure]:
    """One job at a time, with pauses of chance between them so that no tick is hit in step."""
    rng = random.Random(SEED)
    plain: dict[str, Seen] = {}
    by_httpx: dict[str, Seen] = {}
    with stack.caller() as caller, _plain_client(stack.url) as ask:
        for number in range(WARM_UP + (60 if rig.quick else SAMPLES)):
            body = json.dumps(rig.job(number)).encode()
            time.sleep(rng.uniform(0.01, 0.08))
            job_id, seen = _sample(ask if number % 2 else _httpx(caller), body)
            if number >= WARM_UP:
                (plain if number % 2 else by_httpx)[job_id] = seen
    took_ms, httpx_ms = (
        [one.seen - one.sent for one in samples.values()] for samples in (plain, by_httpx)
    )
    p50, p99 = percentile(took_ms, 50), percentile(took_ms, 99)
    detail = {
        "samples": len(took_ms),
        "min_ms": round(min(took_ms), 2),
        "by httpx, p50 / p99 ms": [round(percentile(httpx_ms, at), 2) for at in (50, 99)],
        STAGES: stages(stack, plain),
    }
    return [
        P50.of(NAME, "idle submit → terminal seen, p50", round(p50, 2), "ms", detail=detail),
        P99.of(NAME, "idle submit → terminal seen, p99", round(p99, 2), "ms"),
    ]


def _sample(ask: Ask, body: bytes) -> tuple[str, Seen]:
    at_ms, began = time.time() * 1_000, time.perf_counter()
    job = ask("POST", "/v1/jobs", body)
    accepted_ms = (time.perf_counter() - began) * 1_000
    while job["state"] not in TERMINAL:
        job = ask("GET", f"/v1/jobs/{job['id']}?wait=30", None)
    took_ms = (time.perf_counter() - began) * 1_000
    if job["state"] != "succeeded":
        raise AssertionError(f"an idle job did not succeed: {job}")
    return job["id"], Seen(at_ms, at_ms + accepted_ms, at_ms + took_ms)


_JSON = {"Content-Type": "application/json"}


@contextlib.contextmanager
def _plain_client(url: str) -> Iterator[Ask]:
    """One connection that is kept."""
    at = urlsplit(url)
    connection = http.client.HTTPConnection(str(at.hostname), at.port, timeout=60)

    def ask(method: str, path: str, body: bytes | None) -> Any:
        connection.request(method, path, body, _JSON)
        answer = connection.getresponse()
        data = answer.read()
        if answer.status not in (200, 202):
            raise AssertionError(f"{method} {path} → {answer.status}: {data[:500]!r}")
        return json.loads(data)

    with contextlib.closing(connection):
        yield ask


def _httpx(caller: Caller) -> Ask:
    def ask(method: str, path: str, body: bytes | None) -> Any:
        answer = caller.http.request(method, path, content=body, headers=_JSON)
        answer.raise_for_status()
        return answer.json()

    return ask
