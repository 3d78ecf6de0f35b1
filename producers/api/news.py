"""Hearing of the workers' commits: a thread that waits for news and tells the watcher.

News are a hint and nothing more. Without them, or while the connection they come by is down,
everything goes on by looking; it only takes a few milliseconds longer to be seen.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from producers.api.watcher import Watcher
from storage.records.errors import ForebayError

_LOG = logging.getLogger("forebay.api.news")

LISTEN_S = 5.0
LONGEST_GOODBYE_S = 2.0
LEAST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0


class News(Protocol):
    """Ids of jobs whose state was changed, as somebody tells them."""

    def wait(self, timeout_s: float) -> list[str]:
        """The next ones, or none in this time. Raises when the source is gone: open another."""
        ...

    def close(self) -> None:
        """Let go of it, from any thread; a wait that is under way ends."""
        ...


OpenNews = Callable[[], News | None]


class Listener:
    """Owns its thread from ``start`` to ``close``. ``open_news`` gives None where there is none."""

    def __init__(self, open_news: OpenNews, watcher: Watcher) -> None:
        self._open = open_news
        self._watcher = watcher
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._news: News | None = None

    def start(self) -> None:
        """Begin to listen; returns at once."""
        self._thread = threading.Thread(target=self._run, name="forebay-news", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._stop.set()
        if (news := self._news) is not None:
            news.close()  # which ends a wait
        if self._thread is not None:
            self._thread.join(LONGEST_GOODBYE_S)  # it may be waiting for a database that is gone

    def _run(self) -> None:
        pause_s = LEAST_PAUSE_S
        while not self._stop.is_set():
            try:
                news = self._open()
                if news is None:
                    return
                pause_s = LEAST_PAUSE_S
                self._news = news
                self._listen(news)
            except ForebayError as error:
                _LOG.info("no news for a while: %s", error.message)
            except Exception:
                _LOG.exception("listening for news failed; it is tried again")
            self._news = None
            self._watcher.hears(False)
            self._stop.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _listen(self, news: News) -> None:
        try:
            self._watcher.hears(True)
            while not self._stop.is_set():
                self._watcher.tell(news.wait(LISTEN_S))
        finally:
            news.close()
