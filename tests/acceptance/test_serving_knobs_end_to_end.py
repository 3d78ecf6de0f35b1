"""A model pushed with serving knobs: served as they say, shown with them, and measured.

Tokens of any length are padded to three sizes with a mask; a pass holds few rows and few tokens.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.caller import Caller, only_output
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from tests.support.zoo import Zoo

SIZES, MOST_ROWS, MOST_TOKENS = (4, 16, 64), 16, 256
SERVING = {
    "max_batch": MOST_ROWS,
    "pad": {"tokens": {"sizes": list(SIZES), "mask": "mask"}},
    "cost": "tokens",
    "max_cost": MOST_TOKENS,
}
SINGLES, LISTS = 150, 6


def test_a_model_is_served_shown_and_measured_as_its_knobs_say(
    stack: Stack, caller: Caller, zoo: Zoo, rng: random.Random
) -> None:
    knobs = json.dumps(SERVING)
    done = stack.run("models", "push", "lengths", str(zoo.masked), "--serving", knobs, "--wait")
    assert done.returncode == 0, done.stdout + done.stderr

    texts = [_tokens(rng) for _ in range(SINGLES)]
    texts[:3] = [[7] * size for size in SIZES]  # no padding at all
    jobs = [_job(tokens, custom_id=f"t{n}") for n, tokens in enumerate(texts)]
    group = caller.submit_many(jobs)["group"]
    lists = [[_tokens(rng) for _ in range(rng.randint(2, 9))] for _ in range(LISTS)]
    listed = [
        caller.submit("lengths", {"items": [{"tensor": one} for one in texts]})["id"]
        for texts in lists
    ]
    assert caller.finish_group(group)["counts"]["succeeded"] == SINGLES
    for tokens, line in zip(texts, caller.results(group), strict=True):
        assert _mean(line["result"]) == _expected(tokens)
    for job_id, asked in zip(listed, lists, strict=True):
        assert caller.finish(job_id)["state"] == "succeeded"
        items = caller.result(job_id)["items"]
        assert [_mean(item) for item in items] == [_expected(tokens) for tokens in asked]

    _is_refused_when_too_long(caller)
    _is_shown(stack)
    _is_measured(caller)


def _tokens(rng: random.Random) -> list[int]:
    return [rng.randint(1, 999) for _ in range(rng.randint(1, SIZES[-1]))]


def _job(tokens: Sequence[int], **fields: Any) -> dict[str, Any]:
    return {"model": "lengths", "input": {"tensor": list(tokens)}, **fields}


def _mean(answer: Any) -> float:
    (value,) = only_output(answer)
    return float(value)


def _expected(tokens: Sequence[int]) -> Any:
    return pytest.approx(sum(tokens) / len(tokens), rel=1e-5)


def _is_refused_when_too_long(caller: Caller) -> None:
    answer = caller.http.post("/v1/jobs", json=_job([1] * (SIZES[-1] + 1)))
    assert (answer.status_code, answer.json()["code"]) == (400, "too_long")


def _is_shown(stack: Stack) -> None:
    """As text and as JSON; what was measured arrives with a worker's next renewal."""
    text = stack.run("models", "show", "lengths:1").stdout
    assert f"max_batch={MOST_ROWS}*" in text, text
    assert "cost=tokens*" in text, text

    def measured() -> list[dict[str, Any]]:
        done = stack.run("models", "show", "lengths:1", "--json")
        assert done.returncode == 0, done.stderr
        version = json.loads(done.stdout)
        serving = version["serving"]
        assert (serving["max_batch"], serving["cost"]) == (MOST_ROWS, "tokens")
        assert serving["pad"]["tokens"]["mask"] == "mask"
        found: list[dict[str, Any]] = version["latency"]
        return found if {int(row["shape"]) for row in found} == set(SIZES) else []

    for row in wait_until(measured, 20, what="a curve for each length"):
        assert row["bucket"] <= MOST_ROWS and row["mean_s"] > 0
        assert row["bucket"] * int(row["shape"]) <= MOST_TOKENS, "a pass held too many tokens"


def _is_measured(caller: Caller) -> None:
    """``/metrics`` counts every row in a pass, and no pass with more than it may have."""
    rows = SINGLES

    def told() -> bool:
        return _figure(caller, "forebay_batch_rows_sum") > rows

    wait_until(told, 20, what="the batches on /metrics")
    passes = _figure(caller, "forebay_batch_rows_count")
    assert 0 < passes < rows, "rows were never batched"
    assert _figure(caller, "forebay_batch_rows_bucket", 'le="16.0"') == passes
    assert _figure(caller, "forebay_batch_slots_total") >= _figure(caller, "forebay_batch_rows_sum")


def _figure(caller: Caller, name: str, label: str = "") -> float:
    lines = caller.http.get("/metrics").text.splitlines()
    mine = [one for one in lines if one.startswith(f"{name}{{") and 'model="lengths:1"' in one]
    return sum(float(one.rsplit(" ", 1)[1]) for one in mine if label in one)
