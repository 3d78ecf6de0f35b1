"""Five million finished jobs in the tables: does the hot path notice, and what does each leave?

Two stacks run side by side on one server, one on a full database and one on an empty one, and
take turns; the one that rests costs the other the same. The median of the turns' ratios counts.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from tests.bench import finished_jobs
from tests.bench.report import Figure, Goal, told
from tests.bench.rig import Rig, finish, one, rows, submit, warm_up
from tests.support.stack import FullStack, Services
from tests.support.waiting import wait_until

NAME = "finished"
GOAL = Goal(0.9, 0.97, most=False)
FINISHED, COPIED = 5_000_000, 1_000
KEPT = ("jobs", "ends")  # nothing deletes from them
JOBS, ROUNDS = 10_000, 20


def measure(rig: Rig) -> list[Figure]:
    """Fill one, then bursts of work for each in turns."""
    finished, jobs, rounds = (50_000, 2_000, 1) if rig.quick else (FINISHED, JOBS, ROUNDS)
    rates: dict[str, list[float]] = {"empty": [], "full": []}
    with rig.stack() as full, rig.stack() as empty:
        fill_s = _fill(rig, full, finished)
        bytes_each = _bytes_of_tables(full.services) / one(
            full.services, "SELECT count(*) FROM ends"
        )
        stacks = {"empty": empty, "full": full}
        for stack in stacks.values():
            with stack.caller() as caller:
                warm_up(rig, caller)
        before = _tuples(full.services)
        for number in range(rounds):
            for name in list(stacks)[:: 1 if number % 2 else -1]:
                rates[name].append(_rate(rig, stacks[name], jobs))
        changes = _changes(full.services, before, jobs * rounds)
    # Neighbours in time saw the same machine: each pair is compared, not the two medians.
    pairs = zip(rates["full"], rates["empty"], strict=True)
    value = round(statistics.median(full / empty for full, empty in pairs), 3)
    detail: dict[str, Any] = {
        "jobs_per_s": {name: [round(rate) for rate in found] for name, found in rates.items()},
        "finished_jobs": finished,
        "fill_s": round(fill_s),
    }
    dead = {"rows per finished job": changes}
    name = f"jobs/s with {finished:,} finished jobs in the tables ÷ with none"
    (updated,) = [row for row in changes if row[0] == "all"]
    return [
        GOAL.of(NAME, name, value, "×", detail=detail),
        told(NAME, "bytes in the database per finished job", round(bytes_each), "bytes"),
        told(NAME, "dead rows made per finished job", float(updated[-1]), "rows", detail=dead),
    ]


def _fill(rig: Rig, stack: FullStack, finished: int) -> float:
    with stack.caller() as caller:
        finish(caller, submit(caller, rig.bodies(COPIED)))
    done = one(stack.services, "SELECT count(*) FROM ends")
    began = time.perf_counter()
    finished_jobs.multiply(stack.services, finished // done)
    return time.perf_counter() - began


def _rate(rig: Rig, stack: FullStack, jobs: int) -> float:
    bodies = rig.bodies(jobs)
    with stack.caller() as caller:
        began = time.perf_counter()
        groups = submit(caller, bodies)
        finish(caller, groups)
        seconds = time.perf_counter() - began
        rig.check(caller, groups[-1:])
    return jobs / seconds


def _bytes_of_tables(services: Services) -> int:
    query = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relname = ANY(%s)"
    return int(one(services, query, list(finished_jobs.TABLES)))


def _tuples(services: Services) -> dict[str, tuple[int, ...]]:
    """(inserted, updated in place, updated elsewhere, deleted) by table, since ever."""
    query = (
        "SELECT relname, n_tup_ins, n_tup_hot_upd, n_tup_upd - n_tup_hot_upd, n_tup_del"
        " FROM pg_stat_user_tables"
    )
    written = {name: one(services, f"SELECT count(*) FROM {name}") for name in KEPT}

    def told() -> dict[str, tuple[int, ...]]:
        found = {name: tuple(counts) for name, *counts in rows(services, query)}
        return found if all(found[name][0] >= written[name] for name in KEPT) else {}

    # Backends report what they did some time later, at the latest a second after they rest.
    return wait_until(told, 30, what="the database's own statistics")


def _changes(services: Services, before: dict[str, tuple[int, ...]], jobs: int) -> list[list[str]]:
    """What ``jobs`` jobs did to a table, per job; an updated or deleted row leaves a dead one."""
    head = ["table", "inserted", "updated in place", "updated", "deleted", "dead"]
    table: list[list[str]] = []
    total = [0.0] * 5
    for name, counts in sorted(_tuples(services).items()):
        each = [(now - was) / jobs for now, was in zip(counts, before[name], strict=True)]
        each.append(sum(each[1:]))
        total = [sum(pair) for pair in zip(total, each, strict=True)]
        if sum(each) >= 0.01:
            table.append([name, *(f"{value:.2f}" for value in each)])
    return [head, *table, ["all", *(f"{value:.2f}" for value in total)]]
