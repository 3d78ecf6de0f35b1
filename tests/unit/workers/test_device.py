"""The one place that calls the model: counting, mapping, halving."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from storage.clock import SystemClock
from storage.records.errors import ItemError
from storage.records.jobs import ClaimedJob, Verdict
from storage.records.signatures import OutputSpec
from tests.support.numpy_runtime import echo_signature
from workers.inference.answers import answer
from workers.inference.batch import Batch, Work
from workers.inference.device import Device
from workers.inference.ledger import Ledger
from workers.inference.ports import Array


class Model:
    """Whatever ``how`` makes of the batch."""

    version_id = "v"
    signature = echo_signature()
    batch_sizes = (1, 2, 4, 8)

    def __init__(self, how: Any) -> None:
        self.how = how
        self.calls: list[int] = []

    def forward(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.calls.append(len(inputs["x"]))
        return {"y": self.how(inputs["x"])}

    def close(self) -> None:
        pass


class Lease:
    def __init__(self, model: Model) -> None:
        self.model = model


def job(number: int) -> ClaimedJob:
    identifier = f"01890000-0000-7000-8000-{number:012x}"
    return ClaimedJob(identifier, "t", 1, "v", 5, 0, 3, 0, 1, 1, b"")


def run(model: Model, works: list[Work], max_batch: int = 8) -> Batch:
    batch = Batch("01890000-0000-7000-8000-000000000001", Lease(model), works, {})  # type: ignore[arg-type]
    Device(Ledger(None), SystemClock(), max_batch).compute(batch)
    return batch


def single(number: int, value: float) -> Work:
    return Work(job(number), [{"x": np.full(4, float(value))}])


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 9, 20])
def test_every_row_comes_back_under_its_own_name(rows: int) -> None:
    model = Model(lambda x: x + 0)
    batch = run(model, [single(n, n) for n in range(rows)])
    found = answer(batch, retry_back_off_s=1)
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
    ],
    ids=["one too few", "twice as many", "one row's worth", "a scalar"],
)
def test_another_number_of_rows_is_never_handed_out(how: Any) -> None:
    batch = run(Model(how), [single(n, n) for n in range(4)])
    found = answer(batch, retry_back_off_s=1)
    assert not found.results
    assert [one.verdict for one in found.outcomes] == [Verdict.RETRY] * 4
    assert all(one.entered_device for one in found.outcomes)


def test_halving_finds_each_culprit_and_nobody_else() -> None:
    def how(x: Array) -> Array:
        if (x[:, 0] >= 100).any():
            raise ValueError("no")
        return x

    works = [single(n, 100.0 if n in (2, 7) else n) for n in range(8)]
    found = answer(run(Model(how), works), retry_back_off_s=1)
    assert {one.id for one in found.outcomes} == {job(2).id, job(7).id}
    assert len(found.results) == 6


def test_a_culprit_among_items_is_an_error_in_its_place() -> None:
    def how(x: Array) -> Array:
        if (x[:, 0] == 1).any():
            raise ValueError("no")
        return x

    rows: list[Any] = [{"x": np.full(4, float(n))} for n in range(3)]
    rows.append(ItemError("not a tensor", code="wrong_form"))
    found = answer(run(Model(how), [Work(job(0), rows, is_list=True)]), retry_back_off_s=1)
    text = found.results[job(0).id].decode()
    assert text.index("[0.0,") < text.index("model_error") < text.index("[2.0,")
    assert text.index("[2.0,") < text.index("wrong_form")


def test_rows_of_other_shapes_run_apart() -> None:
    model = Model(lambda x: x)
    works = [Work(job(n), [{"x": np.full(3 + n % 2, float(n))}]) for n in range(6)]
    model.signature = replace(model.signature, outputs=(OutputSpec("y", "float64", (None,)),))
    batch = run(model, works)
    assert sorted(len(segment.refs) for segment in batch.segments) == [3, 3]


def test_what_is_on_the_device_is_in_the_ledger_and_only_then() -> None:
    seen: list[list[str]] = []

    class Spy(Ledger):
        def publish(self, session_id: str, job_ids: Any) -> None:
            seen.append(list(job_ids))
            super().publish(session_id, job_ids)

        def clear(self) -> None:
            seen.append([])
            super().clear()

    model = Model(lambda x: x)
    works = [single(n, n) for n in range(3)]
    works.append(Work(job(9), [], refused=ItemError("no")))
    batch = Batch("01890000-0000-7000-8000-000000000001", Lease(model), works, {})  # type: ignore[arg-type]
    Device(Spy(None), SystemClock(), 2).compute(batch)
    assert seen == [[job(0).id, job(1).id], [], [job(2).id], []]
    assert [work.entered_device for work in works] == [True, True, True, False]
