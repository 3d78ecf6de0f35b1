"""A version's document shows its knobs and what workers measured, to its tenant alone."""

from __future__ import annotations

import pytest

from storage.records.latency import LatencyRow, VersionCost


@pytest.fixture
def measured(house):
    """``vectors`` after some work."""
    with house.database.begin() as tx:
        (version,) = tx.models.versions("default", "vectors")
        tx.latency.save(
            [
                LatencyRow(version.id, "cpu", "", 8, 40, 0.002, 0.003),
                LatencyRow(version.id, "cpu", "", 128, 900, 0.010, 0.011),
            ]
        )
        tx.latency.save_costs([VersionCost(version.id, "cpu", 0.0001, 0.0004, 1.5, 4096, 64)])
    return house


def test_a_version_shows_its_knobs_and_what_was_measured(measured):
    shown = measured.http.get("/v1/models/vectors/versions/1").json()
    assert [(row["bucket"], row["count"]) for row in shown["latency"]] == [(8, 40), (128, 900)]
    assert shown["latency"][1]["mean_s"] == 0.010 and "version_id" not in shown["latency"][1]
    (cost,) = shown["costs"]
    assert (cost["path_s_per_job"], cost["memory_bytes"], cost["safe_rows"]) == (0.0004, 4096, 64)
    assert cost["updated_at"].endswith("Z")
    assert shown["serving"]["max_batch"] == 512
    assert shown["serving"]["latency_objective_ms"] == 25


def test_a_version_that_never_ran_has_empty_lists(house):
    shown = house.http.get("/v1/models/vectors/versions/1").json()
    assert shown["latency"] == shown["costs"] == []


def test_knobs_of_a_later_forebay_do_not_break_the_answer(house):
    with house.database.begin() as tx:
        (version,) = tx.models.versions("default", "vectors")
        tx.models.mark_ready(version.id, {**version.signature, "serving": {"warp": 9}})
    shown = house.http.get("/v1/models/vectors/versions/1")
    assert shown.status_code == 200 and shown.json()["serving"] == {}


def test_another_tenant_sees_none_of_it(measured):
    with measured.client(measured.key_for("rival")) as rival:
        assert rival.get("/v1/models/vectors/versions/1").status_code == 404


def test_the_answer_is_as_documented(measured):
    api = measured.http.get("/openapi.json").json()["components"]["schemas"]["VersionMeasured"]
    shown = measured.http.get("/v1/models/vectors/versions/1").json()
    assert set(api["required"]) == set(shown)
    row = api["properties"]["latency"]["items"]
    assert set(row["required"]) == set(shown["latency"][0])
    cost = api["properties"]["costs"]["items"]
    assert set(cost["required"]) == set(shown["costs"][0])
