"""Rows of packs that are there before anybody waits for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage.clock import SystemClock
from storage.records.errors import DatabaseUnavailable
from storage.records.packs import PackState
from tests.support.household import Household
from tests.support.waiting import wait_until
from workers.inference.pack_stock import KEPT_S, MOST, PackStock


class Clock(SystemClock):
    """Moved by hand."""

    ahead_s = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_s


class Spy:
    """Counts transactions; can be switched off."""

    def __init__(self, house: Household) -> None:
        self._real = house.database
        self.begun = 0
        self.down = False

    def begin(self, **options: Any) -> Any:
        self.begun += 1
        if self.down:
            raise DatabaseUnavailable("switched off")
        return self._real.begin(**options)


@pytest.fixture
def house(tmp_path: Path) -> Household:
    return Household.on_sqlite(tmp_path)


def stock_of(house: Household, clock: Clock | None = None) -> tuple[PackStock, Spy]:
    spy = Spy(house)
    return PackStock(spy, clock or Clock(), retention_days=30), spy  # type: ignore[arg-type]


def running(stock: PackStock) -> Callable[[], None]:
    stop = threading.Event()
    thread = threading.Thread(target=stock.run, args=(stop,), daemon=True)
    thread.start()

    def end() -> None:
        stop.set()
        stock.wake()
        thread.join(10)
        assert not thread.is_alive()

    return end


def on_shelf(stock: PackStock, tenant: str = "default") -> int:
    with stock._changed:
        return len(stock._shelf(tenant).packs)


def test_a_pack_that_nobody_foresaw_is_opened_on_the_spot(house: Household) -> None:
    stock, _ = stock_of(house)
    pack = stock.take("default")
    with house.database.read() as tx:
        row = tx.packs.get(pack.id)
    assert row is not None
    assert (row.state, row.tenant, row.key) == (PackState.WRITING, "default", pack.key)


def test_what_was_foreseen_is_taken_without_a_transaction(house: Household) -> None:
    stock, spy = stock_of(house)
    end = running(stock)
    stock.foresee(["default"])
    wait_until(lambda: on_shelf(stock) == 1, what="the row")
    begun = spy.begun
    pack = stock.take("default")
    assert spy.begun == begun
    with house.database.read() as tx:
        assert tx.packs.get(pack.id) is not None
    end()


def test_no_pack_is_given_twice_and_every_row_is_there_in_time(house: Household) -> None:
    stock, _ = stock_of(house)
    end = running(stock)
    taken = [stock.take("default").id for _ in range(40)]
    end()
    assert len(set(taken)) == 40
    with house.database.read() as tx:
        assert all(tx.packs.get(one) is not None for one in taken)


def test_a_busy_tenant_gets_several_rows_at_once_and_never_many(house: Household) -> None:
    stock, spy = stock_of(house)
    end = running(stock)
    for _ in range(12):
        stock.foresee(["default"])
        stock.take("default")
        wait_until(lambda: on_shelf(stock) > 0, what="the shelf to be filled")
        assert on_shelf(stock) <= MOST
    end()
    assert spy.begun < 12


def test_old_rows_are_left_to_the_collector(house: Household) -> None:
    clock = Clock()
    stock, _ = stock_of(house, clock)
    end = running(stock)
    stock.foresee(["default"])
    wait_until(lambda: on_shelf(stock) == 1, what="the row")
    clock.ahead_s = KEPT_S + 1
    assert on_shelf(stock) == 0
    end()


def test_while_the_database_is_down_whoever_needs_a_pack_is_told(house: Household) -> None:
    stock, spy = stock_of(house)
    end = running(stock)
    spy.down = True
    stock.foresee(["default"])
    with pytest.raises(DatabaseUnavailable):
        stock.take("default", patience_s=0.01)
    spy.down = False
    assert stock.take("default").tenant == "default"
    end()
