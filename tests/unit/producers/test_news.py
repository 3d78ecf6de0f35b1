"""News: heard, lost, and heard again; whoever waits never depends on them."""

from __future__ import annotations

import queue
import threading

import pytest

from producers.api import news as module
from producers.api.news import Listener
from storage.records.errors import DatabaseUnavailable
from tests.support.waiting import wait_until


class Source:
    """News that a test gives. ``None`` in the queue is the end of the connection."""

    def __init__(self) -> None:
        self.queue: queue.Queue[list[str] | None] = queue.Queue()
        self.closed = threading.Event()

    def wait(self, timeout_s: float) -> list[str]:
        try:
            ids = self.queue.get(timeout=timeout_s)
        except queue.Empty:
            return []
        if ids is None:
            raise DatabaseUnavailable("gone")
        return ids

    def close(self) -> None:
        self.closed.set()
        self.queue.put([])


class Ear:
    """What the watcher would be told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.hearing: list[bool] = []

    def tell(self, ids) -> None:
        self.told += ids

    def hears(self, hearing: bool) -> None:
        self.hearing.append(hearing)


@pytest.fixture
def ear():
    return Ear()


def listening(open_news, ear):
    listener = Listener(open_news, ear)
    listener.start()
    return listener


def test_news_are_told(ear):
    source = Source()
    listener = listening(lambda: source, ear)
    source.queue.put(["a", "b"])
    source.queue.put(["c"])
    wait_until(lambda: ear.told == ["a", "b", "c"], what="the news")
    listener.close()
    assert source.closed.is_set() and ear.hearing == [True, False]


def test_a_lost_connection_is_opened_again(ear, monkeypatch):
    monkeypatch.setattr(module, "LEAST_PAUSE_S", 0.01)
    sources = [Source(), Source()]
    tries = iter([sources[0], DatabaseUnavailable("still gone"), RuntimeError("odd"), sources[1]])

    def open_news():
        found = next(tries)
        if isinstance(found, Exception):
            raise found
        return found

    listener = listening(open_news, ear)
    sources[0].queue.put(["a"])
    sources[0].queue.put(None)
    sources[1].queue.put(["b"])
    wait_until(lambda: ear.told == ["a", "b"], what="news of the second connection")
    assert sources[0].closed.is_set()
    # What happened in between nobody told: each new connection is a reason to look.
    assert ear.hearing == [True, False, False, False, True]
    listener.close()


def test_where_there_are_no_news_nobody_listens(ear):
    listener = listening(lambda: None, ear)
    listener.close()
    assert ear.hearing == []


def test_an_end_is_not_kept_waiting(ear, monkeypatch):
    monkeypatch.setattr(module, "LISTEN_S", 1000)
    source = Source()
    listener = listening(lambda: source, ear)
    wait_until(lambda: ear.hearing == [True], what="the listening")
    listener.close()  # would hang for a quarter of an hour
