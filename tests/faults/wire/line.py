"""Proxies that understand what passes, one for each of our processes and each service."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

Matches = Callable[[Any], bool]


class Wire(Protocol):
    """The reader of one connection."""

    def feed(self, up: bool, data: bytes) -> list[object]: ...


class Trip:
    """A trap: the first event that matches springs it, once, before the client hears of it."""

    def __init__(self, matches: Matches, act: Callable[[], None]) -> None:
        self._matches, self._act = matches, act
        self._lock = threading.Lock()
        self._armed = True
        self.sprung = threading.Event()
        self.event: object = None
        self.error: BaseException | None = None

    def look(self, event: object) -> None:
        with self._lock:
            if not self._armed or not self._matches(event):
                return
            self._armed = False
        self.event = event
        try:
            self._act()
        except BaseException as error:
            self.error = error
        self.sprung.set()

    def disarm(self) -> None:
        with self._lock:
            self._armed = False

    def wait(self, deadline_s: float = 60.0) -> None:
        """Until it was sprung; raises what went wrong in it."""
        wait_until(self.sprung.is_set, deadline_s, what="the moment that the fault waits for")
        if self.error is not None:
            raise self.error


class WatchedProxy(Proxy):
    """A proxy with a decoder for each connection. ``spoil`` may change what is passed on."""

    def __init__(self, upstream_port: int, make_wire: Callable[[], Wire]) -> None:
        super().__init__(upstream_port)
        self._make_wire = make_wire
        self._wires: WeakKeyDictionary[Any, Wire] = WeakKeyDictionary()
        self._wires_lock = threading.Lock()
        self.trips: list[Trip] = []
        self.spoil: Callable[[Any, bool, bytes, list[object]], bytes] | None = None

    def trip(self, matches: Matches, act: Callable[[], None]) -> Trip:
        """Set a trap."""
        made = Trip(matches, act)
        self.trips = [*self.trips, made]
        return made

    def _meddle(self, link: Any, up: bool, data: bytes) -> bytes:
        with self._wires_lock:
            wire = self._wires.get(link)
            if wire is None:
                wire = self._wires[link] = self._make_wire()
            events = wire.feed(up, data)
        for event in events:
            for one in self.trips:
                one.look(event)
        return self.spoil(link, up, data, events) if self.spoil else data


class Line:
    """The way of all our processes to one service: ``line["worker"]`` is one process's own, the
    verbs are for all of them at once."""

    def __init__(self, upstream_port: int, make_wire: Callable[[], Wire]) -> None:
        self._upstream_port, self._make_wire = upstream_port, make_wire
        self._proxies: dict[str, WatchedProxy] = {}

    def __getitem__(self, part: str) -> WatchedProxy:
        if part not in self._proxies:
            proxy = WatchedProxy(self._upstream_port, self._make_wire)
            proxy.heal()
            self._proxies[part] = proxy
        return self._proxies[part]

    def __iter__(self) -> Iterator[WatchedProxy]:
        return iter(tuple(self._proxies.values()))

    @property
    def parts(self) -> Mapping[str, WatchedProxy]:
        return dict(self._proxies)

    def black_hole(self) -> None:
        for proxy in self:
            proxy.black_hole()

    def cut(self) -> None:
        for proxy in self:
            proxy.cut()

    def reset(self) -> None:
        for proxy in self:
            proxy.reset()

    def refuse(self) -> None:
        for proxy in self:
            proxy.refuse()

    def lead_to(self, upstream_port: int) -> None:
        """By way of something else that forwards, until ``heal``."""
        for proxy in self:
            proxy.lead_to(upstream_port)

    def delay(self, latency_s: float) -> None:
        for proxy in self:
            proxy.latency_s = latency_s

    def trip(self, matches: Matches, act: Callable[[], None], *parts: str) -> Trip:
        """A trap on the ways of these processes, or of all; the first event springs it."""
        made = Trip(matches, act)
        for name, proxy in self.parts.items():
            if not parts or name in parts:
                proxy.trips = [*proxy.trips, made]
        return made

    def heal(self) -> None:
        """Transparent again, without traps."""
        for proxy in self:
            for one in proxy.trips:
                one.disarm()
            proxy.trips, proxy.spoil, proxy.latency_s = [], None, 0.0
            proxy.lead_to(self._upstream_port)
            proxy.heal()

    def close(self) -> None:
        for proxy in self:
            proxy.__exit__(None, None, None)
