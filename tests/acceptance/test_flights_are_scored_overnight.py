"""A file of 336,776 flights with gaps is scored, each row once: embedded, by two workers, and when
one of these is killed half-way. ``python -m tests.show.flights`` is the same for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.show import flights
from tests.show.flights_data import ROWS, NoFlights, find_flights
from tests.show.flights_model import make
from tests.show.flights_runs import Run, embedded, full
from tests.support.fixtures import missing
from tests.support.postgres import Databases
from tests.support.rabbitmq import Vhosts
from tests.support.s3 import Buckets
from tests.support.stack import Services

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Night:
    """All runs over one table, and what their rows had to become."""

    truth: flights.Truth
    runs: list[Run]
    answers: list[flights.Answers]


@dataclass(frozen=True)
class Part:
    """One of the manifest's; its name says the shard and the claim under which it was scored."""

    shard: int
    epoch: int
    start: int
    stop: int
    rows: int

    @classmethod
    def of(cls, told: dict[str, Any]) -> Part:
        _, shard, epoch, _ = told["name"].split("-")
        rows = told["rows"] + told["failed"]
        return cls(int(shard), int(epoch), told["start"], told["stop"], rows)


@pytest.fixture(scope="module")
def night(
    tmp_path_factory: pytest.TempPathFactory, vhosts: Vhosts, databases: Databases, buckets: Buckets
) -> Iterator[Night]:
    try:
        table: Path = find_flights()
    except NoFlights as error:
        missing(f"there are no flights to score: {error}")
    folder = tmp_path_factory.mktemp("flights")
    model = make(table)
    truth = flights.truth_of(table, model)
    runs = embedded(folder / "embedded", table, model)
    runs += full(folder / "full", Services(vhosts, databases, buckets), table, model)
    for run in runs:
        print(flights.line_of(run, truth))
    yield Night(truth, runs, [flights.check(run, truth, model) for run in runs])


def test_every_flight_is_answered_once_and_right(night: Night) -> None:
    """``flights.check`` was passed by each run; this says what it was about."""
    assert len(night.answers) == len(night.runs) == 4
    for answers in night.answers:
        answered = {*answers.ids, *(error["row_id"] for error in answers.errors)}
        assert len(answered) == len(answers.ids) + len(answers.errors) == ROWS


def test_it_does_not_matter_where_they_are_scored_and_who_dies(night: Night) -> None:
    first, *others = night.answers
    for other in others:
        flights.check_alike(first, other)


def test_a_killed_worker_costs_about_a_shard(night: Night) -> None:
    """What it had committed stays; another worker does what was left of the shard it was at."""
    killed = night.runs[-1]
    assert killed.lost, "nothing was under way on the killed worker"
    again, most = flights.rows_again(killed, night.truth)
    parts = [Part.of(one) for one in killed.manifest["parts"]]
    shards = Counter[int]()
    for part in parts:
        shards[part.shard] += part.rows
    # The next one is begun while what was scored of a shard is stored.
    assert 0 < again <= 1.5 * max(shards.values()), (again, most, shards)
    for lost in killed.lost:
        after = [part for part in parts if part.shard == lost.number and part.start >= lost.start]
        assert (after[0].start, after[-1].stop) == (lost.start, lost.stop)
        assert all(part.epoch > 1 for part in after), "it was not claimed again"
