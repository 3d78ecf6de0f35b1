"""A canary and a shadow over the API: who goes where, what is told, what is refused."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest

from storage.records.jobs import JobError
from storage.records.trials import ArmSeen, Progress
from tests.integration.api.test_promotion import HERE, versions  # noqa: F401
from tests.support.api import ApiHouse

TRIALS = f"{HERE}/trials"
MANY, SHARE = 20_000, 0.1


def start(house: ApiHouse, **fields: Any) -> Any:
    return house.http.post(TRIALS, json={"version": 2, "kind": "canary", **fields})


def running(house: ApiHouse, **fields: Any) -> dict[str, Any]:
    answer = start(house, **fields)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def shown(house: ApiHouse, trial: dict[str, Any]) -> dict[str, Any]:
    return dict(house.http.get(f"{TRIALS}/{trial['id']}").json())


def submit_20_000(house: ApiHouse) -> Counter[str]:
    """How many jobs went to which version."""
    counts: Counter[str] = Counter()
    for _ in range(MANY // 10_000):
        jobs = [{"model": "vectors@prod", "input": {"tensor": [1, 2, 3, 4]}}] * 10_000
        answer = house.http.post("/v1/jobs/many", json={"jobs": jobs})
        assert answer.status_code == 202, answer.text
        group = answer.json()["group"]
        after = ""
        while after is not None:
            params = {"group": group, "limit": "1000", **({"after": after} if after else {})}
            page = house.http.get("/v1/jobs", params=params).json()
            counts.update(job["model"] for job in page["data"])
            after = page["next"]
    return counts


@pytest.mark.usefixtures("versions")
def test_the_share_of_20_000_submissions_is_within_the_binomial_interval(house: ApiHouse) -> None:
    """Of a trial of its own each: one in a hundred is outside, so one of two may be."""
    off = []
    for _ in range(2):
        trial = running(house, share=SHARE)
        counts = submit_20_000(house)
        assert counts.total() == MANY and set(counts) == {"vectors:1", "vectors:2"}
        spread = math.sqrt(MANY * SHARE * (1 - SHARE))
        off.append(abs(counts["vectors:2"] - MANY * SHARE) / spread)
        if off[-1] <= 2.5758:  # 99 %
            return
        house.http.post(f"{TRIALS}/{trial['id']}/stop")
    raise AssertionError(f"{off} standard deviations off, twice")


@pytest.mark.usefixtures("versions")
def test_a_job_records_the_version_it_was_given_and_what_is_repeated_is_the_same(
    house: ApiHouse,
) -> None:
    running(house, share=1)
    body = {"model": "vectors@prod", "input": {"tensor": [1, 2, 3, 4]}}
    first = house.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"}).json()
    again = house.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"}).json()
    assert (first["model"], again["id"]) == ("vectors:2", first["id"])
    items = {"model": "vectors@prod", "input": {"items": [body["input"]] * 2}}
    assert house.http.post("/v1/jobs", json=items).json()["model"] == "vectors:2"
    # Whoever names a version gets it, and what is no inference takes no part.
    assert house.submit(model="vectors:1")["model"] == "vectors:1"
    assert house.submit(model="vectors")["model"] == "vectors:3"


@pytest.mark.usefixtures("versions")
def test_a_shadow_answers_nobody(house: ApiHouse) -> None:
    running(house, kind="shadow", share=1)
    assert house.submit(model="vectors@prod")["model"] == "vectors:1"


def test_what_was_seen_is_told_and_it_can_be_stopped(
    house: ApiHouse,
    versions: dict[int, str],  # noqa: F811
) -> None:
    trial = running(house, share=1, limits={"latency_ms": 3, "disagreement": 0.1})
    assert (trial["base"], trial["candidate"], trial["started_by"]) == (1, 2, "loopback")
    assert trial["limits"] == {
        "error_share": 0.05,
        "latency_ratio": None,
        "latency_ms": 3,
        "disagreement": 0.1,
        "min_jobs": 50,
        "tolerance": 0.001,
    }
    jobs = [house.submit(model="vectors@prod")["id"] for _ in range(2)]
    with house.database.begin() as tx:
        seen = {"candidate": ArmSeen(4, 1, 2.0), "base": ArmSeen()}
        tx.trials.note(trial["id"], seen, Progress(), compared=4, disagreed=1)
    told = shown(house, trial)
    assert told["seen"]["candidate"] == {"jobs": 4, "failed": 1, "p95_ms": 2.0, "error_share": 0.25}
    assert (told["compared"], told["disagreement"]) == (4, 0.25)
    stopped = house.http.post(f"{TRIALS}/{trial['id']}/stop").json()
    assert (stopped["state"], stopped["reason"]) == ("stopped", "stopped by loopback")
    assert stopped["repointed"] == 2
    assert {house.http.get(f"/v1/jobs/{one}").json()["model"] for one in jobs} == {"vectors:1"}
    assert house.http.post(f"{TRIALS}/{trial['id']}/stop").json() == stopped
    assert house.submit(model="vectors@prod")["model"] == "vectors:1"
    assert [one["id"] for one in house.http.get(TRIALS).json()["data"]] == [trial["id"]]
    other = house.http.get("/v1/models/vectors/aliases/other/trials").json()
    assert other == {"data": []}


@pytest.mark.usefixtures("versions")
def test_to_promote_the_candidate_ends_its_trial(house: ApiHouse) -> None:
    trial = running(house, share=1)
    job = house.submit(model="vectors@prod")["id"]
    assert house.http.put(HERE, json={"version": 1}).status_code == 200  # where it stands
    assert shown(house, trial)["state"] == "running"
    assert house.http.post(f"{HERE}/promote", json={"version": 2}).status_code == 200
    assert shown(house, trial)["state"] == "promoted"
    assert house.http.get(f"/v1/jobs/{job}").json()["model"] == "vectors:2"
    second = running(house, version=3, share=1)
    late = house.submit(model="vectors@prod")["id"]
    assert house.http.post(f"{HERE}/rollback").status_code == 200
    assert shown(house, second)["reason"] == "'prod' was moved to version 1"
    assert house.http.get(f"/v1/jobs/{late}").json()["model"] == "vectors:2"


@pytest.mark.usefixtures("versions")
@pytest.mark.parametrize(
    ("fields", "status", "code", "field"),
    [
        ({"version": 1}, 409, "same_version", "version"),
        ({"version": 9}, 404, "version_not_found", "model"),
        ({"version": 4}, 409, "version_not_ready", "version"),
        ({"version": 5}, 409, "signature_differs", "version"),
        ({"version": 6}, 409, "version_broken", "version"),
        ({"share": 0}, 400, "out_of_range", "share"),
        ({"share": 1.5}, 400, "out_of_range", "share"),
        ({"kind": "bluegreen"}, 400, "invalid_value", "kind"),
        ({"limits": {"error_share": 2}}, 400, "out_of_range", "limits.error_share"),
        ({"limits": {"errors": 2}}, 400, "unknown_field", "limits.errors"),
        ({"limits": {"min_jobs": 0}}, 400, "out_of_range", "limits.min_jobs"),
        (
            {"kind": "shadow", "limits": {"latency_ms": 5}},
            400,
            "invalid_value",
            "limits.latency_ms",
        ),
        (
            {"share": 1, "limits": {"latency_ratio": 2}},
            400,
            "invalid_value",
            "limits.latency_ratio",
        ),
    ],
)
def test_what_cannot_be_tried_is_refused(
    house: ApiHouse, fields: dict[str, Any], status: int, code: str, field: str
) -> None:
    for number in (4, 5, 6):
        house.push(labels=[f"a{number}", "b"])
    with house.database.begin() as tx:
        six, five, *_ = tx.models.versions("default", "vectors")
        assert tx.models.mark_ready(five.id, dict(five.signature))
        assert tx.models.mark_broken(six.id, "no")
    problem = start(house, **fields).json()
    assert (problem["status"], problem["code"], problem["field"]) == (status, code, field)
    assert house.http.get(TRIALS).json() == {"data": []}


@pytest.mark.usefixtures("versions")
def test_there_is_one_trial_to_an_alias_and_none_without_one(house: ApiHouse) -> None:
    running(house)
    assert start(house, version=3).json()["code"] == "trial_running"
    missing = house.http.post(
        "/v1/models/vectors/aliases/nobody/trials", json={"version": 2, "kind": "canary"}
    )
    assert (missing.status_code, missing.json()["code"]) == (404, "alias_not_found")
    unknown = house.http.get(f"{TRIALS}/01890000-0000-7000-8000-000000000000")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "trial_not_found")


def test_jobs_of_a_candidate_that_breaks_are_answered_by_the_other(
    house: ApiHouse,
    versions: dict[int, str],  # noqa: F811
) -> None:
    running(house, share=1)
    job = house.submit(model="vectors@prod")["id"]
    with house.database.begin() as tx:
        tx.models.mark_broken(versions[2], "it kills its workers", even_ready=True)
        tx.trials.give_up(versions[2], "it cannot be served")
        tx.jobs.fail_version(versions[2], JobError("model_broken", "no"))
    found = house.http.get(f"/v1/jobs/{job}").json()
    assert (found["model"], found["state"]) == ("vectors:1", "queued")
