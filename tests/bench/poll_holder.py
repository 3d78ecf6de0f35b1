"""Keeps one long-poll open per id read from standard input, until it is killed."""

from __future__ import annotations

import asyncio
import sys
from urllib.parse import urlsplit

WAIT_S = 55


async def hold(host: str, port: int, job_id: str) -> None:
    """Plain HTTP/1.1 over one connection, again and again: nothing of it costs the other side."""
    reader, writer = await asyncio.open_connection(host, port)
    while True:
        path = f"/v1/jobs/{job_id}?wait={WAIT_S}"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise RuntimeError(head.decode(errors="replace"))
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        await reader.readexactly(length)


async def main(url: str, ids: list[str]) -> None:
    """All of them at once."""
    at = urlsplit(url)
    await asyncio.gather(*(hold(str(at.hostname), int(at.port or 80), one) for one in ids))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.stdin.read().split()))
