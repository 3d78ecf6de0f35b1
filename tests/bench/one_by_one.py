"""One HTTP request per job from 32 callers, each of which sends its next when it has its answer.

``python -m tests.bench.one_by_one URL JOBS`` is the callers' process: requests are made before
the clock starts and answers are read no further than needed, so that its cost, which the service
pays on the same machine, is small. It reads one body per line and prints what it saw.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.bench.report import percentile
from tests.bench.rig import Rig, WrongAnswers, rows
from tests.support.stack import FullStack
from tests.support.waiting import wait_until

CLIENTS = 32


@dataclass(frozen=True)
class Singles:
    """One round."""

    jobs_per_s: float  # from the first request to the last job's end
    accepted_per_s: float
    p50_ms: float  # of the answers to the submits
    p99_ms: float


def run(rig: Rig, stack: FullStack, jobs: int) -> Singles:
    """Send them, wait for all, look at every answer."""
    bodies = [json.dumps(rig.job(index)) for index in range(jobs)]
    command = [sys.executable, "-m", "tests.bench.one_by_one", stack.url]
    done = subprocess.run(
        command, input="\n".join(bodies), stdout=subprocess.PIPE, text=True, check=True
    )
    seen = json.loads(done.stdout)
    ids = seen["ids"]
    query = "SELECT count(*), max(finished_at) FROM ends WHERE id = ANY(%s::uuid[])"
    wait_until(
        lambda: rows(stack.services, query, ids)[0][0] == jobs,
        120,
        what="all jobs to end",
        every_s=0.1,
    )
    ((_, ended_ms),) = rows(stack.services, query, ids)
    with stack.caller() as caller:
        for index in {*range(0, jobs, 97), jobs - 1}:
            label = caller.result(ids[index])["label"]
            if label != rig.digits.question(index).label:
                raise WrongAnswers(f"job {index}: {label}")
    good = "state = 'succeeded' AND id = ANY(%s::uuid[])"
    ((count,),) = rows(stack.services, f"SELECT count(*) FROM ends WHERE {good}", ids)
    if count != jobs:
        raise WrongAnswers(f"{count} of {jobs} jobs succeeded")
    return Singles(
        jobs_per_s=jobs / (ended_ms / 1_000 - seen["began_s"]),
        accepted_per_s=jobs / seen["seconds"],
        p50_ms=round(percentile(seen["answers_ms"], 50), 2),
        p99_ms=round(percentile(seen["answers_ms"], 99), 2),
    )


class Client(asyncio.Protocol):
    """One connection: sends, waits for the answer, sends the next."""

    def __init__(self, requests: Iterator[tuple[int, bytes]], seen: dict[int, str]) -> None:
        self._requests, self._seen = requests, seen
        self.answers_ms: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self) -> None:
        """The next request, or the end."""
        request = next(self._requests, None)
        if request is None:
            self.done.set_result(None)
            return
        self._index, text = request
        self._began = time.perf_counter()
        self._transport.write(text)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, parted, rest = self._buffer.partition(b"\r\n\r\n")
        if not parted or len(rest) < _length(head):
            return
        if b" 202 " not in head[:20]:
            self.done.set_exception(RuntimeError((head + rest).decode(errors="replace")[:500]))
            return
        self.answers_ms.append((time.perf_counter() - self._began) * 1_000)
        at = rest.index(b'"id":"') + 6
        self._seen[self._index] = rest[at : rest.index(b'"', at)].decode()
        self._buffer = b""
        self.send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("the service hung up"))


def _length(head: bytes) -> int:
    lowered = head.lower()
    at = lowered.index(b"content-length:") + 15
    return int(lowered[at:].split(b"\r\n", 1)[0])


async def main(url: str, bodies: list[str]) -> None:
    """All of them over ``CLIENTS`` connections."""
    at = urlsplit(url)
    requests = iter(list(enumerate(_request(at.netloc, body.encode()) for body in bodies)))
    seen: dict[int, str] = {}
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: Client(requests, seen), at.hostname, at.port))[1]
        for _ in range(CLIENTS)
    ]
    began_s, began = time.time(), time.perf_counter()
    for client in clients:
        client.send()
    await asyncio.gather(*(client.done for client in clients))
    seconds = time.perf_counter() - began
    answers_ms = [round(ms, 2) for client in clients for ms in client.answers_ms]
    ids = [seen[index] for index in range(len(bodies))]
    out = {"began_s": began_s, "seconds": seconds, "answers_ms": answers_ms, "ids": ids}
    print(json.dumps(out))


def _request(host: str, body: bytes) -> bytes:
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.stdin.read().splitlines()))
