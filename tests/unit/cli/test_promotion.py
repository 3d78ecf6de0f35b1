"""``forebay models promote|rollback|history|requeue``: what is said, and how it ends."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.unit.client.fake_service import problem

GATE = "accuracy >= 0.97 and recall >= @prod.recall - 0.005"
COMPARISONS = [
    {"comparison": "accuracy >= 0.97", "left": 0.98125, "right": 0.97, "holds": True},
    {"comparison": "recall >= @prod.recall - 0.005", "left": 0.8, "right": 0.895, "holds": False},
]
HELD = [COMPARISONS[0], {**COMPARISONS[1], "left": 0.9, "holds": True}]
MEASURED = {
    "values": {"accuracy": 0.98125},
    "evaluations": {"digits:4": "job-b", "digits:3": "job-a"},
    "data_digest": "abcdef0123456789",
}


def move(generation: int, before: int | None, version: int, **more):
    return {
        "name": "digits",
        "alias": "prod",
        "generation": generation,
        "from_version": before,
        "version": version,
        "why": "set",
        "undoes": None,
        "if": None,
        "seen": None,
        "note": None,
        "moved_by": "fbk_1234",
        "moved_at": f"2026-11-27T00:00:{generation:02}.000Z",
        **more,
    }


def promotion(**more):
    return {
        "name": "digits",
        "alias": "prod",
        "version": 4,
        "holds": True,
        "comparisons": HELD,
        "measured": MEASURED,
        "move": move(2, 3, 4, why="promote"),
        "requeued": 0,
        **more,
    }


@pytest.fixture
def says(service):
    """The service's next answers."""

    def say(*documents):
        service.faults = [
            one if isinstance(one, httpx.Response) else httpx.Response(200, json=one)
            for one in documents
        ]

    return say


def body(service):
    return json.loads(service.requests[-1].content)


def test_a_promotion_prints_each_comparison_and_what_moved(forebay, service, says):
    says(promotion(requeued=12_345))
    argv = ("models", "promote", "digits:4", "--to", "prod", "--if", GATE, "--requeue")
    code, out, err = forebay(*argv, "--expected", "3", "--note", "better")
    assert code == 0
    assert out.splitlines() == [
        "COMPARISON                      LEFT     RIGHT  HOLDS",
        "accuracy >= 0.97                0.98125  0.97   yes",
        "recall >= @prod.recall - 0.005  0.9      0.895  yes",
        "digits@prod is digits:4, was digits:3",
        "12,345 queued jobs go to digits:4",
    ]
    assert err == "measured on data abcdef012345: digits:3 by job-a, digits:4 by job-b\n"
    wanted = {"version": 4, "if": GATE, "expected": 3, "note": "better", "requeue": True}
    assert body(service) == wanted


def test_a_gate_that_does_not_hold_is_exit_one_with_each_comparison(forebay, says):
    no = problem(409, "gate_failed", "digits:4 does not become 'prod'", field="if")
    refused = problem(409, "gate_failed", no.json()["detail"], field="if", errors=COMPARISONS)
    argv = ("models", "promote", "digits:4", "--to", "prod", "--if", GATE)
    says(refused)
    code, out, err = forebay(*argv)
    assert code == 1
    assert out.splitlines()[2] == "recall >= @prod.recall - 0.005  0.8      0.895  no"
    assert err.splitlines() == [
        "forebay: digits:4 does not become 'prod'  (in if)",
        "  nothing was changed",
    ]
    says(refused)
    code, out, err = forebay(*argv, "--json")
    assert (code, out) == (1, "")
    assert json.loads(err)["error"]["errors"] == COMPARISONS


def test_a_dry_run_says_what_would_be_and_ends_as_the_gate_does(forebay, service, says):
    argv = ("models", "promote", "digits:4", "--to", "prod", "--dry-run")
    says(promotion(move=None))
    code, out, _ = forebay(*argv, "--if", GATE)
    assert (code, out.splitlines()[-1]) == (
        0,
        "digits@prod would be digits:4; nothing was changed",
    )
    assert body(service)["dry_run"] is True
    says(promotion(move=None, holds=False, comparisons=COMPARISONS))
    code, out, _ = forebay(*argv, "--if", GATE)
    assert (code, out.splitlines()[-1]) == (1, "digits@prod would not move; nothing was changed")
    says(promotion(move=None, holds=False, comparisons=COMPARISONS))
    code, out, _ = forebay(*argv, "--if", GATE, "--json")
    assert (code, json.loads(out)["holds"]) == (1, False)
    says(promotion(move=None, holds=None, comparisons=[], measured=None))
    code, out, err = forebay(*argv)
    assert (code, out, err) == (0, "digits@prod would be digits:4; nothing was changed\n", "")


