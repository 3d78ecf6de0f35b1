"""The jobs of a group are scored again, by another version, on the parts that serve it."""

from __future__ import annotations

import io
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from storage.records.bulk import BulkInput, BulkOutput, BulkSpec
from storage.records.evaluations import EvaluationSpec
from storage.records.jobs import Job, JobState
from tests.support.bulk_worker import bulk_worker, household, submit_bulk, submit_group
from tests.support.household import Household, new_id
from tests.support.linear_models import LinearRuntime, answers, push
from workers.bulk import replaying

ONE = np.array([[1.0], [2.0], [3.0], [4.0]])
OTHER = ONE * 1.5


@pytest.fixture(params=["embedded", "services"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Household:
    return household(request, tmp_path)


def replay_of(group_id: str) -> BulkSpec:
    evaluation = EvaluationSpec(against=group_id, of_group=group_id)
    return BulkSpec(BulkInput(()), BulkOutput(), max_error_share=0.5, evaluation=evaluation)


def rows_of(house: Household, job: Job) -> list[dict[str, Any]]:
    """What the job's parts hold, in the order of the input."""
    with house.database.read() as tx:
        run, parts = tx.bulk.run(job.id), tx.bulk.parts(job.id)
    assert run is not None and run.plan is not None
    found: list[dict[str, Any]] = []
    for one in sorted(parts, key=lambda one: one.part.start):
        if one.part.key is not None:
            data = house.objects.get(f"{run.plan.base}/{one.part.key}")
            found += pq.read_table(io.BytesIO(data)).to_pylist()
    return found


def test_every_single_input_of_a_group_is_scored_again_in_its_order(
    house: Household, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "JOBS_PER_READ", 7)
    monkeypatch.setattr(replaying, "READ_BYTES", 100)
    one, other = push(house, "line", ONE), push(house, "line", OTHER)
    rows = np.random.default_rng(5).normal(size=(40, 4)).round(3)
    inputs: list[Any] = [{"tensor": row.tolist()} for row in rows]
    inputs[3] = {"items": [inputs[3], inputs[4]]}
    inputs[9] = {"tensor": [1.0]}  # fails, before and after
    group_id, ids = submit_group(house, one, inputs, packed=range(5, 31, 2))
    with bulk_worker(house, tmp_path, LinearRuntime()):
        house.wait_terminal(ids)
        (job,) = house.wait_terminal([submit_bulk(house, other, replay_of(group_id))])
    assert job.state is JobState.SUCCEEDED, job.error
    found = rows_of(house, job)
    scored = [at for at in range(40) if at not in (3, 9)]
    assert [row["custom_id"] for row in found] == [ids[at] for at in scored]
    expected = answers(OTHER, rows[scored], labelled=False).tolist()
    np.testing.assert_allclose([row["prediction"] for row in found], expected, rtol=1e-6)
    assert house.result(job)["failed"] == 1


def fails(house: Household, folder: Path, spec: BulkSpec) -> tuple[str, str]:
    version = push(house, new_id(), OTHER * secrets.randbelow(1 << 20))
    with bulk_worker(house, folder, LinearRuntime()):
        (job,) = house.wait_terminal([submit_bulk(house, version, spec)])
    assert job.state is JobState.FAILED and job.error is not None
    return job.error.code, job.error.message


def test_a_group_that_is_not_over_or_not_ours_is_not_replayed(
    house: Household, tmp_path: Path
) -> None:
    with house.database.begin() as tx:
        tx.tenants.ensure("bob")
    one, inputs = push(house, "line", ONE), [{"tensor": [1, 2, 3, 4]}]
    group_id, _ = submit_group(house, one, inputs, pool="elsewhere")
    code, message = fails(house, tmp_path, replay_of(group_id))
    assert code == "group_not_over" and "1 of the 1 jobs" in message
    theirs, _ = submit_group(house, one, inputs, tenant="bob", pool="elsewhere")
    nobodys = new_id()
    told = {fails(house, tmp_path, replay_of(one)) for one in (theirs, nobodys)}
    assert {(code, text.replace(theirs, "X").replace(nobodys, "X")) for code, text in told} == {
        ("group_not_found", "you have no group 'X'")
    }


def test_a_group_whose_inputs_were_erased_is_not_replayed(house: Household, tmp_path: Path) -> None:
    one = push(house, "line", ONE)
    inputs = [{"tensor": [1, 2, 3, 4]}] * 4
    group_id, ids = submit_group(house, one, inputs, packed=[1, 2])
    with bulk_worker(house, tmp_path, LinearRuntime()):
        house.wait_terminal(ids)
    (pack,) = [key for info in house.objects.list("packs/input/") if (key := info.key)]
    house.objects.delete([pack])
    code, message = fails(house, tmp_path, replay_of(group_id))
    assert code == "input_gone" and "submit them again" in message


def test_a_group_of_lists_alone_says_that_lists_are_not_replayed(
    house: Household, tmp_path: Path
) -> None:
    one = push(house, "line", ONE)
    group_id, ids = submit_group(house, one, [{"items": [{"tensor": [1, 2, 3, 4]}]}] * 2)
    with bulk_worker(house, tmp_path, LinearRuntime()):
        house.wait_terminal(ids)
    code, message = fails(house, tmp_path, replay_of(group_id))
    assert code == "input_empty" and "2 jobs" in message and "lists of items" in message
