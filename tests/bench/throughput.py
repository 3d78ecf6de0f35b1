"""Durable jobs per second, as multiples of Celery on the same machine.

Three ways to feed Forebay and Celery meet in interleaved rounds: 1,000 jobs a request and one
request a job, against plain Celery (one task, one put and two updates per item) and against Celery
with batches formed by hand. A machine that others share is not equally fast from minute to minute,
so each round is compared in itself with the variant of Celery that is best over all of them, and
the median of the rounds counts. Forebay's submits always count.
Plain Celery is fed beforehand; the coalesced one is measured both ways, as its submits are no
longer small beside the rest.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from tests.bench import one_by_one
from tests.bench.baselines import run as baseline
from tests.bench.report import Figure, Goal, told
from tests.bench.rig import Rig, finish, rows, submit, warm_up
from tests.support.stack import FullStack

MANY, COALESCED, ONE = "throughput", "coalesced", "one-by-one"
NAMES = (MANY, COALESCED, ONE)
GOALS = {MANY: Goal(15, 25, most=False), COALESCED: Goal(2, 4, most=False)}
ONE_GOAL = Goal(4, 6, most=False)
JOBS, SINGLE_JOBS, ROUNDS = 30_000, 6_000, 3
PLAIN_ITEMS, PLAIN_WARM_UP = 1_500, 300
COALESCED_ITEMS, COALESCED_WARM_UP = 10_000, 2_000


@dataclass
class Rates:
    """What each way achieved, round by round, in jobs per second."""

    forebay: list[float] = field(default_factory=list)
    longest_gap_s: list[float] = field(default_factory=list)
    singles: list[one_by_one.Singles] = field(default_factory=list)
    plain: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    fed: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    submitting: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    stalls: list[str] = field(default_factory=list)  # of Celery's runs that were made again


def measure(rig: Rig, chosen: Collection[str]) -> list[Figure]:
    """Rounds of everything that the chosen figures need."""
    rates = Rates()
    for number in range(1 if rig.quick else ROUNDS):
        _forebay(rig, rates, chosen)
        if {MANY, ONE} & set(chosen):
            _plain(rig, rates)
        if COALESCED in chosen:
            _coalesced(rig, rates)
        print(f"round {number + 1}: {_latest(rates)}", flush=True)
    figures: list[Figure] = []
    if MANY in chosen:
        figures += _many_figures(rates)
    if COALESCED in chosen:
        figures += _coalesced_figures(rates)
    if ONE in chosen:
        figures += _single_figures(rates)
    return figures


def _many_figures(rates: Rates) -> list[Figure]:
    best, theirs = _best(rates.plain)
    name = "durable jobs/s ÷ best plain Celery"
    detail = {
        "forebay_jobs_per_s": _round(rates.forebay),
        "celery_items_per_s": {name: _round(found) for name, found in rates.plain.items()},
        "best": best,
        "longest_gap_s": rates.longest_gap_s,
        "celery_stalls": rates.stalls,
    }
    value = _times(rates.forebay, theirs)
    return [
        GOALS[MANY].of(MANY, name, value, "×", **_against(best), detail=detail),
        told(MANY, "durable jobs/s", round(statistics.median(rates.forebay)), "jobs/s"),
    ]


def _coalesced_figures(rates: Rates) -> list[Figure]:
    figures = []
    for name, found in (
        ("durable jobs/s ÷ Celery coalesced by hand", rates.submitting),
        ("durable jobs/s ÷ Celery coalesced by hand and fed beforehand", rates.fed),
    ):
        best, theirs = _best(found)
        detail = {
            "forebay_jobs_per_s": _round(rates.forebay),
            "celery_items_per_s": {name: _round(rates) for name, rates in found.items()},
            "best": best,
        }
        value = _times(rates.forebay, theirs)
        figures.append(
            GOALS[COALESCED].of(COALESCED, name, value, "×", **_against(best), detail=detail)
        )
    return figures


def _single_figures(rates: Rates) -> list[Figure]:
    best, theirs = _best(rates.plain)
    ours = [one.jobs_per_s for one in rates.singles]
    detail = {
        "forebay_jobs_per_s": _round(ours),
        "accepted_per_s": _round([one.accepted_per_s for one in rates.singles]),
        "answer_p50_ms": [one.p50_ms for one in rates.singles],
        "answer_p99_ms": [one.p99_ms for one in rates.singles],
        "celery_items_per_s": {name: _round(found) for name, found in rates.plain.items()},
        "best": best,
    }
    name = f"one request per job, {one_by_one.CLIENTS} clients ÷ best plain Celery"
    return [
        ONE_GOAL.of(ONE, name, _times(ours, theirs), "×", **_against(best), detail=detail),
        told(ONE, "durable jobs/s, one request per job", round(statistics.median(ours)), "jobs/s"),
    ]


def _forebay(rig: Rig, rates: Rates, chosen: Collection[str]) -> None:
    with rig.stack() as stack:
        with stack.caller() as caller:
            warm_up(rig, caller)
        if {MANY, COALESCED} & set(chosen):
            _many(rig, stack, rates)
        if ONE in chosen:
            rates.singles.append(one_by_one.run(rig, stack, 600 if rig.quick else SINGLE_JOBS))


def _many(rig: Rig, stack: FullStack, rates: Rates) -> None:
    """From the first request to the last job seen done by a caller, 1,000 jobs a request; and
    the longest time in which none was finished, which tells a stall from a slow machine."""
    jobs = 3_000 if rig.quick else JOBS
    bodies = rig.bodies(jobs)
    with stack.caller() as caller:
        began = time.perf_counter()
        groups = submit(caller, bodies)
        finish(caller, groups)
        rates.forebay.append(jobs / (time.perf_counter() - began))
        rig.check(caller, groups)
    ((gap_ms,),) = rows(
        stack.services,
        "SELECT max(gap) FROM (SELECT finished_at - lag(finished_at)"
        " OVER (ORDER BY finished_at) AS gap FROM ends WHERE group_id = ANY(%s::uuid[])) AS g",
        groups,
    )
    rates.longest_gap_s.append(round(int(gap_ms or 0) / 1_000, 3))


def _plain(rig: Rig, rates: Rates) -> None:
    items, first = (200, 40) if rig.quick else (PLAIN_ITEMS, PLAIN_WARM_UP)
    for variant in baseline.PLAIN[-1:] if rig.quick else baseline.PLAIN:
        rate = _celery(rig, rates, baseline.measure, variant, items, first)
        rates.plain[variant.name].append(rate)


def _coalesced(rig: Rig, rates: Rates) -> None:
    items, first = (2_000, 500) if rig.quick else (COALESCED_ITEMS, COALESCED_WARM_UP)
    for variant in baseline.COALESCED[-1:] if rig.quick else baseline.COALESCED:
        rate = _celery(rig, rates, baseline.measure, variant, items, first)
        rates.fed[variant.name].append(rate)
        rate = _celery(rig, rates, baseline.measure_with_submits, variant, items, first)
        rates.submitting[variant.name].append(rate)


def _celery(
    rig: Rig,
    rates: Rates,
    way: Callable[..., baseline.Rate],
    variant: baseline.Variant,
    items: int,
    first: int,
) -> float:
    log = rig.folder / f"{variant.name}.log"

    def run() -> baseline.Rate:
        return way(_services(rig), rig.digits, variant, items=items, warm_up=first, log=log)

    return baseline.until_it_ends(variant, run, rates.stalls).items_per_s


def _services(rig: Rig) -> baseline.Services:
    made = rig.servers.services()
    return baseline.Services(
        made.database_url, made.broker_url, made.objects_url, made.environment()
    )


def _best(found: dict[str, list[float]]) -> tuple[str, list[float]]:
    """The variant with the best median, and its rates."""
    return max(found.items(), key=lambda one: statistics.median(one[1]))


def _times(ours: list[float], theirs: list[float]) -> float:
    """How many times as fast, in the median round."""
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 2)


def _against(name: str) -> dict[str, Any]:
    (variant,) = [one for one in (*baseline.PLAIN, *baseline.COALESCED) if one.name == name]
    return {"baseline_command": variant.command}


def _latest(rates: Rates) -> str:
    last = {
        "forebay": rates.forebay[-1:],
        "one by one": [one.jobs_per_s for one in rates.singles[-1:]],
        **{name: found[-1:] for name, found in rates.plain.items()},
        **{f"{name}, fed": found[-1:] for name, found in rates.fed.items()},
        **{f"{name}, submitting": found[-1:] for name, found in rates.submitting.items()},
    }
    return ", ".join(f"{name} {found[0]:,.0f}/s" for name, found in last.items() if found)


def _round(rates: list[float]) -> list[int]:
    return [round(rate) for rate in rates]
