"""An alias moves when its gate holds, says what it saw, and goes back; nothing moves otherwise."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from storage.records.evaluations import Evaluation
from storage.records.signatures import OutputSpec, Signature
from storage.records.training_runs import TrainedVersion
from tests.support.api import ApiHouse, new_id

HERE = "/v1/models/vectors/aliases/prod"
GATE = "accuracy >= 0.9 and recall >= @prod.recall - 0.005"


@pytest.fixture
def versions(house: ApiHouse) -> dict[int, str]:
    """Three ready versions of ``vectors`` by their ids, alike to callers; ``prod`` is the first."""
    for labels in (["a", "b"], ["c", "d"]):
        house.push(labels=labels)
    with house.database.begin() as tx:
        found = tx.models.versions("default", "vectors")
        loaded = Signature.from_json(found[-1].signature)
        loaded = replace(loaded, outputs=(OutputSpec("d", "float32", (2,)),))
        for one in found:
            assert tx.models.mark_ready(one.id, loaded.to_json())
    assert house.http.put(HERE, json={"version": 1}).status_code == 200
    return {one.version: one.id for one in found}


def measure(
    house: ApiHouse, version_id: str, version: int, digest: str = "d", **metrics: float | None
) -> str:
    """As an evaluation does at its end."""
    job = new_id()
    with house.database.begin() as tx:
        tx.evaluations.record(
            Evaluation(job, "default", version_id, "vectors", version, digest, 10, metrics, {}, 0)
        )
    return job


def ask(house: ApiHouse, what: str = "promote", **body: Any) -> Any:
    return house.http.post(f"{HERE}/{what}", json=body)


def stands(house: ApiHouse) -> int:
    return int(house.http.get("/v1/models/vectors").json()["aliases"]["prod"])


def test_it_moves_when_the_gate_holds_and_keeps_what_it_saw(
    house: ApiHouse, versions: dict[int, str]
) -> None:
    first = measure(house, versions[1], 1, accuracy=0.8, recall=0.9)
    second = measure(house, versions[2], 2, accuracy=0.95, recall=0.9)
    dry = ask(house, version=2, dry_run=True, **{"if": GATE}).json()
    assert (dry["holds"], dry["move"], stands(house)) == (True, None, 1)
    moved = ask(house, version=2, note="better", **{"if": GATE}).json()
    assert [one["holds"] for one in moved["comparisons"]] == [True, True]
    assert (moved["move"]["from_version"], moved["move"]["version"]) == (1, 2)
    assert stands(house) == 2
    last, made = house.http.get(f"{HERE}/history").json()["data"]
    assert (last["why"], last["if"], last["note"]) == ("promote", GATE, "better")
    assert last["moved_by"] == "loopback"
    assert last["seen"]["evaluations"] == {"vectors:1": first, "vectors:2": second}
    assert last["seen"]["values"] == {"accuracy": 0.95, "recall": 0.9, "@prod.recall": 0.9}
    assert (made["why"], made["from_version"]) == ("set", None)


def test_a_gate_that_does_not_hold_changes_nothing(
    house: ApiHouse, versions: dict[int, str]
) -> None:
    measure(house, versions[1], 1, accuracy=0.8, recall=0.9)
    measure(house, versions[2], 2, accuracy=0.95, recall=0.8)
    answer = ask(house, version=2, **{"if": GATE})
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["field"]) == (409, "gate_failed", "if")
    assert "recall >= @prod.recall - 0.005: does not hold (0.8 against 0.895)" in problem["detail"]
    assert [one["holds"] for one in problem["errors"]] == [True, False]
    assert stands(house) == 1
    dry = ask(house, version=2, dry_run=True, **{"if": GATE}).json()
    assert (dry["holds"], stands(house)) == (False, 1)
    assert len(house.http.get(f"{HERE}/history").json()["data"]) == 1


def test_only_what_was_measured_on_the_same_data_is_compared(
    house: ApiHouse, versions: dict[int, str]
) -> None:
    measure(house, versions[1], 1, "monday", recall=0.7)
    measure(house, versions[2], 2, "friday", recall=0.9)
    answer = ask(house, version=2, **{"if": "recall > @prod.recall"})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "metric_not_measured")
    assert "never evaluated on the same data" in problem["detail"]
    measure(house, versions[1], 1, "friday", recall=0.95)
    answer = ask(house, version=2, **{"if": "recall > @prod.recall"})
    assert answer.json()["code"] == "gate_failed"
    measure(house, versions[2], 2, "monday", recall=0.8)  # the newest data that both saw
    assert ask(house, version=2, **{"if": "recall > @prod.recall"}).status_code == 200


def test_a_trained_version_has_what_its_training_measured_but_nothing_is_compared_with_it(
    house: ApiHouse, versions: dict[int, str]
) -> None:
    origin = {"job_id": "the job", "evaluation": {"on": "test", "rows": 9, "accuracy": 0.9}}
    with house.database.begin() as tx:
        like = tx.models.by_id(versions[1])
        assert like is not None
        made = TrainedVersion("d" * 64, 1, "k", like.signature, origin)
        trained = tx.models.reserve("default", new_id(), "vectors")
        assert tx.models.fill_in(trained.id, made)
        assert tx.models.mark_ready(trained.id, dict(like.signature))
    number = trained.version
    measure(house, versions[1], 1, accuracy=0.8)
    compared = ask(house, version=number, **{"if": "accuracy > @prod.accuracy"}).json()
    assert compared["code"] == "metric_not_measured"
    assert f"accuracy of vectors:{number} was never measured" in compared["detail"]
    moved = ask(house, version=number, **{"if": "accuracy >= 0.9 and rows > 5"}).json()
    assert moved["measured"] == {
        "values": {"accuracy": 0.9, "rows": 9.0},
        "evaluations": {f"vectors:{number}": "the job"},
        "data_digest": None,
    }
    ask(house, "rollback")
    measure(house, trained.id, number, accuracy=0.5)  # what was evaluated goes before it
    assert ask(house, version=number, **{"if": "accuracy >= 0.9"}).json()["code"] == "gate_failed"


def test_a_gate_about_the_alias_alone_needs_nothing_of_the_candidate(
    house: ApiHouse, versions: dict[int, str]
) -> None:
    gate = {"if": "@prod.accuracy < 0.9"}
    problem = ask(house, version=2, **gate).json()
    assert problem["code"] == "metric_not_measured"
    assert "accuracy of vectors:1 was never measured" in problem["detail"]
    measure(house, versions[1], 1, accuracy=0.8)
    moved = ask(house, version=2, **gate).json()
    assert (moved["version"], list(moved["measured"]["evaluations"])) == (2, ["vectors:1"])


@pytest.mark.parametrize(
    ("gate", "says"),
    [
        (
            "acuracy > 0.5",
            r"acuracy of vectors:2 was never measured \(did you mean accuracy\?\): it has accuracy",
        ),
        ("auc > 0.5", "auc of vectors:2 was never measured: it has accuracy"),
        ("accuracy > @prod.accuracy", "accuracy of vectors:1 was never measured: nothing is"),
    ],
)
def test_a_metric_that_was_never_measured_is_named(
    house: ApiHouse, versions: dict[int, str], gate: str, says: str
) -> None:
    measure(house, versions[2], 2, accuracy=0.9, auc=None)
    problem = ask(house, version=2, **{"if": gate}).json()
    assert problem["code"] == "metric_not_measured"
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(problem["detail"])
    assert stands(house) == 1


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({"version": 2, "if": "1 < 2"}, 400, "gate_names_no_metric", "if"),
        ({"version": 2, "if": "accuracy >"}, 400, "invalid_gate", "if"),
        ({"version": 2, "if": ""}, 400, "invalid_value", "if"),
        ({"version": 2, "if": "a > @nobody.a"}, 404, "alias_not_found", "model"),
        ({"version": 9}, 404, "version_not_found", "model"),
        ({"version": 3, "expected": 2}, 409, "alias_moved", "expected"),
        ({"version": 3, "expected": 2, "dry_run": True}, 409, "alias_moved", "expected"),
        ({"version": 0}, 400, "out_of_range", "version"),
        ({}, 400, "missing_field", "version"),
        ({"version": 2, "iff": "a > 1"}, 400, "unknown_field", "iff"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_moves(
    house: ApiHouse,
    versions: dict[int, str],
    body: dict[str, Any],
    status: int,
    code: str,
    field: str,
) -> None:
    answer = ask(house, **body)
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["field"]) == (status, code, field)
    assert stands(house) == 1


def test_one_that_no_worker_loaded_or_with_another_signature_is_not_promoted(
    house: ApiHouse, versions: dict[int, str]
) -> None:
    pending = house.push(top_k=1, labels=["x", "y"]).version
    assert ask(house, version=pending).json()["code"] == "version_not_ready"
    with house.database.begin() as tx:
        (newest, *_) = tx.models.versions("default", "vectors")
        assert tx.models.mark_ready(newest.id, dict(newest.signature))
    problem = ask(house, version=pending).json()
    assert (problem["code"], problem["field"]) == ("signature_differs", "version")
    forced = {"version": pending, "allow_other_signature": True}
    assert ask(house, **forced, requeue=True).json()["code"] == "signature_differs"
    assert stands(house) == 1
    assert ask(house, **forced).status_code == 200
    assert stands(house) == pending


def test_a_promotion_that_is_asked_for_again_is_one_move(
    house: ApiHouse, versions: dict[int, str]
) -> None:
    first, again = (ask(house, version=2, note=note).json() for note in ("first", "again"))
    assert again["move"] == first["move"]
    assert ask(house, version=2, expected=1).json()["code"] == "alias_moved"
    assert (ask(house, "rollback").json()["version"], stands(house)) == (1, 1)


def test_rollbacks_go_one_step_each_and_take_queued_jobs_along(
    house: ApiHouse, versions: dict[int, str]
) -> None:
    assert ask(house, version=2).status_code == 200
    jobs = [house.submit(model="vectors@prod")["id"] for _ in range(3)]
    named = house.submit(model="vectors:2")["id"]
    _, claimed = house.claim(jobs[:1])
    back = ask(house, "rollback", requeue=True, note="it is slow").json()
    assert (back["version"], back["requeued"], stands(house)) == (1, 3, 1)
    models = [house.http.get(f"/v1/jobs/{one}").json()["model"] for one in (*jobs, named)]
    assert models == ["vectors:2", "vectors:1", "vectors:1", "vectors:1"]
    assert claimed[0].version_id == versions[2]
    _, again = house.claim(jobs[1:])
    assert {job.version_id for job in again} == {versions[1]}
    last = house.http.get(f"{HERE}/history").json()["data"][0]
    assert (last["why"], last["undoes"], last["note"]) == ("rollback", 2, "it is slow")
    for what in ("rollback", "rollback"):
        assert ask(house, what).json()["code"] == "nothing_to_roll_back"


def test_queued_jobs_are_given_to_another_version_on_their_own(
    house: ApiHouse, versions: dict[int, str]
) -> None:
    jobs = [house.submit(model="vectors:2")["id"] for _ in range(2)]
    answer = house.http.post("/v1/models/vectors/requeue", json={"from": 2, "to": 1})
    assert answer.json() == {"name": "vectors", "from": 2, "to": 1, "requeued": 2}
    assert {house.http.get(f"/v1/jobs/{one}").json()["model"] for one in jobs} == {"vectors:1"}
    again = house.http.post("/v1/models/vectors/requeue", json={"from": 2, "to": 1})
    assert again.json()["requeued"] == 0
    pending = house.push(labels=["e", "f"]).version
    for asked, code, field in (
        ({"from": 2, "to": 2}, "same_version", "to"),
        ({"from": 2, "to": pending}, "version_not_ready", "to"),
        ({"from": 9, "to": 1}, "version_not_found", "model"),
    ):
        problem = house.http.post("/v1/models/vectors/requeue", json=asked).json()
        assert (problem["code"], problem["field"]) == (code, field)


def test_of_many_who_promote_at_once_one_does(house: ApiHouse, versions: dict[int, str]) -> None:
    with ThreadPoolExecutor(6) as pool:
        wanted = [2 + turn % 2 for turn in range(6)]
        answers = list(pool.map(lambda version: ask(house, version=version, expected=1), wanted))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 5
    assert {a.json()["code"] for a in answers if a.status_code == 409} == {"alias_moved"}
    assert len(house.http.get(f"{HERE}/history").json()["data"]) == 2


def test_a_history_is_read_page_by_page(house: ApiHouse, versions: dict[int, str]) -> None:
    for version in (2, 1, 3):
        house.http.put(HERE, json={"version": version})
    first = house.http.get(f"{HERE}/history", params={"limit": 3}).json()
    assert [move["generation"] for move in first["data"]] == [4, 3, 2]
    rest = house.http.get(f"{HERE}/history", params={"after": first["next"]}).json()
    assert [move["generation"] for move in rest["data"]] == [1]
    assert (rest["has_more"], rest["next"]) == (False, None)
    missing = house.http.get("/v1/models/vectors/aliases/nobody/history")
    assert (missing.status_code, missing.json()["code"]) == (404, "alias_not_found")
