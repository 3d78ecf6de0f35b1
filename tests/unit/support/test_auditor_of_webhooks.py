"""The auditor of webhooks finds each kind of damage in a receiver's log, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.auditor.evidence import Evidence
from tests.faults.auditor.webhooks import webhooks

JOB, ENDPOINT = "01970000-0000-7000-8000-000000000001", "01970000-0000-7000-8000-00000000000e"
PATH, ID = "/ok/ayla", "evt_01970000000070008000000000000001"
KEY = b"k" * 32
SECRET = "whsec_" + base64.b64encode(KEY).decode()


def entry(**changed: Any) -> dict[str, Any]:
    body = changed.pop("body", None) or json.dumps(
        {"type": "job.succeeded", "data": {"id": JOB, "state": "succeeded"}}
    )
    signed = f"{changed.get('id', ID)}.1.{body}".encode()
    digest = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    headers = {
        "webhook-id": changed.get("id", ID),
        "webhook-timestamp": "1",
        "webhook-signature": changed.pop("signature", f"v1,{digest}"),
    }
    return {"id": ID, "path": PATH, "says": 200, "headers": headers, "body": body} | changed


@pytest.fixture
def found(tmp_path: Path) -> Callable[..., list[str]]:
    """Kinds of damage in a folder where all is well but for what is said otherwise."""

    def audit(
        *entries: dict[str, Any], state: str = "succeeded", owner: str = "ayla", **tables: Any
    ) -> list[str]:
        rows = {
            "events": [{"id": JOB, "tenant": owner, "type": "job.succeeded"}],
            "ends": [{"id": JOB, "tenant": "ayla", "state": state}],
            "webhook_endpoints": [
                {"id": ENDPOINT, "tenant": "ayla", "url": f"http://127.0.0.1:1{PATH}"}
            ],
            "webhook_secrets": [{"tenant": "ayla", "secret": SECRET}],
            "deliveries": [{"event_id": JOB, "endpoint_id": ENDPOINT, "state": "delivered"}],
        } | tables
        (tmp_path / "tables").mkdir()
        for name, lines in rows.items():
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (tmp_path / "tables" / f"{name}.jsonl").write_text(text)
        (tmp_path / "book.jsonl").write_text(json.dumps({"told": PATH, "tenant": "ayla"}) + "\n")
        text = "".join(json.dumps(line) + "\n" for line in entries)
        (tmp_path / "webhooks.jsonl").write_text(text)
        return [kind for kind, _ in webhooks(Evidence(tmp_path))]

    return audit


def test_all_is_well_also_when_it_was_told_twice_or_failed_before(found):
    assert found(entry(says=500), entry(says=None), entry(), entry()) == []


def test_never_told_or_never_answered_with_2xx_is_lost(found):
    assert found(entry(says=500)) == ["lost", "lost"]  # written as delivered, and not told


def test_a_pending_one_at_a_receiver_that_answers_is_lost(found):
    pending = [{"event_id": JOB, "endpoint_id": ENDPOINT, "state": "pending"}]
    assert found(deliveries=pending) == ["lost"]


@pytest.mark.parametrize(
    "changed",
    [
        {"signature": "v1," + base64.b64encode(bytes(32)).decode()},
        {"signature": ""},
        {"body": json.dumps({"type": "job.failed", "data": {"id": JOB, "state": "succeeded"}})},
        {"body": json.dumps({"type": "job.succeeded", "data": {"id": "x", "state": "succeeded"}})},
    ],
)
def test_another_event_or_a_bad_signature_is_crossed(found, changed: dict[str, Any]):
    assert found(entry(), entry(**changed)) == ["crossed"]


def test_another_state_than_the_jobs_is_crossed(found):
    assert found(entry(), state="failed") == ["crossed"]


def test_another_tenants_event_is_crossed(found):
    assert found(entry(), owner="bora") == ["crossed"]


def test_what_nobody_asked_for_is_stray(found):
    assert found(entry(), entry(path="/ok/redirected")) == ["stray"]


def test_an_unknown_event_is_stray(found):
    assert found(entry(), entry(id="evt_0")) == ["stray"]
