"""Posts a request to a target: by a connection that is still open, or a new one.

It follows no redirect, keeps no cookie, asks no proxy whatever the environment says, and
connects to addresses that the resolver let through, never to a name.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import defaultdict

from storage.records.webhook_guard import Address, Target
from workers.webhooks.connection import Broken, Connection, Limits
from workers.webhooks.resolver import Resolver
from workers.webhooks.verdict import Answer, Undelivered

Key = tuple[str, str, int]
MAX_ADDRESSES = 3  # of a host, tried in turn


class Client:
    """Lives in one event loop; ``sweep`` it now and then."""

    def __init__(
        self,
        resolver: Resolver,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._resolver = resolver
        self._limits = limits or Limits()
        self._tls = tls or ssl.create_default_context()
        self._idle: defaultdict[Key, list[Connection]] = defaultdict(list)
        self._idle_count = 0
        self._open: set[Connection] = set()
        self._loop = asyncio.get_running_loop()

    async def post(self, target: Target, request: bytes) -> Answer:
        """The answer, or ``Undelivered``, which says why there is none."""
        try:
            async with asyncio.timeout(self._limits.total_s):
                return await self._post(target, request)
        except TimeoutError:
            raise Undelivered(f"no answer within {self._limits.total_s:g} s") from None

    async def _post(self, target: Target, request: bytes) -> Answer:
        kept = self._take(target)
        if kept is not None:
            try:
                return await self._ask(target, kept, request)
            except Broken as broken:
                if not broken.silent:
                    raise
                # Closed while idle, as servers do: nothing is known to have arrived.
        return await self._ask(target, await self._connect(target), request)

    async def _ask(self, target: Target, connection: Connection, request: bytes) -> Answer:
        answer = await connection.ask(request)
        self._keep(target, connection)
        return answer

    async def _connect(self, target: Target) -> Connection:
        addresses = await self._resolver.addresses(target)
        failed = Undelivered("cannot connect")
        for address in addresses[:MAX_ADDRESSES]:
            try:
                async with asyncio.timeout(self._limits.connect_s):
                    return await self._connect_to(target, address)
            except TimeoutError:
                text = f"cannot connect within {self._limits.connect_s:g} s"
                failed = Undelivered(text)
            except ssl.SSLCertVerificationError as error:
                failed = Undelivered(f"its certificate is not good: {error.verify_message}")
            except ssl.SSLError as error:
                failed = Undelivered(f"no TLS with it: {error.reason or 'it ended early'}")
            except OSError as error:
                # The system's own words: Python's tell the address, which may be an inside one.
                why = os.strerror(error.errno).lower() if error.errno else "no route to it"
                failed = Undelivered(f"cannot connect: {why}")
        raise failed

    async def _connect_to(self, target: Target, address: Address) -> Connection:
        secure = target.scheme == "https"
        _, connection = await self._loop.create_connection(
            lambda: Connection(self._limits, self._open),
            host=str(address),
            port=target.port,
            ssl=self._tls if secure else None,
            server_hostname=target.host if secure else None,
        )
        return connection

    def _take(self, target: Target) -> Connection | None:
        kept = self._idle.get(_key(target))
        oldest_s = self._loop.time() - self._limits.idle_s
        while kept:
            connection = kept.pop()
            self._idle_count -= 1
            if not connection.closed and connection.idle_since_s >= oldest_s:
                return connection
            connection.close()
        return None

    def _keep(self, target: Target, connection: Connection) -> None:
        if connection.closed:
            return
        if self._idle_count >= self._limits.max_idle:
            connection.close()
            return
        connection.idle_since_s = self._loop.time()
        self._idle[_key(target)].append(connection)
        self._idle_count += 1

    def sweep(self) -> None:
        """Close what was idle for too long."""
        oldest_s = self._loop.time() - self._limits.idle_s
        for key, kept in list(self._idle.items()):
            good = [one for one in kept if not one.closed and one.idle_since_s >= oldest_s]
            for connection in kept:
                if connection not in good:
                    connection.close()
            self._idle_count -= len(kept) - len(good)
            if good:
                self._idle[key] = good
            else:
                del self._idle[key]

    async def close(self) -> None:
        """Close every connection, and wait until they are."""
        for connection in list(self._open):
            connection.close()
        self._idle.clear()
        self._idle_count = 0
        while self._open:
            await asyncio.sleep(0)


def _key(target: Target) -> Key:
    return target.scheme, target.host, target.port
