"""A pack on its way into the store while the commit that needs it is made ready.

For a few jobs only: somebody waits for each of them, and a put and the commit's statement take
about as long. The transaction ends when the object is stored and not before; as it holds the jobs'
rows meanwhile, it does not wait for long.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue

IN_TRANSACTION_S = 0.2

Put = Callable[[str, bytes], None]


class NotStored(Exception):
    """The object is not there, or not yet: nothing that needs it may be committed."""


class Putting:
    """One put that has begun."""

    def __init__(self, put: Put, key: str, data: bytes, begun: Future[None]) -> None:
        self._put, self._key, self._data = put, key, data
        self._begun: Future[None] | None = begun

    def require(self) -> None:
        """Inside the transaction: ``NotStored`` unless the object is stored, now or very soon."""
        if self._begun is None:
            return
        try:
            self._begun.result(IN_TRANSACTION_S)
        except Exception as trouble:
            raise NotStored from trouble

    def finish(self) -> None:
        """Outside of it: wait for the first put, at later calls put again; raises its trouble."""
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.result()
        else:
            self._put(self._key, self._data)


class Putters:
    """The threads for them, as many as there are who commit. They hold up nobody's end: a store
    that answers nothing keeps a put for a minute."""

    def __init__(self, put: Put, threads: int) -> None:
        self._put, self._threads = put, threads
        self._asked: SimpleQueue[tuple[str, bytes, Future[None]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0

    def begin(self, key: str, data: bytes) -> Putting:
        """Start to put."""
        begun: Future[None] = Future()
        self._asked.put((key, data, begun))
        with self._lock:
            if self._started < self._threads:
                self._started += 1
                threading.Thread(target=self._run, name="forebay-put", daemon=True).start()
        return Putting(self._put, key, data, begun)

    def close(self) -> None:
        """Nothing is put any more; what was begun ends by itself."""
        with self._lock:
            for _ in range(self._started):
                self._asked.put(None)

    def _run(self) -> None:
        while (asked := self._asked.get()) is not None:
            key, data, begun = asked
            try:
                self._put(key, data)
            except BaseException as trouble:  # for whoever waits for it
                begun.set_exception(trouble)
            else:
                begun.set_result(None)
