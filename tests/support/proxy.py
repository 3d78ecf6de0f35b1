"""A small TCP proxy that misbehaves on demand: latency, black holes, resets, cuts.

It stands where ``tc netem`` cannot: between one client and one service on loopback. Plain
threads, two a connection; the verbs may be called from any thread and have taken effect when
they return.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from types import TracebackType

from tests.support.ports import free_port

_CHUNK_BYTES = 65_536
_RST = struct.pack("ii", 1, 0)  # linger on, zero seconds: closing sends RST


class Proxy:
    """Forwards ``127.0.0.1:port`` to the upstream, for as long as it is told to.

    ``black_hole()`` holds back bytes in both directions and says nothing, as a dropped network
    does; ``cut()`` closes what is open; ``reset()`` the same with RST; ``refuse()`` stops
    listening as well; ``heal()`` undoes all of it. ``cut_after(n)`` lets exactly ``n`` more
    bytes of the clients' through and then cuts. ``latency_s`` delays each chunk, each way.
    """

    def __init__(self, upstream_port: int, upstream_host: str = "127.0.0.1") -> None:
        self.port = free_port()
        self.latency_s = 0.0
        self.bytes_up = 0  # what clients sent and the upstream was given
        self.bytes_down = 0
        self.accepted = 0
        self._upstream = (upstream_host, upstream_port)
        self._budget: int | None = None
        self._flowing = threading.Event()
        self._lock = threading.Lock()
        self._links: set[_Link] = set()
        self._door: socket.socket | None = None
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Proxy:
        self.heal()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.refuse()
        self._flowing.set()  # whoever waits in the black hole finds its sockets closed
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(10)

    @property
    def connections(self) -> int:
        """How many client connections are open now."""
        with self._lock:
            return len(self._links)

    def black_hole(self) -> None:
        self._flowing.clear()

    def cut(self) -> None:
        self._drop_all(hard=False)

    def reset(self) -> None:
        self._drop_all(hard=True)

    def cut_after(self, up_bytes: int) -> None:
        with self._lock:
            self._budget = up_bytes

    def lead_to(self, upstream_port: int) -> None:
        """New connections go to another port; open ones are cut."""
        if self._upstream[1] != upstream_port:
            self._upstream = (self._upstream[0], upstream_port)
            self.cut()

    def refuse(self) -> None:
        if self._door is not None:
            with contextlib.suppress(OSError):
                self._door.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            self._door.close()
            self._door = None
        self._drop_all(hard=False)

    def heal(self) -> None:
        with self._lock:
            self._budget = None
        self._flowing.set()
        if self._door is None:
            self._door = socket.create_server(("127.0.0.1", self.port), backlog=128)
            self._run(self._accept, self._door)

    def _run(self, target, *args) -> None:  # type: ignore[no-untyped-def]
        thread = threading.Thread(target=target, args=args, name="proxy", daemon=True)
        with self._lock:  # one that is listed has been started, and can be joined
            thread.start()
            self._threads = [one for one in self._threads if one.is_alive()] + [thread]

    def _accept(self, door: socket.socket) -> None:
        while True:
            try:
                client, _ = door.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                upstream = socket.create_connection(self._upstream, timeout=10)
            except OSError:
                client.close()
                continue
            upstream.settimeout(None)
            link = _Link(client, upstream)
            with self._lock:
                self._links.add(link)
            if self._door is not door:  # refused in between
                self._drop_all(hard=False)
            self._run(self._pump, link, True)
            self._run(self._pump, link, False)

    def _pump(self, link: _Link, up: bool) -> None:
        source, sink = (link.client, link.upstream) if up else (link.upstream, link.client)
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK_BYTES):
                if self.latency_s:
                    time.sleep(self.latency_s)
                self._flowing.wait()
                data = self._meddle(link, up, data)
                data, spent = self._within_budget(data) if up else (data, False)
                sink.sendall(data)
                with self._lock:
                    self.bytes_up += len(data) if up else 0
                    self.bytes_down += 0 if up else len(data)
                if spent:
                    self._drop_all(hard=False)
                    break
        link.drop(hard=False)  # one direction's end is the connection's
        if link.last_one_out():
            with self._lock:
                self._links.discard(link)

    def _meddle(self, link: _Link, up: bool, data: bytes) -> bytes:
        """What is passed on instead of ``data``; for who knows what is said on the connection."""
        return data

    def _within_budget(self, data: bytes) -> tuple[bytes, bool]:
        with self._lock:
            if self._budget is None:
                return data, False
            data = data[: self._budget]
            self._budget -= len(data)
            return data, self._budget == 0

    def _drop_all(self, *, hard: bool) -> None:
        with self._lock:
            links = tuple(self._links)
        for link in links:
            link.drop(hard=hard)


class _Link:
    """One client connection and its upstream one, and the two threads between them."""

    def __init__(self, client: socket.socket, upstream: socket.socket) -> None:
        self.client, self.upstream = client, upstream
        self._pumps = 2
        self._lock = threading.Lock()
        self._hard = False

    def drop(self, *, hard: bool) -> None:
        """Ends both sides; their threads then close the sockets they may be reading."""
        with self._lock:
            for sock in (self.client, self.upstream):
                with contextlib.suppress(OSError):
                    if hard:
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
                        self._hard = True
                    if not self._hard:
                        sock.shutdown(socket.SHUT_RDWR)
                    else:
                        sock.shutdown(socket.SHUT_RD)  # wakes the reader without a FIN

    def last_one_out(self) -> bool:
        with self._lock:
            self._pumps -= 1
            if self._pumps:
                return False
            self.client.close()
            self.upstream.close()
            return True
