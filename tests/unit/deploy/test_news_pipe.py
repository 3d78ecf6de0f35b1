"""The pipe between the two processes of the embedded mode: whole ids, or none."""

from __future__ import annotations

import threading

import pytest

from forebay.news_pipe import IDS_PER_WRITE, NewsPipe, tell
from storage.records.ids import uuid7


@pytest.fixture
def pipe():
    made = NewsPipe()
    yield made
    made.let_go()


def ids(count: int) -> list[str]:
    return [uuid7(number, number) for number in range(count)]


def test_ids_arrive_in_order_however_many(pipe):
    told = ids(3 * IDS_PER_WRITE + 7)
    tell(pipe.write_fd, told)
    heard: list[str] = []
    while len(heard) < len(told):
        more = pipe.wait(1)
        assert more
        heard += more
    assert heard == told
    assert pipe.wait(0) == []


def test_a_full_pipe_drops_whole_ids_and_holds_up_nobody(pipe):
    told = ids(10_000)
    tell(pipe.write_fd, told)  # nobody reads: this must come back
    heard: list[str] = []
    while more := pipe.wait(0):
        heard += more
    assert 0 < len(heard) < len(told)
    assert heard == told[: len(heard)]  # and not one is torn
    tell(pipe.write_fd, told[:2])
    assert pipe.wait(1) == told[:2]


def test_closing_ends_a_wait(pipe):
    heard: list[list[str]] = []
    waiting = threading.Thread(target=lambda: heard.append(pipe.wait(1000)))
    waiting.start()
    pipe.close()
    waiting.join(10)
    assert heard == [[]]


def test_a_reader_who_is_gone_is_nobodys_trouble():
    pipe = NewsPipe()
    write_fd = pipe.write_fd
    pipe.let_go()
    tell(write_fd, ids(1))
