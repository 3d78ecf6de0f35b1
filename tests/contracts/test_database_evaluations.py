"""Evaluations are kept with their version, on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from storage.records.errors import Conflict
from storage.records.evaluations import Evaluation
from tests.support.database import ALICE, BOB, new_id, new_version

TOLD = Evaluation(
    job_id="",
    tenant=ALICE,
    version_id="",
    model_name="digits",
    version=1,
    data_digest="d",
    rows=10,
    metrics={"accuracy": 0.5, "auc": None},
    document={
        "task": "classes",
        "labels": ["ä"],
        "data": {"label": "x"},
        "intervals": {"accuracy": [0.25, 0.5]},
        "against": {"job": "j", "model": "digits:1", "rows": 9, "disagreed": 2, "examples": [1]},
    },
    created_at=0,
)


def told(database, version_id, **fields):
    one = replace(TOLD, job_id=new_id(), version_id=version_id, **fields)
    with database.begin() as tx:
        tx.evaluations.record(one)
    return one


def test_what_was_measured_is_found_again_newest_first(database, clock):
    version = new_version(database)
    first = told(database, version)
    clock.pass_ms(1000)
    second = told(database, version, rows=0, metrics={}, document={"against": None})
    told(database, new_version(database))
    with database.read() as tx:
        found = tx.evaluations.of_version(version)
        assert [one.job_id for one in found] == [second.job_id, first.job_id]
        assert found[1] == replace(first, created_at=found[1].created_at)
        assert found[0].created_at - found[1].created_at == 1000
        assert [one.job_id for one in tx.evaluations.of_version(version, 1)] == [second.job_id]
        assert tx.evaluations.of_version("no id") == []
        (empty, brief) = tx.evaluations.measured(version)
        assert replace(brief, document=first.document) == found[1]
        assert brief.document == {
            "task": "classes",
            "data": {"label": "x"},
            "intervals": {"accuracy": [0.25, 0.5]},
            "against": {"job": "j", "group": None, "model": "digits:1", "rows": 9, "disagreed": 2},
        }
        assert empty.document["against"] is None
        assert tx.evaluations.measured("no id") == []


def test_it_is_its_tenants(database):
    one = told(database, new_version(database))
    with database.read() as tx:
        found = tx.evaluations.get(ALICE, one.job_id)
        assert found is not None and found.metrics == one.metrics
        assert tx.evaluations.get(BOB, one.job_id) is None
        assert tx.evaluations.get(ALICE, new_id()) is None


def test_a_job_has_one(database):
    one = told(database, new_version(database))
    with pytest.raises(Conflict), database.begin() as tx:
        tx.evaluations.record(one)
