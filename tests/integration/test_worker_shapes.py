"""Items of different lengths through the pipeline: padded together, answered each as alone."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.records.jobs import JobState
from storage.records.models import ModelVersion
from storage.records.push_options import parse_push_options
from storage.records.signatures import build_signature
from tests.support.bare_pipeline import offer, running_pipeline
from tests.support.fake_runtime import FakeRuntime, fake_inputs
from tests.support.household import Household


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Household]:
    house = Household.on_sqlite(tmp_path)
    yield house
    house.database.close()


def push(house: Household, model: str, **serving: Any) -> ModelVersion:
    signature = build_signature(fake_inputs(model), parse_push_options({"serving": serving}))
    artifact = json.dumps({"model": model, "serving": serving}).encode()
    return house.push(model, artifact, ready=False, like=signature)


def test_answers_of_padded_items_are_their_own_and_as_long_as_they_are(
    house: Household, tmp_path: Path
) -> None:
    version = push(house, "tags", pad={"tokens": {"sizes": [4, 16]}}, cost="tokens", max_cost=256)
    chance = random.Random(11)
    asked = [
        [chance.randrange(1, 1_000) for _ in range(chance.randrange(1, 17))] for _ in range(300)
    ]
    shapes: set[tuple[int, ...]] = set()
    runtime = FakeRuntime(max_batch=64, before_forward=lambda _, i: shapes.add(i["tokens"].shape))
    with running_pipeline(house, tmp_path, runtime=runtime) as pipeline:
        ids = house.submit([{"tensor": tokens} for tokens in asked], version=version)
        offer(pipeline, ids, version)
        jobs = house.wait_terminal(ids)
    for job, tokens in zip(jobs, asked, strict=True):
        assert house.result(job)["outputs"]["tags"] == [[t, 2 * t] for t in tokens]
    assert {length for _, length in shapes} == {4, 16}
    assert max(rows * length for rows, length in shapes) <= 256


def test_a_list_of_mixed_lengths_is_answered_in_its_order(house: Household, tmp_path: Path) -> None:
    version = push(house, "masked", pad={"tokens": {"sizes": [2, 8], "mask": "mask"}})
    lists = [[1, 2], [6], [1, 2, 3, 4, 5], [], list(range(9)), [4, 4, 4]]
    with running_pipeline(house, tmp_path, runtime=FakeRuntime()) as pipeline:
        ids = house.submit(
            [{"items": [{"tensor": tokens} for tokens in lists]}, {"tensor": list(range(9))}],
            version=version,
        )
        offer(pipeline, ids, version)
        listed, lone = house.wait_terminal(ids)
    items = house.result(listed)["items"]
    assert [items[n]["outputs"]["mean"] for n in (0, 1, 2, 5)] == [[1.5], [6], [3], [4]]
    assert items[3]["error"]["code"] == "non_finite_output", "nothing has no mean"
    assert items[4]["error"]["code"] == "too_long"
    assert lone.state is JobState.FAILED
    assert lone.error is not None and lone.error.code == "too_long"
    assert lone.attempts == 0


def test_a_version_that_minds_its_declared_padding_fails_its_jobs_with_the_reason(
    house: Household, tmp_path: Path
) -> None:
    version = push(house, "careless", pad={"tokens": {"sizes": [4, 16]}})
    with running_pipeline(house, tmp_path, runtime=FakeRuntime()) as pipeline:
        ids = house.submit([{"tensor": [1, 2]}], version=version)
        offer(pipeline, ids, version)
        (job,) = house.wait_terminal(ids)
    assert job.error is not None and job.error.code == "padding_changes_answers"
