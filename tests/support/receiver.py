"""A receiver of webhooks on loopback whose behaviour is told by the path, with a log of its own.

Paths, each with whatever behind it (``/ok/7``): ``ok``, ``status/500``, ``retry-after/503/2``
(seconds, or a word for a date), ``slow/0.5`` (seconds before the head), ``drip`` (a head that
comes a byte at a time and never ends), ``endless`` (a body that never ends), ``big`` (a head that
never ends), ``redirect`` (to ``/ok``), ``reset``, ``hang`` (takes it and never answers),
``garbage``, ``close`` (answers, then closes), ``once`` (answers; resets at the next request),
``until/3`` (500 until the third, then 200), ``later/3/6`` (429 and ``Retry-After: 6`` until the
third, then 200).

The log is one JSON line for each request that came in whole: id, path, time, headers, body, and
the status that it is about to be answered with, if any.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from tests.support.ports import free_port

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@dataclass
class Receiver:
    """Runs in a thread of its own until ``close``."""

    log: Path | None = None
    tls: ssl.SSLContext | None = None
    port: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)
    connections: int = 0
    busiest: Counter[str] = field(default_factory=Counter)  # most requests at a time, by path
    _busy: Counter[str] = field(default_factory=Counter)
    _seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._file: TextIO | None = self.log.open("a") if self.log else None
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10)

    def url(self, path: str = "/ok", host: str = "127.0.0.1") -> str:
        return f"http{'s' if self.tls else ''}://{host}:{self.port}{path}"

    def ids(self, path: str | None = None) -> list[str]:
        """``webhook-id`` of what came in, by path if it is given."""
        return [one["id"] for one in list(self.requests) if path in (None, one["path"])]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        if self._file:
            self._file.close()

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        started.set()
        self._loop.run_forever()
        self._server.close()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        open_ones = asyncio.all_tasks() - {asyncio.current_task()}
        for task in open_ones:
            task.cancel()
        await asyncio.gather(*open_ones, return_exceptions=True)
        await asyncio.sleep(0.01)  # for transports to be closed by their loop

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port or free_port(), ssl=self.tls, backlog=512
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = 0
        try:
            while await self._one(reader, writer, number):
                number += 1
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> bool:
        """Whether another request may follow on the connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
        }
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        path = first.split(" ")[1]
        entry = {
            "id": headers.get("webhook-id"),
            "path": path,
            "time": time.time(),
            "says": self._says(path),
            "headers": headers,
            "body": body.decode("latin-1"),
        }
        self.requests.append(entry)
        if self._file:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
        if number and path.startswith("/once"):
            return False
        self._busy[path] += 1
        self.busiest[path] = max(self.busiest[path], self._busy[path])
        try:
            return await self._answer(path, entry["says"], writer)
        finally:
            self._busy[path] -= 1

    def _says(self, path: str) -> int | None:
        """The status of the answer; none where there will be none."""
        _, how, *rest = path.split("/")
        if how in ("until", "later"):
            self._seen[path] += 1
            early = self._seen[path] < int(rest[0])
            return {"until": 500, "later": 429}[how] if early else 200
        if how in ("status", "retry-after"):
            return int(rest[0])
        if how in ("hang", "drip", "big", "reset", "garbage"):
            return None
        return 302 if how == "redirect" else 200

    async def _answer(self, path: str, says: int | None, writer: asyncio.StreamWriter) -> bool:
        _, how, *rest = path.split("/")
        if how == "retry-after" or says == 429:
            after = rest[1].replace("_", " ")
            writer.write(_plain(says or 0, f"retry-after: {after}\r\n"))
        elif how == "redirect":
            writer.write(_plain(302, f"location: {self.url('/ok/redirected')}\r\n"))
        elif how == "slow":
            await asyncio.sleep(float(rest[0]))
            writer.write(OK)
        elif how == "close":
            writer.write(_plain(200, "connection: close\r\n"))
            await writer.drain()
            writer.close()
            return False
        elif how == "reset":
            return False
        elif how == "garbage":
            writer.write(b"what is this?\r\n\r\n")
        elif how in ("hang", "drip", "endless", "big"):
            await self._never_end(how, writer)
        else:
            writer.write(_plain(says or 0))
        await writer.drain()
        return True

    async def _never_end(self, how: str, writer: asyncio.StreamWriter) -> None:
        heads = {
            "drip": b"HTTP/1.1 200 OK\r\nx-slow: ",
            "endless": b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n",
            "big": b"HTTP/1.1 200 OK\r\n",
        }
        writer.write(heads.get(how, b""))
        while True:
            if how == "drip":
                writer.write(b"a")
            if how == "endless":
                writer.write(bytes(65_536))
            if how == "big":
                writer.write(b"x-more: " + b"a" * 1000 + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0.001 if how in ("endless", "big") else 0.1)


def _plain(status: int, more: str = "") -> bytes:
    body = "no" if status not in (204, 304) else ""
    return f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n{more}\r\n{body}".encode()


@contextlib.contextmanager
def receiving(**options: Any) -> Iterator[Receiver]:
    """A receiver for as long as the block lasts."""
    receiver = Receiver(**options)
    try:
        yield receiver
    finally:
        receiver.close()


def entries(log: Path) -> list[dict[str, Any]]:
    """What a log holds; a line that is being written is left out."""
    text = log.read_text() if log.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def main(argv: list[str]) -> int:
    """``python -m tests.support.receiver --port N --log FILE``: a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    wanted = parser.parse_args(argv)
    Receiver(log=wanted.log, port=wanted.port)
    forever: Callable[[], bool] = threading.Event().wait
    return int(forever())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
