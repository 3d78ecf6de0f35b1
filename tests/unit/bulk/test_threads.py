"""Who gives way to the device's threads, and who does not."""

from __future__ import annotations

import os
import threading

import pytest

from workers.bulk.threads import NICENESS, start_thread


@pytest.mark.parametrize("gives_way", [True, False])
def test_a_thread_gives_way_with_all_that_it_starts_and_nobody_else_does(gives_way: bool) -> None:
    found: list[int] = []

    def note() -> None:
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    def work() -> None:
        note()
        inner = threading.Thread(target=note)
        inner.start()
        inner.join()

    note()
    start_thread("x", work, gives_way=gives_way).join()
    note()
    mine, its, its_own_threads, mine_after = found
    assert mine_after == mine
    assert its == its_own_threads == (max(mine, NICENESS) if gives_way else mine)