def test_any_other_refusal_says_what_to_change(forebay, says):
    says(problem(422, "metric_not_measured", "auc of digits:4 was never measured", field="if"))
    code, out, err = forebay("models", "promote", "digits:4", "--to", "prod", "--if", "auc > 0.5")
    assert (code, out) == (2, "")
    assert "auc of digits:4 was never measured  (in if)" in err


@pytest.mark.parametrize(
    "argv",
    [
        ("promote", "digits", "--to", "prod"),
        ("promote", "digits@prod", "--to", "prod"),
        ("promote", "digits:4"),
        ("promote", "digits:4", "--to", "prod", "--expected", "0"),
        ("rollback", "digits"),
        ("history", "digits", "--limit", "0"),
        ("requeue", "digits:4"),
        ("requeue", "digits:4", "letters:3"),
        ("requeue", "digits:4", "digits"),
    ],
)
def test_wrong_usage_sends_nothing(forebay, service, argv):
    code, out, err = forebay("models", *argv)
    assert (code, out) == (2, "") and err
    assert service.requests == []


def test_a_rollback_says_where_the_alias_stands(forebay, service, says):
    back = move(3, 4, 3, why="rollback", undoes=2)
    says(promotion(version=3, holds=None, comparisons=[], measured=None, move=back, requeued=1))
    argv = ("models", "rollback", "digits", "--alias", "prod", "--requeue", "--expected", "4")
    code, out, _ = forebay(*argv, "--note", "slow")
    assert (code, out.splitlines()) == (
        0,
        ["digits@prod is digits:3, was digits:4", "1 queued job goes to digits:3"],
    )
    assert body(service) == {"expected": 4, "note": "slow", "requeue": True}


def test_a_history_is_of_one_alias_or_of_all_in_the_order_of_time(forebay, service, says):
    def page(*moves):
        return {"data": list(moves), "has_more": False, "next": None}

    prod = page(
        move(5, 4, 3, why="rollback", undoes=3, note="it is slow"),
        move(3, 3, 4, why="promote", **{"if": "accuracy > 0.9"}),
        move(1, None, 3),
    )
    says(prod)
    code, out, _ = forebay("models", "history", "digits", "--alias", "prod")
    head, *rows = (line.split() for line in out.splitlines())
    assert (code, head[:5]) == (0, ["MOVE", "FROM", "TO", "WHY", "BY"])
    assert rows[0][:6] == ["prod#5", "4", "3", "rollback", "of", "#3"]
    assert rows[0][-3:] == ["it", "is", "slow"]
    assert rows[1][:4] == ["prod#3", "3", "4", "promote"]
    assert rows[1][-3:] == ["accuracy", ">", "0.9"]
    assert rows[2][:4] == ["prod#1", "-", "3", "set"]
    other = page(move(4, 1, 2, alias="next"), move(2, None, 1, alias="next"))
    model = {"name": "digits", "aliases": {"prod": 3, "next": 2}}
    says(model, other, prod)
    code, out, _ = forebay("models", "history", "digits", "--json")
    assert [(one["alias"], one["generation"]) for one in json.loads(out)] == [
        *(("prod", 5), ("next", 4), ("prod", 3), ("next", 2), ("prod", 1)),
    ]
    says(model, other, prod)
    out = forebay("models", "history", "digits", "--limit", "2")[1]
    assert [line.split()[0] for line in out.splitlines()] == ["MOVE", "prod#5", "next#4"]
    says({"name": "digits", "aliases": {}})
    assert forebay("models", "history", "digits")[1] == "no alias of digits ever moved\n"


def test_queued_jobs_are_given_to_another_version(forebay, service, says):
    says({"requeued": 3})
    code, out, _ = forebay("models", "requeue", "digits:4", "digits:3")
    assert (code, out) == (0, "3 queued jobs go to digits:3\n")
    assert body(service) == {"from": 4, "to": 3}
    says({"requeued": 3})
    out = forebay("models", "requeue", "digits:4", "digits:3", "--json")[1]
    assert json.loads(out) == {"name": "digits", "from": 4, "to": 3, "requeued": 3}
