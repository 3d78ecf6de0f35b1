"""``forebay webhooks``: what it prints, and that a secret is on no command line."""

from __future__ import annotations

import io
import json

import pytest

from tests.unit.client.fake_webhooks import TENANTS_SECRET, attempt

URL = "https://example.com/hook"


@pytest.fixture
def webhook(forebay, service):
    assert forebay("webhooks", "add", URL)[0] == 0
    (id_,) = service.webhooks.endpoints
    return id_


def test_one_is_added_and_its_secret_shown_once(forebay, service):
    code, out, err = forebay("webhooks", "add", URL, "--event", "job.failed", "--event", "*")
    (id_,) = service.webhooks.endpoints
    assert code == 0 and out.split() == ["webhook", id_, "secret", TENANTS_SECRET]
    assert "job.failed, *" in err and f"webhooks test {id_}" in err
    code, out, _ = forebay("webhooks", "add", URL, "--own-secret", "--json")
    assert json.loads(out)["secret"] == "whsec_made"
    for argv in (("list",), ("show", id_), ("list", "--json"), ("show", id_, "--json")):
        code, out, _ = forebay("webhooks", *argv)
        assert code == 0 and URL in out and "whsec_" not in out
    assert forebay("webhooks", "list", "--url", URL + "x")[1] == "no webhooks\n"


def test_a_secret_of_ones_own_comes_from_a_file_or_standard_input(
    forebay, service, tmp_path, monkeypatch, webhook
):
    (tmp_path / "secret").write_text("whsec_mine\n")
    code, out, _ = forebay("webhooks", "add", URL, "--secret-file", tmp_path / "secret", "--json")
    assert code == 0 and json.loads(out)["secret"] == "whsec_mine"
    monkeypatch.setattr("sys.stdin", io.StringIO("whsec_piped\n"))
    code, out, err = forebay("webhooks", "rotate", webhook, "--secret-file", "-")
    assert (code, out) == (0, "whsec_piped\n") and "until 2026-05-02" in err


def test_secrets_are_shown_and_rotated(forebay, service, webhook):
    assert forebay("webhooks", "secret")[:2] == (0, TENANTS_SECRET + "\n")
    assert forebay("webhooks", "rotate")[1] == "whsec_new\n"
    code, out, _ = forebay("webhooks", "rotate", webhook, "--overlap-s", "60", "--json")
    assert code == 0 and json.loads(out)["secret"] == "whsec_own"
    assert service.webhooks.asked[-1] == (f"{webhook}/rotate", {"overlap_s": 60})


def test_switching_off_and_on_changing_and_removing(forebay, service, webhook):
    assert "off (by_hand)" in forebay("webhooks", "disable", webhook)[1]
    assert "off (by_hand)" in forebay("webhooks", "list")[1]
    assert json.loads(forebay("webhooks", "enable", webhook, "--json")[1])["enabled"]
    out = forebay("webhooks", "change", webhook, "--event", "group.completed")[1]
    assert "group.completed" in out
    service.webhooks.endpoints[webhook]["failures"] = 3
    assert "on, failed 3 times" in forebay("webhooks", "show", webhook)[1]
    service.webhooks.endpoints[webhook]["paused_until"] = "2026-05-01T00:10:00.000Z"
    assert "left alone until 2026-05-01T00:10" in forebay("webhooks", "show", webhook)[1]
    code, out, err = forebay("webhooks", "remove", webhook)
    assert (code, out) == (0, "") and "removed" in err and service.webhooks.endpoints == {}


def test_tests_replays_and_attempts(forebay, service, webhook):
    code, out, err = forebay("webhooks", "test", webhook)
    assert (code, out) == (0, "evt_test\n") and f"attempts {webhook}" in err
    assert json.loads(forebay("webhooks", "test", webhook, "--json")[1]) == {"event": "evt_test"}
    assert forebay("webhooks", "replay", webhook, "evt_1")[1] == "1 on their way again\n"
    argv = ("replay", webhook, "--since", "2026-05-01T00:00:00Z", "--json")
    assert json.loads(forebay("webhooks", *argv)[1]) == {"deliveries": 1}
    assert forebay("webhooks", "attempts", webhook)[1] == "nothing was tried yet\n"
    service.webhooks.attempts = [attempt(1), attempt(2, status=None, error="no answer in 15 s")]
    lines = forebay("webhooks", "attempts", webhook)[1].splitlines()
    assert lines[0].split()[:3] == ["STARTED", "EVENT", "TRY"]
    assert lines[1].split()[1:6] == ["evt_1", "1", "retry", "500", "12"]
    assert lines[2].endswith("no answer in 15 s")
    rows = json.loads(forebay("webhooks", "attempts", webhook, "--limit", "1", "--json")[1])
    assert [row["event"] for row in rows] == ["evt_1"]


@pytest.mark.parametrize(
    "argv",
    [
        ("add",),
        ("add", URL, "--own-secret", "--secret-file", "x"),
        ("add", URL, "--secret-file", "/nowhere"),
        ("add", URL, "--secret", "whsec_mine"),
        ("change", "ID"),
        ("replay", "ID"),
        ("replay", "ID", "evt_1", "--since", "T"),
        ("replay", "ID", "evt_1", "--until", "T"),
        ("replay", "ID", "--until", "T"),
        ("rotate", "ID", "--overlap-s", "-1"),
        ("attempts", "ID", "--limit", "0"),
        ("show", "nobody"),
        ("show", "../jobs"),
        ("show", ""),
    ],
)
def test_wrong_usage_ends_in_two(forebay, service, argv, webhook):
    before = len(service.webhooks.asked)
    words = [webhook if word == "ID" else word for word in argv]
    code, out, err = forebay("webhooks", *words)
    assert code == 2 and err.strip() and out == "" and "Traceback" not in err
    assert len(service.webhooks.asked) == before


def test_a_submit_brings_its_webhook(forebay, service):
    assert forebay("submit", "m", "--text", "a", "--webhook", URL)[0] == 0
    assert forebay("submit", "m", "--text", "a", "b", "--webhook", URL)[0] == 0
    one, many = (json.loads(request.content) for request in service.requests)
    assert one["webhook"] == many["webhook"] == URL
    assert [job.get("webhook") for job in many["jobs"]] == [None, None]
