"""The real client of the OpenAI API runs a file of requests: it submits, polls and downloads."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
from openai import OpenAI
from openai.types import Batch
from PIL import Image

from tests.acceptance.conftest import Tenants
from tests.support.caller import Caller
from tests.support.receiver import receiving
from tests.support.stack import Stack
from tests.support.waiting import wait_until

ENDS_WITHIN_S = 120.0
OVER = {"completed", "failed", "cancelled", "expired"}
BATCH: dict[str, Any] = {"endpoint": "/v1/jobs", "completion_window": "24h"}


def client_of(stack: Stack, key: str = "any") -> OpenAI:
    return OpenAI(base_url=f"{stack.url}/openai/v1", api_key=key, timeout=60)


@pytest.fixture
def client(stack: Stack, models: None) -> Iterator[OpenAI]:
    with client_of(stack) as opened:
        yield opened


def line(custom_id: str, model: str, given: dict[str, Any]) -> dict[str, Any]:
    body = {"model": model, "input": given}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/jobs", "body": body}


def start(client: OpenAI, lines: list[dict[str, Any]], **more: Any) -> Batch:
    data = b"".join(json.dumps(one).encode() + b"\n" for one in lines)
    file = client.files.create(file=("requests.jsonl", data), purpose="batch")
    assert client.files.content(file.id).content == data
    return client.batches.create(input_file_id=file.id, **BATCH, **more)


def end_of(client: OpenAI, batch: Batch) -> tuple[Batch, list[str]]:
    """The batch when it is over, and the states that were seen."""
    seen = [batch.status]
    end_s = time.monotonic() + ENDS_WITHIN_S
    while batch.status not in OVER:
        assert time.monotonic() < end_s, f"not over after {ENDS_WITHIN_S} s: {batch}"
        time.sleep(0.05)  # polling is what this client does
        batch = client.batches.retrieve(batch.id)
        if batch.status != seen[-1]:
            seen.append(batch.status)
    return batch, [str(one) for one in seen]


def lines_in(client: OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(one) for one in client.files.content(file_id).text.splitlines()]


def picture(value: int) -> dict[str, Any]:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(file, "PNG")
    return {"image": base64.b64encode(file.getvalue()).decode()}


def test_a_file_of_requests_is_answered_line_by_line(client: OpenAI, caller: Caller) -> None:
    """Each once, in their order, as a single job is answered; what is wrong is an error line."""
    lines = [line(f"r{n}", "echo", {"tensor": [0, n]}) for n in range(3_000)]
    wrong = {7: {"tensor": [1, 2, 3]}, 1_500: {"text": "no tensor"}, 2_999: {"tensor": ["a", "b"]}}
    for n, given in wrong.items():
        lines[n]["body"]["input"] = given
    batch, seen = end_of(client, start(client, lines, metadata={"night": "1"}))
    assert batch.status == "completed", batch
    order = ["validating", "in_progress", "finalizing", "completed"]
    assert [order.index(one) for one in seen] == sorted(order.index(one) for one in seen)
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": 3_000, "completed": 2_997, "failed": 3}
    assert batch.created_at <= (batch.in_progress_at or 0) <= (batch.completed_at or 0)
    assert batch.metadata == {"night": "1"}

    outputs = lines_in(client, batch.output_file_id)
    good = [n for n in range(3_000) if n not in wrong]
    assert [one["custom_id"] for one in outputs] == [f"r{n}" for n in good]
    for n in (good[0], good[1], good[-1]):
        body = outputs[good.index(n)]["response"]["body"]
        assert body == caller.ask("echo", lines[n]["body"]["input"])
    assert len({one["id"] for one in outputs}) == len(outputs)
    errors = lines_in(client, batch.error_file_id)
    assert [one["custom_id"] for one in errors] == [f"r{n}" for n in sorted(wrong)]
    for one in errors:
        assert one["response"] is None and one["error"]["code"] and one["error"]["message"]
    assert client.batches.retrieve(batch.id) == batch
    assert batch.id in {one.id for one in client.batches.list(limit=50)}


def test_pictures_and_labels_come_as_from_a_single_job(client: OpenAI, caller: Caller) -> None:
    lines = [line(f"p{n}", "picture", picture(20 * n)) for n in range(12)]
    lines.insert(5, line("broken", "picture", {"image": base64.b64encode(b"no").decode()}))
    batch, _ = end_of(client, start(client, lines))
    assert batch.status == "completed", batch
    outputs = {one["custom_id"]: one for one in lines_in(client, batch.output_file_id)}
    assert len(outputs) == 12
    for name, n in (("p0", 0), ("p11", 11)):
        alone, body = caller.ask("picture", picture(20 * n)), outputs[name]["response"]["body"]
        assert body["label"] == alone["label"]
        assert body["top"][0]["score"] == pytest.approx(alone["top"][0]["score"], abs=1e-5)
        assert set(body["outputs"]) == set(alone["outputs"])
    (broken,) = lines_in(client, batch.error_file_id)
    assert (broken["custom_id"], broken["error"]["code"]) == ("broken", "bad_image")


def test_a_cancelled_batch_ends_soon_and_keeps_what_is_done(client: OpenAI) -> None:
    lines = [line(f"c{n}", "slow_echo", {"tensor": [9, n]}) for n in range(20_000)]
    batch = start(client, lines)
    wait_until(
        lambda: client.batches.retrieve(batch.id).status == "in_progress",
        ENDS_WITHIN_S,
        what="the batch's beginning",
    )
    assert client.batches.cancel(batch.id).status in {"cancelling", "cancelled"}
    over, _ = end_of(client, client.batches.retrieve(batch.id))
    assert over.status == "cancelled" and over.cancelled_at
    assert over.request_counts is not None and over.request_counts.completed < 20_000
    if over.output_file_id is not None:
        names = [one["custom_id"] for one in lines_in(client, over.output_file_id)]
        assert len(names) == len(set(names)) == over.request_counts.completed


def test_a_wrong_file_fails_its_batch_and_says_where(client: OpenAI) -> None:
    lines = [line(name, "echo", {"tensor": [0, 1]}) for name in ("a", "b", "a")]
    batch = client.batches.retrieve(start(client, lines).id)
    assert batch.status == "failed" and batch.errors is not None and batch.errors.data
    (error,) = batch.errors.data
    assert (error.code, error.line, error.param) == ("duplicate_custom_id", 3, "custom_id")
    with pytest.raises(openai.NotFoundError):
        start(client, [line("a", "no_such_model", {"tensor": [0, 1]})])


def test_models_are_there_and_tenants_never_meet(
    stack: Stack, client: OpenAI, tenants: Tenants
) -> None:
    assert {"echo", "picture"} <= {model.id for model in client.models.list()}
    with client_of(stack, tenants.a_key) as a, client_of(stack, tenants.b_key) as b:
        batch, _ = end_of(a, start(a, [line("x", "echo", {"tensor": [0, 3]})]))
        assert batch.status == "completed"
        for call, name in (
            (b.batches.retrieve, batch.id),
            (b.batches.cancel, batch.id),
            (b.files.retrieve, batch.input_file_id),
            (b.files.content, str(batch.output_file_id)),
        ):
            with pytest.raises(openai.NotFoundError):
                call(name)
        assert batch.id not in {one.id for one in b.batches.list()}


def test_the_end_is_told_and_the_client_verifies_it(stack: Stack, client: OpenAI) -> None:
    with receiving() as receiver, stack.caller() as caller:
        told = {"url": receiver.url("/ok/batches"), "events": ["batch.completed"]}
        webhook = caller.http.post("/v1/webhooks", json=told).raise_for_status().json()
        try:
            batch, _ = end_of(client, start(client, [line("x", "echo", {"tensor": [0, 3]})]))
            wait_until(lambda: receiver.requests, ENDS_WITHIN_S, what="the webhook")
            (got,) = receiver.requests
            reader = client.with_options(webhook_secret=webhook["secret"])
            event = reader.webhooks.unwrap(got["body"], got["headers"])
            assert (event.type, event.data.id) == ("batch.completed", batch.id)
            assert event.created_at == batch.completed_at
        finally:
            caller.http.delete(f"/v1/webhooks/{webhook['id']}").raise_for_status()
