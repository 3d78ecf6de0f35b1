"""Who registered for the ends of batches is told in their shape, verified by the client itself."""

from __future__ import annotations

import openai
import pytest
from openai import OpenAI

from storage.records.jobs import JobError
from tests.integration.openai.batch_hand import (
    BATCH,
    BatchHand,
    job_id_of,
    line,
    submit,
    upload,
)
from tests.integration.webhooks.post import Post
from tests.support.receiver import receiving

ENDS = ["batch.completed", "batch.failed", "batch.cancelled", "batch.expired"]


@pytest.fixture
def house(quiet_house):
    """A service that lets webhooks go to loopback."""
    quiet_house.push()
    quiet_house.start(webhook_allow=("127.0.0.1:*",))
    yield quiet_house
    quiet_house.stop()


@pytest.fixture
def receiver(tmp_path):
    with receiving(log=tmp_path / "received.jsonl") as found:
        yield found


@pytest.fixture
def post(house):
    made = Post(house.database, house.objects)
    yield made
    for duty in made.made:
        duty.close(house.database)


def register(house, receiver, path, events):
    """The secret of a new endpoint."""
    body = {"url": receiver.url(path), "events": events}
    answer = house.http.post("/v1/webhooks", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["secret"]


def test_every_end_is_told_and_unwrapped(client, house, receiver, post):
    secret = register(house, receiver, "/ok", ENDS)
    completed, cancelled, broken = (submit(client) for _ in range(3))
    BatchHand(house, job_id_of(completed)).all(wrong=["c1"])
    client.batches.cancel(cancelled.id)
    BatchHand(house, job_id_of(broken)).claim().finish(JobError("bad_file", "cut off"))
    twice = upload(client, [line("a"), line("a")])
    wrong = client.batches.create(input_file_id=twice, **BATCH)
    house.work([house.submit()["id"]])  # a job of no batch

    post.run_until(lambda: len(receiver.requests) >= 4, "four deliveries")
    reader = OpenAI(api_key="none", webhook_secret=secret)
    events = [reader.webhooks.unwrap(got["body"], got["headers"]) for got in receiver.requests]
    assert {event.data.id: event.type for event in events} == {
        completed.id: "batch.completed",
        cancelled.id: "batch.cancelled",
        broken.id: "batch.failed",
        wrong.id: "batch.failed",
    }
    for event, got in zip(events, receiver.requests, strict=True):
        assert event.object == "event" and event.id == got["headers"]["webhook-id"]
        batch = client.batches.retrieve(event.data.id)
        ended = batch.completed_at or batch.cancelled_at or batch.failed_at
        assert event.created_at == ended
    (first, *_) = receiver.requests
    with pytest.raises(openai.InvalidWebhookSignatureError):
        reader.webhooks.unwrap(first["body"] + " ", first["headers"])


def test_who_asked_for_jobs_is_told_of_no_batch(client, house, receiver, post):
    register(house, receiver, "/ok", ["job.succeeded", "job.cancelled"])
    client.batches.cancel(submit(client).id)
    job = house.submit()["id"]
    house.work([job])
    post.run_until(lambda: receiver.requests, "a delivery")
    post.run_until(lambda: not post.duty.run_once(house.database, house.objects).more, "quiet")
    assert [job in got["body"] for got in receiver.requests] == [True]
