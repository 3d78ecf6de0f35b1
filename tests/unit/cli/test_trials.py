"""``forebay models canary|shadow|trials|stop-trial``, and what the SDK does for them."""

from __future__ import annotations

import json

import pytest

from producers.client import Forebay
from producers.client.errors import BadArgument

RETURNED = {
    "state": "returned",
    "reason": "6 of 50 jobs failed (0.12), more than 0.05",
    "seen": {"candidate": {"jobs": 50, "failed": 6, "p95_ms": 12.4}},
    "compared": 40,
    "disagreed": 4,
}


def asked(service):
    return [json.loads(one.content) for one in service.requests if one.content]


@pytest.mark.parametrize("kind", ["canary", "shadow"])
def test_a_trial_is_started_with_the_limits_that_were_said(forebay, service, kind):
    code, out, _ = forebay(
        "models", kind, "digits:4", "--of", "prod", "--share", "0.2",
        "--max-error-share", "0.02", "--max-disagreement", "0.1", "--min-jobs", "20",
        "--max-latency-ratio", "1.5", "--max-latency-ms", "30",
    )  # fmt: skip
    assert (code, out) == (0, f"digits:4 beside digits:1  {kind} of 0.2  0\n")
    limits = {
        "error_share": 0.02,
        "latency_ratio": 1.5,
        "latency_ms": 30.0,
        "disagreement": 0.1,
        "min_jobs": 20,
    }
    assert asked(service) == [{"version": 4, "kind": kind, "share": 0.2, "limits": limits}]
    assert service.requests[0].url.path == "/v1/models/digits/aliases/prod/trials"


def test_without_limits_the_services_own_hold(forebay, service):
    assert forebay("models", "canary", "digits:4", "--of", "prod")[0] == 0
    assert asked(service) == [{"version": 4, "kind": "canary", "share": 0.05}]


def test_who_waits_is_told_how_it_ended(forebay, service):
    service.trial_ends = RETURNED
    code, out, _ = forebay("models", "canary", "digits:4", "--of", "prod", "--wait")
    assert (code, out) == (1, f"digits:4  returned: {RETURNED['reason']}\n")
    service.trial_ends = {"state": "promoted", "reason": "'prod' stands for version 4"}
    code, out, _ = forebay("models", "canary", "digits:4", "--of", "prod", "--wait", "--json")
    assert (code, json.loads(out)["state"]) == (0, "promoted")


def test_trials_are_listed_with_what_was_seen(forebay, service):
    code, out, _ = forebay("models", "trials", "digits@prod")
    assert (code, out) == (0, "no trials beside digits@prod\n")
    service.trial_ends = RETURNED
    forebay("models", "canary", "digits:4", "--of", "prod")
    _, out, _ = forebay("models", "trials", "digits@prod")
    for words in ("digits:4", "6 of 50 failed, p95 12 ms, 4 of 40 differ", RETURNED["reason"]):
        assert words in out
    _, out, _ = forebay("models", "trials", "digits@prod", "--json")
    assert json.loads(out) == service.trials


def test_the_one_that_runs_is_stopped(forebay, service):
    service.trial_ends = RETURNED
    forebay("models", "canary", "digits:3", "--of", "prod")
    code, _, err = forebay("models", "stop-trial", "digits@prod")
    assert code == 2 and "no trial runs beside digits@prod" in err
    service.trial_ends = None
    forebay("models", "canary", "digits:4", "--of", "prod")
    code, out, _ = forebay("models", "stop-trial", "digits@prod")
    assert (code, out) == (0, "digits:4  stopped, 3 jobs given back\n")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (("canary", "digits", "--of", "prod"), "write name:number, as in digits:4"),
        (("canary", "digits:x", "--of", "prod"), "'digits:x' is no version"),
        (("canary", "digits:4"), "--of"),
        (("canary", "digits:4", "--of", "prod", "--share", "2"), "--share"),
        (("trials", "digits"), "write NAME@ALIAS"),
        (("stop-trial", "@prod"), "'@prod' is no alias"),
    ],
)
def test_a_wrong_line_is_refused_before_anything_is_asked(forebay, service, line, says):
    code, _, err = forebay("models", *line)
    assert code == 2 and says in err, err
    assert not service.requests


def test_the_sdk_waits_and_stops(service):
    service.trial_ends = {"state": "stopped", "reason": "stopped by loopback"}
    with Forebay(transport=service.transport) as client:
        trial = client.models.shadow("digits:4", "prod", share=1, limits={"error_share": None})
        assert (trial.state, trial.reason) == ("running", None)
        assert (trial.wait(5).state, trial.reason) == ("stopped", "stopped by loopback")
        assert asked(service)[0]["limits"] == {"error_share": None}
        (found,) = client.models.trials("digits", "prod")
        assert found.id == trial.id and found.stop().state == "stopped"
        with pytest.raises(BadArgument):
            client.models.canary("digits@prod", "prod")
