"""Blocks of a bulk job's rows on the device: joined, cut, halved, blamed and answered by range."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.queue.lanes import Lane
from tests.unit.workers.test_device import SESSION, Bench, Lease, Model, job
from workers.inference.batch import Answered, Batch, Block, Work, deliver
from workers.inference.batching import BLOCKS, Candidate, Pick
from workers.inference.ledger import Ledger, read
from workers.inference.ports import DeviceOutOfMemory
from workers.inference.ready import Choice
from workers.inference.spans import RowRef, Spans
from workers.inference.waiting import Line

PARTS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 50), st.integers(1, 20)).map(
        lambda one: (one[0], one[1], one[1] + one[2])
    ),
    min_size=1,
    max_size=6,
)


class Sent:
    """A block and what came back for it."""

    def __init__(self, number: int, values: list[float], first_position: int = 100) -> None:
        self.answers: list[Answered | None] = []
        x = np.repeat(np.array(values, dtype=np.float64)[:, None], 4, axis=1)
        positions = first_position + 10 * np.arange(len(values), dtype=np.int64)
        block = Block(number, positions, {"x": x}, self.answers.append)
        self.work = Work(job(number), SESSION, Line("v", Lane.BULK), 0.0, is_list=True, credit=0)
        self.work.block = block
        self.rows = len(values)

    @property
    def answered(self) -> Answered:
        (one,) = self.answers
        assert one is not None
        return one

    def values(self) -> dict[int, float]:
        """The answer of each row that has one."""
        return {
            row: float(outputs["y"][row - first][0])
            for first, last, outputs in self.answered.outputs
            for row in range(first, last)
        }


def run(bench: Bench, model: Model, sent: list[Sent], bucket: int = 8) -> Batch:
    candidates = tuple(
        Candidate(one.work.job.id, "t", "v", "", one.rows, 1.0, 0, True, 0.0, BLOCKS, one.work)
        for one in sent
    )
    rows = sum(one.rows for one in sent)
    pick = Pick("v", "", candidates, bucket, rows, 1.0, bulk=True)
    batch = bench.device.compute(Choice(pick=pick, lease=Lease(model)))  # type: ignore[arg-type]
    deliver(batch, 3.0)
    return batch


@given(PARTS, st.data())
def test_spans_read_and_cut_like_the_list_of_their_rows(
    parts: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    spans = Spans(parts)
    refs = [RowRef(work, row) for work, first, last in parts for row in range(first, last)]
    assert list(spans) == refs and len(spans) == len(refs)
    start = data.draw(st.integers(0, len(refs)))
    stop = data.draw(st.integers(0, len(refs)))
    assert list(spans[start:stop]) == refs[start:stop]
    index = data.draw(st.integers(0, len(refs) - 1))
    assert spans[index] == refs[index]


def test_every_row_gets_its_own_answer_whatever_shares_its_pass() -> None:
    bench, model = Bench(), Model(lambda x: x * 2)
    sent = [Sent(1, [1, 2, 3]), Sent(2, [4]), Sent(3, [5, 6])]
    run(bench, model, sent)
    assert model.calls == [8]
    assert [one.values() for one in sent] == [{0: 2, 1: 4, 2: 6}, {0: 8}, {0: 10, 1: 12}]
    assert [one.answered.device_s for one in sent] == [pytest.approx(s) for s in (1.5, 0.5, 1.0)]


def test_a_block_larger_than_the_bucket_runs_in_several_passes() -> None:
    bench, model = Bench(), Model(lambda x: x + 1)
    sent = Sent(1, list(range(20)))
    run(bench, model, [sent])
    assert max(model.calls) == 8 and sum(model.calls) >= 20
    assert sent.values() == {row: row + 1 for row in range(20)}


def test_a_row_that_fails_the_pass_fails_alone() -> None:
    def how(x: Any) -> Any:
        if (x == 13).any():
            raise ValueError("thirteen")
        return x

    bench, model = Bench(), Model(how)
    sent = [Sent(1, [1, 2, 13, 3]), Sent(2, [4, 5])]
    run(bench, model, sent)
    assert sent[0].values() == {0: 1, 1: 2, 3: 3} and sent[1].values() == {0: 4, 1: 5}
    assert list(sent[0].answered.faults) == [2] and not sent[1].answered.faults
    assert "thirteen" in sent[0].answered.faults[2].message
    assert sent[0].answered.fault is None


def test_what_does_not_fit_into_memory_runs_in_smaller_passes() -> None:
    def how(x: Any) -> Any:
        if len(x) > 2:
            raise DeviceOutOfMemory("too much")
        return x

    bench, model = Bench(), Model(how)
    sent = Sent(1, list(range(7)))
    run(bench, model, [sent])
    assert sent.values() == {row: row for row in range(7)} and not sent.answered.faults


def test_the_ledger_names_the_positions_that_are_on_the_device(tmp_path: Path) -> None:
    ledger, seen = Ledger(tmp_path / "ledger"), []

    def how(x: Any) -> Any:
        dead = read(tmp_path / "ledger")
        assert dead is not None
        seen.append(
            [(span.number, span.start, span.stop) for one in dead.passes for span in one.spans]
        )
        if len(x) > 2:
            raise ValueError("halve")
        return x

    ledger.session(SESSION)
    run(Bench(ledger=ledger), Model(how), [Sent(7, [1, 2, 3, 4])], bucket=4)
    assert seen == [[(7, 100, 131)], [(7, 100, 111)], [(7, 120, 131)]]
    after = read(tmp_path / "ledger")
    assert after is not None and not after.passes
