"""The one place that calls the model: counting, mapping, halving, making do with less memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from storage.clock import SystemClock
from storage.queue.lanes import Lane
from storage.records.errors import ItemError
from storage.records.jobs import ClaimedJob, Verdict
from storage.records.signatures import InputSpec, OutputSpec
from tests.support.numpy_runtime import echo_signature
from workers.inference import shapes
from workers.inference.answers import Answers, answer
from workers.inference.batch import Batch, Work
from workers.inference.batching import UNLIMITED, Candidate, Limits, Pick
from workers.inference.credit import Credit
from workers.inference.device import Device
from workers.inference.ledger import Ledger
from workers.inference.meters import Meters
from workers.inference.passes import Passes
from workers.inference.ports import Array, DeviceOutOfMemory, Plan
from workers.inference.ready import Choice, Ready
from workers.inference.waiting import Line

SESSION = "01890000-0000-7000-8000-000000000001"
SIZES = (1, 2, 4, 8)


class Model:
    """Whatever ``how`` makes of the batch."""

    version_id = "v"

    def __init__(self, how: Callable[[Array], Any]) -> None:
        self.how = how
        self.signature = echo_signature()
        self.plan = Plan(SIZES)
        self.calls: list[int] = []

    def forward(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.calls.append(len(inputs["x"]))
        return {"y": self.how(inputs["x"])}

    def close(self) -> None:
        pass


class Lease:
    def __init__(self, model: Model) -> None:
        self.model = model

    def release(self) -> None:
        pass


class Clock(SystemClock):
    """Moved by hand."""

    now_s = 100.0

    def monotonic_s(self) -> float:
        return self.now_s


class Bench:
    """A device with everything it reports to."""

    def __init__(
        self,
        sizes: tuple[int, ...] = SIZES,
        ledger: Ledger | None = None,
        clock: SystemClock | None = None,
    ) -> None:
        clock = clock or SystemClock()
        limits = Limits(sizes, None, 0.05)
        self.ready = Ready(clock, lambda _: limits, Credit(8), lambda: None)
        self.passes = Passes(self.ready, lambda _: limits, clock)
        self.meters = Meters(clock)
        ledger = ledger or Ledger(None)
        self.device = Device(0, ledger, clock, self.ready, self.passes, self.meters)

    def run(self, model: Model, works: list[Work], bucket: int = 8) -> Batch:
        rows = [row for one in works for row in one.rows if not isinstance(row, ItemError)]
        shape = shapes.shape_of(model.signature, rows)
        candidates = tuple(candidate(one) for one in works)
        pick = Pick("v", shape, candidates, bucket, len(rows), 1.0, bulk=False)
        return self.device.compute(Choice(pick=pick, lease=Lease(model)))  # type: ignore[arg-type]


def candidate(one: Work) -> Candidate:
    return Candidate(one.job.id, "t", "v", "", len(one.rows), 1.0, 0, False, 0.0, UNLIMITED, one)


def job(number: int) -> ClaimedJob:
    identifier = f"01890000-0000-7000-8000-{number:012x}"
    return ClaimedJob(identifier, "t", 1, "v", 5, 0, 3, 0, 1, 1, b"")


def work(number: int, rows: list[Any], *, is_list: bool = False) -> Work:
    return Work(job(number), SESSION, Line("v", Lane.NORMAL), 0.0, rows, is_list)


def single(number: int, value: float) -> Work:
    return work(number, [{"x": np.full(4, float(value))}])


def answered(batch: Batch) -> Answers:
    return answer(batch, retry_back_off_s=1)


def run(model: Model, works: list[Work]) -> Answers:
    return answered(Bench().run(model, works))


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 9, 20])
def test_every_row_comes_back_under_its_own_name(rows: int) -> None:
    model = Model(lambda x: x + 0)
    found = run(model, [single(n, n) for n in range(rows)])
    assert len(found.results) == rows and not found.outcomes
    for n in range(rows):
        assert f"[{float(n)}," in found.results[job(n).id].decode()
    assert sum(model.calls) >= rows


@pytest.mark.parametrize(
    "how",
    [
        lambda x: x[:-1],
        lambda x: np.concatenate([x, x]),
        lambda x: x[0],
        lambda x: np.float64(1.0),
        lambda x: x[:, :2],
    ],
    ids=["one too few", "twice as many", "one row's worth", "a scalar", "narrower"],
)
def test_another_number_or_shape_of_rows_is_never_handed_out(how: Any) -> None:
    found = run(Model(how), [single(n, n) for n in range(4)])
    assert not found.results
    assert [one.verdict for one in found.outcomes] == [Verdict.RETRY] * 4
    assert {one.error.code for one in found.outcomes if one.error} == {"wrong_output"}
    assert all(one.entered_device for one in found.outcomes)


def test_a_model_that_changes_its_shape_for_one_row_harms_only_that_row() -> None:
    def how(x: Array) -> Array:
        return x[:, :3] if (x[:, 0] == 5).any() else x

    found = run(Model(how), [single(n, n) for n in range(8)])
    assert [one.id for one in found.outcomes] == [job(5).id]
    assert len(found.results) == 7


def test_halving_finds_each_culprit_and_nobody_else() -> None:
    def how(x: Array) -> Array:
        if (x[:, 0] >= 100).any():
            raise ValueError("no")
        return x

    works = [single(n, 100.0 if n in (2, 7) else n) for n in range(8)]
    found = run(Model(how), works)
    assert {one.id for one in found.outcomes} == {job(2).id, job(7).id}
    assert {one.error.code for one in found.outcomes if one.error} == {"model_error"}
    assert len(found.results) == 6


def test_a_culprit_among_items_is_an_error_in_its_place() -> None:
    def how(x: Array) -> Array:
        if (x[:, 0] == 1).any():
            raise ValueError("no")
        return x

    rows: list[Any] = [{"x": np.full(4, float(n))} for n in range(3)]
    rows.append(ItemError("not a tensor", code="wrong_form"))
    found = run(Model(how), [work(0, rows, is_list=True)])
    text = found.results[job(0).id].decode()
    assert text.index("[0.0,") < text.index("model_error") < text.index("[2.0,")
    assert text.index("[2.0,") < text.index("wrong_form")


@pytest.mark.parametrize("error", [DeviceOutOfMemory("no room"), MemoryError()])
def test_what_does_not_fit_runs_again_in_smaller_passes_and_blames_nobody(
    error: Exception,
) -> None:
    def how(x: Array) -> Array:
        if len(x) > 2:
            raise error
        return x

    bench, model = Bench(), Model(how)
    found = answered(bench.run(model, [single(n, n) for n in range(8)]))
    assert len(found.results) == 8 and not found.outcomes
    assert model.calls == [8, 4, 2, 2, 2, 2]
    assert bench.passes.next_size(model, "", 8) == (2, 2), "the safe size was forgotten"  # type: ignore[arg-type]


def greedy(at: int, most: int = 1 << 20) -> Model:
    """One row is out of memory by itself, and so is a pass of more than ``most``."""

    def how(x: Array) -> Array:
        if (x[:, 0] == at).any() or len(x) > most:
            raise DeviceOutOfMemory("no room")
        return x

    return Model(how)


@pytest.mark.parametrize("sizes", [SIZES, (4, 8), (8,)], ids=str)
def test_a_row_that_does_not_fit_alone_fails_alone_with_a_code_of_its_own(
    sizes: tuple[int, ...],
) -> None:
    bench, model = Bench(sizes), greedy(3)
    found = answered(bench.run(model, [single(n, n) for n in range(8)]))
    assert [(one.id, one.error.code) for one in found.outcomes if one.error] == [
        (job(3).id, "out_of_memory")
    ]
    assert len(found.results) == 7
    assert bench.passes.next_size(model, "", 8) == (8, 8), "one row made all later passes small"  # type: ignore[arg-type]


def test_a_lone_row_that_does_not_fit_teaches_nothing_about_sizes() -> None:
    bench, model = Bench(), greedy(0)
    found = answered(bench.run(model, [single(0, 0)], bucket=1))
    assert [one.error.code for one in found.outcomes if one.error] == ["out_of_memory"]
    assert bench.passes.next_size(model, "", 8) == (8, 8)  # type: ignore[arg-type]


def test_a_greedy_row_does_not_hide_what_was_learned_of_sizes() -> None:
    bench, model = Bench(), greedy(100, most=4)
    bench.run(model, [single(n, n) for n in range(8)])
    found = answered(bench.run(model, [single(n, n) for n in (100, 1, 2, 3)], bucket=4))
    assert len(found.results) == 3
    assert bench.passes.next_size(model, "", 8) == (4, 4)  # type: ignore[arg-type]


def any_length() -> Model:
    """One input of any length, answered with itself."""
    model = Model(lambda x: x)
    inputs = (InputSpec("x", "float64", (None,)),)
    outputs = (OutputSpec("y", "float64", (None,)),)
    model.signature = replace(model.signature, inputs=inputs, outputs=outputs)
    return model


def test_items_of_other_shapes_run_apart_and_stay_one_answer() -> None:
    rows = [{"x": np.full(3 + n % 2, float(n))} for n in range(6)]
    batch = Bench().run(any_length(), [work(0, list(rows), is_list=True)])
    assert sorted(len(segment.refs) for segment in batch.segments) == [3, 3]
    text = answered(batch).results[job(0).id].decode()
    assert [text.index(f"[{n}.0,") for n in range(6)] == sorted(
        text.index(f"[{n}.0,") for n in range(6)
    )


def test_what_is_on_the_device_is_in_the_ledger_and_only_then() -> None:
    seen: list[list[str]] = []

    class Spy(Ledger):
        def publish(self, slot: int, session_id: str, job_ids: Any) -> None:
            seen.append(list(job_ids))
            super().publish(slot, session_id, job_ids)

        def clear(self, slot: int) -> None:
            seen.append([])
            super().clear(slot)

    works = [single(n, n) for n in range(3)]
    Bench((1, 2), Spy(None)).run(Model(lambda x: x), works, bucket=2)
    assert seen == [[job(0).id, job(1).id], [], [job(2).id], []]
    assert all(one.entered_device for one in works)


def test_a_job_of_a_lost_session_is_not_blamed_under_another() -> None:
    seen: list[tuple[str, list[str]]] = []

    class Spy(Ledger):
        def publish(self, slot: int, session_id: str, job_ids: Any) -> None:
            seen.append((session_id, list(job_ids)))

    works = [single(n, n) for n in range(3)]
    works[0].session_id = "01890000-0000-7000-8000-00000000000f"
    Bench(ledger=Spy(None)).run(Model(lambda x: x), works)
    assert seen == [(SESSION, [job(1).id, job(2).id])]


def told_late(clock: Clock, deadlines_ms: Sequence[int], took_s: float) -> float:
    """How late a pass is said to be after so long, of jobs claimed when it began."""
    bench = Bench(clock=clock)
    late: list[float] = []

    def how(x: Array) -> Array:
        clock.now_s += took_s
        late.append(bench.passes.late_s())
        return x

    works = [single(n, n) for n in range(len(deadlines_ms))]
    for one, deadline_ms in zip(works, deadlines_ms, strict=True):
        one.claimed_s = clock.now_s
        one.job = replace(one.job, claimed_at=1, run_deadline_at=1 + deadline_ms)
    bench.run(Model(how), works)
    assert not bench.passes.busy()
    assert bench.passes.late_s() == 0
    return late[0]


def test_a_pass_is_late_once_the_last_of_its_jobs_is() -> None:
    assert told_late(Clock(), [1_000, 3_000], 5.0) == pytest.approx(2.0)
    assert told_late(Clock(), [1_000, 30_000], 5.0) <= 0


def test_a_pass_that_began_late_is_late_only_for_what_it_takes() -> None:
    assert told_late(Clock(), [-60_000], 5.0) == pytest.approx(5.0)
