"""Somebody waits for an answer while a bulk flood of the same model runs: how much longer?

Single submits come by a Poisson process and are waited for by long-poll; in every other block the
backlog is full of jobs of priority 0 for the same model. ``python -m tests.bench.online URL RATE
SECONDS SEED`` is the probing process; it reads one body per line and prints when each job was
sent, accepted and seen.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.bench.report import Figure, Goal, percentile
from tests.bench.rig import Rig, WrongAnswers, one, submit
from tests.bench.stages import STAGES, Seen, stages
from tests.support.caller import TERMINAL, Caller
from tests.support.stack import FullStack
from tests.support.waiting import wait_until

NAME = "online"
GOAL = Goal(2, 1.3)
BLOCKS, SECONDS, RATE_PER_S = 3, 30.0, 10.0
QUEUED = 8_000  # of the flood at any time: many times what a worker takes in a second
BULK = 0  # the priority


def measure(rig: Rig, stack: FullStack) -> list[Figure]:
    """Blocks in turns; p99 over all samples of a kind."""
    blocks, seconds = (1, 5.0) if rig.quick else (BLOCKS, SECONDS)
    calm: dict[str, Seen] = {}
    flooded: dict[str, Seen] = {}
    bulk_per_s: list[float] = []
    with stack.caller() as caller:
        for number in range(blocks):
            calm |= _probe(rig, stack, seconds, seed=2 * number)
            with _flood(rig, stack, caller) as flood:
                flooded |= _probe(rig, stack, seconds, seed=2 * number + 1)
                bulk_per_s.append(flood.rate())
    if min(bulk_per_s) < 2 * RATE_PER_S:
        raise WrongAnswers(f"the flood did not run: {bulk_per_s} jobs/s")
    detail = {
        "p99_ms": {"without": _ms(calm, 99), "with": _ms(flooded, 99)},
        "p50_ms": {"without": _ms(calm, 50), "with": _ms(flooded, 50)},
        "samples": {"without": len(calm), "with": len(flooded)},
        "bulk_jobs_per_s": [round(rate) for rate in bulk_per_s],
        STAGES: stages(stack, flooded),
    }
    name = "online p99 with a bulk flood of the same model ÷ without"
    value = round(_ms(flooded, 99) / _ms(calm, 99), 2)
    return [GOAL.of(NAME, name, value, "×", detail=detail)]


def _ms(samples: Mapping[str, Seen], percent: float) -> float:
    return round(percentile([one.seen - one.sent for one in samples.values()], percent), 1)


def _probe(rig: Rig, stack: FullStack, seconds: float, seed: int) -> dict[str, Seen]:
    bodies = [json.dumps(rig.job(index)) for index in range(len(rig.digits.questions))]
    command = [sys.executable, "-m", "tests.bench.online", stack.url]
    done = subprocess.run(
        [*command, str(RATE_PER_S), str(seconds), str(seed)],
        input="\n".join(bodies),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {job_id: Seen(*times) for job_id, times in json.loads(done.stdout).items()}


class Flood:
    """Keeps the backlog full from a thread of its own."""

    def __init__(self, rig: Rig, stack: FullStack, caller: Caller) -> None:
        self._stack, self._caller = stack, caller
        (self._body,) = rig.bodies(1_000, priority=BULK)
        self._groups: deque[str] = deque()
        self._over = threading.Event()
        self._done = 0
        self._began = time.perf_counter()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Until there is a backlog, and some of it has been done."""
        for _ in range(QUEUED // 1_000):
            self._groups += submit(self._caller, [self._body])
        self._thread.start()
        wait_until(lambda: self._done >= 2_000, 120, what="the flood to move")
        self._done, self._began = 0, time.perf_counter()

    def rate(self) -> float:
        """Bulk jobs done per second since it moved."""
        return self._done / (time.perf_counter() - self._began)

    def end(self) -> None:
        """Stop feeding, and take back what is left."""
        self._over.set()
        self._thread.join()
        for group in self._groups:
            self._caller.http.post(f"/v1/groups/{group}/cancel").raise_for_status()
        wait_until(
            lambda: one(self._stack.services, "SELECT count(*) FROM live") == 0,
            60,
            what="the end of the flood",
        )

    def _run(self) -> None:
        with self._stack.caller() as caller:
            while not self._over.wait(0.02):
                while self._groups and caller.group(self._groups[0])["done"]:
                    self._groups.popleft()
                    self._done += 1_000
                while len(self._groups) < QUEUED // 1_000:
                    self._groups += submit(caller, [self._body])


@contextmanager
def _flood(rig: Rig, stack: FullStack, caller: Caller) -> Iterator[Flood]:
    flood = Flood(rig, stack, caller)
    flood.start()
    try:
        yield flood
    finally:
        flood.end()


class Connection:
    """HTTP/1.1 kept alive, as little of it as the probe needs."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The answer's body; any status but 200 and 202 is an error."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"\r\n" + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answer.split(b"content-length:")[1].split(b"\r\n")[0])
        text = await reader.readexactly(length)
        if answer.split()[1] not in (b"200", b"202"):
            raise RuntimeError(text.decode(errors="replace")[:500])
        return text


async def _sample(free: list[Connection], make: Connection | None, body: bytes) -> tuple[str, Seen]:
    connection = make or free.pop()
    at_ms, began = time.time() * 1_000, time.perf_counter()
    job = json.loads(await connection.ask("POST", "/v1/jobs", body))
    accepted_ms = (time.perf_counter() - began) * 1_000
    while job["state"] not in TERMINAL:
        job = json.loads(await connection.ask("GET", f"/v1/jobs/{job['id']}?wait=20"))
    took_ms = (time.perf_counter() - began) * 1_000
    if job["state"] != "succeeded":
        raise RuntimeError(f"an online job did not succeed: {job}")
    free.append(connection)
    return job["id"], Seen(at_ms, at_ms + accepted_ms, at_ms + took_ms)


async def main(url: str, rate_per_s: float, seconds: float, seed: int, bodies: list[str]) -> None:
    """Probes come when they come, whatever became of the ones before."""
    at, rng = urlsplit(url), random.Random(seed)
    free: list[Connection] = []
    probes: list[asyncio.Task[tuple[str, Seen]]] = []
    due = began = time.perf_counter()
    while (due := due + rng.expovariate(rate_per_s)) < began + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        make = None if free else Connection(str(at.hostname), int(at.port or 80))
        body = bodies[len(probes) % len(bodies)].encode()
        probes.append(asyncio.create_task(_sample(free, make, body)))
    print(json.dumps(dict(await asyncio.gather(*probes))))


if __name__ == "__main__":
    url, *numbers, seed = sys.argv[1:]
    rate, length = map(float, numbers)
    asyncio.run(main(url, rate, length, int(seed), sys.stdin.read().splitlines()))
