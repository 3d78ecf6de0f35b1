"""A small TCP proxy that misbehaves on demand: latency, black holes, resets, cuts.

It stands where ``tc netem`` cannot: between one client and one service on loopback. All traffic
goes through one asyncio loop in a thread of its own; the verbs may be called from any thread and
take effect before they return.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from tests.support.ports import free_port

T = TypeVar("T")
_CHUNK_BYTES = 65_536


class Proxy:
    """Forwards ``127.0.0.1:port`` to the upstream, for as long as it is told to.

    ``black_hole()`` swallows bytes in both directions and says nothing, as a dropped network
    does; ``cut()`` closes what is open; ``reset()`` the same with RST; ``refuse()`` stops
    listening as well; ``heal()`` undoes all of it for new connections. ``cut_after(n)`` lets
    exactly ``n`` more bytes of the client's through and then cuts.
    """

    def __init__(self, upstream_port: int, upstream_host: str = "127.0.0.1") -> None:
        self.port = free_port()
        self._upstream = (upstream_host, upstream_port)
        self.latency_s = 0.0
        self.bytes_up = 0  # what clients sent and the upstream was given
        self.bytes_down = 0
        self.accepted = 0
        self._budget: int | None = None
        self._open = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        self.heal()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.refuse()
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def connections(self) -> int:
        """How many client connections are open now."""
        return self._call(lambda: len(self._writers) // 2)

    def black_hole(self) -> None:
        self._call(self._open.clear)

    def cut(self) -> None:
        self._call(lambda: self._drop_all(hard=False))

    def reset(self) -> None:
        self._call(lambda: self._drop_all(hard=True))

    def cut_after(self, up_bytes: int) -> None:
        def set_budget() -> None:
            self._budget = up_bytes

        self._call(set_budget)

    def refuse(self) -> None:
        async def close() -> None:
            if self._server is not None:
                self._server.close()
                self._server = None
            self._drop_all(hard=False)

        self._run(close())

    def heal(self) -> None:
        async def listen() -> None:
            self._budget = None
            self._open.set()
            if self._server is None:
                self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

        self._run(listen())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.close()
            return
        pair = {writer, up_writer}
        self._writers |= pair
        tasks = [
            asyncio.create_task(self._pump(reader, up_writer, up=True)),
            asyncio.create_task(self._pump(up_reader, writer, up=False)),
        ]
        try:
            # One direction's end is the connection's: none of our services half-closes.
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            self._writers -= pair
            for one in pair:
                one.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                if self.latency_s:
                    await asyncio.sleep(self.latency_s)
                await self._open.wait()
                if up and self._budget is not None:
                    data, spent = data[: self._budget], len(data) >= self._budget
                    self._budget -= len(data)
                    writer.write(data)
                    self.bytes_up += len(data)
                    if spent:
                        await writer.drain()
                        self._drop_all(hard=False)
                        return
                    continue
                writer.write(data)
                await writer.drain()
                if up:
                    self.bytes_up += len(data)
                else:
                    self.bytes_down += len(data)

    def _drop_all(self, *, hard: bool) -> None:
        for writer in self._writers:
            if hard:
                sock = writer.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            else:
                writer.close()

    async def _end(self) -> None:
        self._drop_all(hard=True)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _call(self, function: Callable[[], T]) -> T:
        async def call() -> T:
            return function()

        return self._run(call())

    def _run(self, coroutine) -> T:  # type: ignore[no-untyped-def]
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)
