"""What workers measured of versions: kept by version, kind of device, shape and size."""

from __future__ import annotations

import math
from dataclasses import replace

from storage.database import latency
from storage.records.latency import LatencyRow, VersionCost
from tests.support.database import START_MS, new_id


def row(version_id: str, **fields) -> LatencyRow:
    plain = LatencyRow(version_id, "cpu", "", 8, 20, 0.004, 0.006, START_MS)
    return replace(plain, **fields)


def cost(version_id: str, **fields) -> VersionCost:
    plain = VersionCost(version_id, "cpu", 0.001, 0.002, 3.5, 1 << 40, None, START_MS)
    return replace(plain, **fields)


def test_passes_are_read_back_by_version_in_the_order_of_their_buckets(database):
    mine, other = new_id(), new_id()
    rows = [
        row(mine, bucket=64),
        row(mine, bucket=8),
        row(mine, shape="32,ключ"),
        row(mine, device="NVIDIA H200"),
    ]
    with database.begin() as tx:
        tx.latency.save([*rows, row(other)])
        tx.latency.save([])
    with database.read() as tx:
        assert tx.latency.of_version(mine) == [rows[3], rows[1], rows[0], rows[2]]
        assert tx.latency.of_version(other) == [row(other)]
        assert tx.latency.of_version(new_id()) == tx.latency.of_version("no id") == []


def test_what_was_known_of_a_bucket_is_replaced(database, clock):
    version = new_id()
    with database.begin() as tx:
        tx.latency.save([row(version), row(version, bucket=16)])
    clock.pass_ms(5)
    with database.begin() as tx:
        tx.latency.save([row(version, count=1), row(version, count=21, mean_s=0.005)])
    with database.read() as tx:
        assert tx.latency.of_version(version) == [
            row(version, count=21, mean_s=0.005, updated_at=START_MS + 5),
            row(version, bucket=16),
        ]


def test_costs_are_kept_by_version_and_kind_of_device(database, clock):
    mine, other = sorted([new_id(), new_id()])
    with database.begin() as tx:
        tx.latency.save_costs([cost(mine), cost(mine, device="gpu"), cost(other, safe_rows=64)])
        tx.latency.save_costs([])
    clock.pass_ms(5)
    with database.begin() as tx:
        tx.latency.save_costs([cost(mine, safe_rows=32)])
    with database.read() as tx:
        assert tx.latency.costs([other, mine, new_id(), "no id"]) == [
            cost(mine, safe_rows=32, updated_at=START_MS + 5),
            cost(mine, device="gpu"),
            cost(other, safe_rows=64),
        ]
        assert tx.latency.costs([]) == []


def test_what_is_no_finite_number_is_left_out_and_the_rest_is_kept(database):
    version = new_id()
    with database.begin() as tx:
        tx.latency.save([row(version, p95_s=math.inf), row(version, bucket=2)])
        tx.latency.save_costs([cost(version, load_s=math.nan), cost(version, device="gpu")])
    with database.read() as tx:
        assert tx.latency.of_version(version) == [row(version, bucket=2)]
        assert tx.latency.costs([version]) == [cost(version, device="gpu")]


def test_of_a_version_without_end_of_shapes_the_latest_are_kept(database, clock, monkeypatch):
    monkeypatch.setattr(latency, "MOST_KEPT", 3)
    mine, other = new_id(), new_id()
    with database.begin() as tx:
        tx.latency.save([row(other, shape=str(n)) for n in range(3)])
    for n in range(6):
        clock.pass_ms(1)
        with database.begin() as tx:
            tx.latency.save([row(mine, shape=str(n)), row(mine, device="gpu", shape=str(n))])
    with database.read() as tx:
        kept = tx.latency.of_version(mine)
        assert [(one.device, one.shape) for one in kept] == [
            (device, shape) for device in ("cpu", "gpu") for shape in "345"
        ]
        assert len(tx.latency.of_version(other)) == 3
