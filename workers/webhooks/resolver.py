"""A host's addresses, looked up once and each looked at: who connects does so to one of these.

So a name that answers a good address now and a bad one later (rebinding) gets no connection to
the bad one. One refused address refuses the host: a name that leads outside and inside is no
receiver. Look-ups run in threads of their own, as ``getaddrinfo`` may take half a minute.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Sequence
from ipaddress import ip_address

from storage.records.webhook_guard import Address, Guard, Target
from workers.webhooks.verdict import Undelivered

KEPT_S = 10.0  # many deliveries to a host ask once; a move of it is followed soon
LOOK_UPS = 32  # at a time, each a thread
_MAX_KEPT = 4096


def look_up(host: str, port: int) -> list[str]:
    """The addresses of a host in the system's order; ``OSError`` when there are none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    texts = (str(entry[4][0]) for entry in found)
    return list(dict.fromkeys(text.partition("%")[0] for text in texts))


class Resolver:
    """Checked addresses, kept for a few seconds. Lives in one event loop."""

    def __init__(
        self,
        guard: Guard,
        look_up: Callable[[str, int], Sequence[str]] = look_up,
        kept_s: float = KEPT_S,
    ) -> None:
        self._guard, self._look_up, self._kept_s = guard, look_up, kept_s
        self._free = asyncio.Semaphore(LOOK_UPS)
        self._known: dict[tuple[str, int], tuple[float, tuple[Address, ...]]] = {}
        self._asked: dict[tuple[str, int], asyncio.Task[tuple[Address, ...]]] = {}

    async def addresses(self, target: Target) -> tuple[Address, ...]:
        """Where to connect to, or ``Undelivered``."""
        if target.address is not None:
            return self._checked(target, (target.address,))
        key = (target.host, target.port)
        now_s = asyncio.get_running_loop().time()
        known = self._known.get(key)
        if known is not None and known[0] > now_s:
            return known[1]
        task = self._asked.get(key)
        if task is None:
            task = asyncio.ensure_future(self._resolve(target))
            self._asked[key] = task
            task.add_done_callback(lambda done: self._resolved(key, done))
        return await asyncio.shield(task)  # others wait for it too

    def _resolved(self, key: tuple[str, int], done: asyncio.Task[tuple[Address, ...]]) -> None:
        del self._asked[key]
        if done.cancelled() or done.exception() is not None:
            return
        if len(self._known) >= _MAX_KEPT:
            self._known.clear()
        until_s = asyncio.get_running_loop().time() + self._kept_s
        self._known[key] = (until_s, done.result())

    async def _resolve(self, target: Target) -> tuple[Address, ...]:
        async with self._free:
            try:
                texts = await _in_a_thread(self._look_up, target.host, target.port)
                found = [ip_address(text) for text in texts]
            except (OSError, ValueError, UnicodeError):
                found = []
        if not found:
            raise Undelivered(f"{target.host} does not resolve")
        return self._checked(target, found)

    def _checked(self, target: Target, found: Sequence[Address]) -> tuple[Address, ...]:
        for address in found:
            if why := self._guard.refusal(target, address):
                raise Undelivered(f"not sent: {target.host} {why}")
        return tuple(found)


async def _in_a_thread(
    run: Callable[[str, int], Sequence[str]], host: str, port: int
) -> Sequence[str]:
    """A daemon thread: one that hangs keeps no process from ending."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Sequence[str]] = loop.create_future()

    def tell(found: Sequence[str] | None, error: BaseException | None) -> None:
        if not answer.done():
            if error is None:
                answer.set_result(found or ())
            else:
                answer.set_exception(error)

    def ask() -> None:
        found, error = None, None
        try:
            found = run(host, port)
        except Exception as raised:
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, found, error)

    threading.Thread(target=ask, name="forebay-resolve", daemon=True).start()
    return await answer
