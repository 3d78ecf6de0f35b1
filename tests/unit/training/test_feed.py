"""Rows come in order, one group ahead."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from workers.training.feed import Feed
from workers.training.ports import Batch, Order


@pytest.fixture
def reader() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


def batch(order: Order) -> Batch:
    return Batch({"x": order}, order, None)


def test_groups_follow_each_other_to_the_epochs_end(reader: ThreadPoolExecutor) -> None:
    order = np.arange(10)[::-1].astype(np.int64)
    feed = Feed(batch, order, 3, reader)
    found = []
    feed.ask(4)
    while feed.next_row <= 10 and len(found) < 2:
        group = feed.get()
        feed.ask(4)
        found.append((group.start, group.rows, group.batch.target.tolist()))
    assert found == [(3, 4, [6, 5, 4, 3]), (7, 3, [2, 1, 0])]


def test_what_goes_wrong_while_reading_is_raised_where_rows_are_wanted(
    reader: ThreadPoolExecutor,
) -> None:
    def broken(_: Order) -> Batch:
        raise OSError("the disk is gone")

    feed = Feed(broken, np.arange(3, dtype=np.int64), 0, reader)
    feed.ask(2)
    with pytest.raises(OSError, match="disk"):
        feed.get()


def test_what_is_dropped_is_not_being_read_any_more(reader: ThreadPoolExecutor) -> None:
    begun, go, read = threading.Event(), threading.Event(), threading.Event()

    def slow(order: Order) -> Batch:
        begun.set()
        assert go.wait(10)
        read.set()
        return batch(order)

    feed = Feed(slow, np.arange(3, dtype=np.int64), 0, reader)
    feed.ask(2)
    assert begun.wait(5)
    threading.Timer(0.05, go.set).start()
    feed.drop()
    assert read.is_set()
    feed.drop()
