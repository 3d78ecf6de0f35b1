"""Receivers of webhooks in a process of their own: as cheap as can be, as they share the machine.

``python -m tests.bench.webhook_receivers PORTS OUTPUT``: the first port hangs, the second resets,
the others answer 200. At its end (its standard input is closed) it writes one line for each
request that came in whole: port, ``webhook-id``, seconds since 1970, and the event's own time.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from pathlib import Path

import uvloop

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_LENGTH = re.compile(rb"content-length: (\d+)")
_ID = re.compile(rb"webhook-id: (\S+)")
_TIME = re.compile(rb'"timestamp":"([^"]+)"')
_HANGS, _RESETS = 0, 1


class Receiving(asyncio.Protocol):
    """One connection."""

    def __init__(self, place: int, port: int, seen: list[tuple[int, str, float, str]]) -> None:
        self._place, self._port, self._seen = place, port, seen
        self._waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        while (end := self._waiting.find(b"\r\n\r\n")) >= 0:
            head = self._waiting[:end]
            whole = end + 4 + int(_LENGTH.search(head)[1])  # type: ignore[index]
            if len(self._waiting) < whole:
                return
            body, self._waiting = self._waiting[end + 4 : whole], self._waiting[whole:]
            self._seen.append(
                (
                    self._port,
                    _ID.search(head)[1].decode(),  # type: ignore[index]
                    time.time(),
                    _TIME.search(body)[1].decode(),  # type: ignore[index]
                )
            )
            if self._place == _RESETS:
                self._transport.abort()  # type: ignore[attr-defined]
            elif self._place != _HANGS:
                self._transport.write(OK)  # type: ignore[attr-defined]


async def _serve(ports: list[int], output: Path) -> None:
    loop = asyncio.get_running_loop()
    seen: list[tuple[int, str, float, str]] = []
    for place, port in enumerate(ports):
        await loop.create_server(
            lambda place=place, port=port: Receiving(place, port, seen),  # type: ignore[misc]
            "127.0.0.1",
            port,
            backlog=512,
        )
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    with output.open("w") as file:
        for one in seen:
            file.write(json.dumps(one) + "\n")


if __name__ == "__main__":
    uvloop.run(_serve([int(port) for port in sys.argv[1].split(",")], Path(sys.argv[2])))
