"""Batches, by the real client: from the file to the outputs, and every way to end."""

from __future__ import annotations

import json
import threading

import openai
import pytest

from producers.batch_files import MAX_ERRORS
from storage.clock import SystemClock
from storage.database import Database
from storage.records.bulk import ShardNote, spec_of
from storage.records.jobs import JobError
from tests.integration.openai.batch_hand import (
    BATCH,
    BatchHand,
    answer_of,
    job_id_of,
    jsonl,
    line,
    open_client,
    submit,
    upload,
)


def lines_of(client, file_id):
    return [json.loads(one) for one in client.files.content(file_id).text.splitlines()]


class Later(SystemClock):
    def __init__(self, by_ms):
        self._by_ms = by_ms

    def now_ms(self):
        return super().now_ms() + self._by_ms


class TestFromFileToFile:
    def test_a_batch_goes_through_its_states_to_its_outputs(self, client, house):
        batch = submit(client, 5, metadata={"night": "7"})
        assert batch.id.startswith("batch_") and batch.object == "batch"
        assert (batch.endpoint, batch.completion_window) == ("/v1/jobs", "24h")
        assert (batch.status, batch.model, batch.metadata) == (
            "validating",
            "vectors:1",
            {"night": "7"},
        )
        assert batch.request_counts.model_dump() == {"total": 5, "completed": 0, "failed": 0}
        assert batch.expires_at - batch.created_at == 86_400
        assert (batch.output_file_id, batch.error_file_id, batch.errors) == (None, None, None)

        hand = BatchHand(house, job_id_of(batch)).claim()
        assert client.batches.retrieve(batch.id).status == "validating"
        hand.plan()
        assert client.batches.retrieve(batch.id).status == "in_progress"
        hand.score(wrong=["c1"])
        halfway = client.batches.retrieve(batch.id)
        assert halfway.status == "in_progress" and halfway.in_progress_at >= batch.created_at
        counts = halfway.request_counts.model_dump()
        assert counts == {"total": 5, "completed": 1, "failed": 1}
        # What is in the files changes until it is over.
        assert (halfway.output_file_id, halfway.error_file_id) == (None, None)
        hand.score(), hand.score()
        assert client.batches.retrieve(batch.id).status == "finalizing"
        hand.finish()

        done = client.batches.retrieve(batch.id)
        assert done.status == "completed" and done.completed_at >= done.in_progress_at
        counts = done.request_counts.model_dump()
        assert counts == {"total": 5, "completed": 4, "failed": 1}
        assert done.input_file_id == batch.input_file_id
        outputs = lines_of(client, done.output_file_id)
        assert [one["custom_id"] for one in outputs] == ["c0", "c2", "c3", "c4"]
        for one in outputs:
            assert set(one) == {"id", "custom_id", "response", "error"} and one["error"] is None
            assert one["id"].startswith("batch_req_") and one["response"]["status_code"] == 200
            assert one["response"]["body"] == {"outputs": {"d": answer_of(one["custom_id"])}}
            assert one["response"]["request_id"] == one["id"]
        (wrong,) = lines_of(client, done.error_file_id)
        assert (wrong["custom_id"], wrong["response"]) == ("c1", None)
        assert wrong["error"] == {"code": "wrong_shape", "message": "no"}
        assert len({one["id"] for one in [*outputs, wrong]}) == 5
        for file_id, name in ((done.output_file_id, "output"), (done.error_file_id, "errors")):
            file = client.files.retrieve(file_id)
            assert (file.id, file.purpose) == (file_id, "batch_output") and file.bytes > 0
            assert file.filename == f"{batch.id}_{name}.jsonl"
            headers = client.files.content(file_id).response.headers
            assert headers["content-disposition"] == f"attachment; filename={file.filename}"

    def test_answers_have_labels_where_the_model_has(self, client, house):
        house.push("animals", labels=["cat", "dog"])
        body = {"model": "animals@best", "input": {"tensor": [1, 2, 3, 4]}}
        house.http.put("/v1/models/animals/aliases/best", json={"version": 1}).raise_for_status()
        file_id = upload(client, [line("a", body=body)])
        batch = client.batches.create(input_file_id=file_id, **BATCH)
        assert batch.model == "animals:1"
        BatchHand(house, job_id_of(batch)).all()
        done = client.batches.retrieve(batch.id)
        (one,) = lines_of(client, done.output_file_id)
        assert one["response"]["body"] == {
            "outputs": {"d": answer_of("a")},
            "label": "cat",
            "top": [{"label": "cat", "score": 0.75}],
        }

    def test_all_wrong_is_completed_all_the_same(self, client, house):
        batch = submit(client, 3)
        BatchHand(house, job_id_of(batch)).all(wrong=["c0", "c1", "c2"])
        done = client.batches.retrieve(batch.id)
        assert (done.status, done.output_file_id) == ("completed", None)
        assert [one["custom_id"] for one in lines_of(client, done.error_file_id)] == [
            "c0",
            "c1",
            "c2",
        ]
        with pytest.raises(openai.NotFoundError):
            client.files.content(done.error_file_id.replace("err", "out"))

    def test_ten_thousand_come_in_their_order_and_by_pieces(self, client, house):
        batch = submit(client, 10_000)
        hand = BatchHand(house, job_id_of(batch), each=1_500)
        hand.all(wrong=[f"c{n}" for n in range(0, 10_000, 7)])
        done = client.batches.retrieve(batch.id)
        outputs, wrong = (
            lines_of(client, file_id) for file_id in (done.output_file_id, done.error_file_id)
        )
        assert [one["custom_id"] for one in outputs] == [f"c{n}" for n in range(10_000) if n % 7]
        assert [one["custom_id"] for one in wrong] == [f"c{n}" for n in range(0, 10_000, 7)]
        assert len({one["id"] for one in outputs + wrong}) == 10_000
        assert client.files.retrieve(done.output_file_id).bytes > 500_000

    def test_the_job_behind_it_says_what_it_is_to_do(self, client, house):
        batch = submit(client, 2)
        job = house.http.get(f"/v1/jobs/{job_id_of(batch)}").json()
        assert (job["kind"], job["priority"]) == ("bulk", 2)
        with house.database.read() as tx:
            spec = spec_of(tx.jobs.payload("default", job["id"]))
        assert (spec.input.format, spec.output.format, spec.output.uri) == (
            "requests",
            "jsonl",
            None,
        )
        assert spec.output.keep == ("custom_id",) and spec.max_error_share == 1


class TestEnds:
    def test_cancelled_while_it_waits(self, client):
        batch = client.batches.cancel(submit(client).id)
        assert batch.status == "cancelled"
        assert batch.cancelled_at >= batch.cancelling_at >= batch.created_at
        assert client.batches.cancel(batch.id) == batch  # it stays as it is

    def test_cancelled_while_it_runs_and_what_is_scored_is_kept(self, client, house):
        batch = submit(client, 6)
        hand = BatchHand(house, job_id_of(batch)).claim().plan()
        hand.score(wrong=["c1"])
        with house.database.begin() as tx:  # somebody is at another shard
            shard = tx.bulk.claim(hand.session, "default")
            tx.bulk.note(hand.session, [ShardNote(*shard.key, rows=1, failed=1, device_ms=1)])
        asked = client.batches.cancel(batch.id)
        assert asked.status == "cancelling" and asked.cancelling_at and not asked.cancelled_at
        hand.finish(JobError("stopped", "it was asked to"))
        over = client.batches.retrieve(batch.id)
        assert over.status == "cancelled" and over.cancelled_at >= over.cancelling_at
        counts = over.request_counts.model_dump()
        assert counts == {"total": 6, "completed": 1, "failed": 1}
        assert [one["custom_id"] for one in lines_of(client, over.output_file_id)] == ["c0"]
        assert [one["custom_id"] for one in lines_of(client, over.error_file_id)] == ["c1"]

    def test_failed_for_a_reason_of_its_job(self, client, house):
        batch = submit(client)
        BatchHand(house, job_id_of(batch)).claim().finish(JobError("bad_file", "it is cut off"))
        over = client.batches.retrieve(batch.id)
        assert over.status == "failed" and over.failed_at and over.errors.object == "list"
        assert [(one.code, one.message) for one in over.errors.data] == [
            ("bad_file", "it is cut off")
        ]

    def test_expired_before_and_after_it_was_begun(self, client, house):
        waiting, running = submit(client), submit(client)
        hand = BatchHand(house, job_id_of(running)).claim().plan()
        hand.score()
        with house.database.begin() as tx:
            assert tx.sessions.renew(hand.session, 2 * 86_400_000, 1.0)
        later = Database(house.database._engines, Later(86_400_000 + 60_000))
        for _ in range(2):
            with later.begin() as tx:
                tx.jobs.expire()
                tx.jobs.time_out()
        for batch, done in ((waiting, 0), (running, 2)):
            over = client.batches.retrieve(batch.id)
            assert (over.status, bool(over.expired_at)) == ("expired", True)
            assert over.errors is None and over.request_counts.completed == done
            assert bool(over.output_file_id) == bool(done)


class TestLists:
    def test_batches_are_listed_newest_first_and_only_batches(self, client, house):
        made = [submit(client, 1).id for _ in range(5)]
        house.submit()
        bulk = {"kind": "bulk", "model": "vectors", "input": {"uri": "forebay://files/x"}}
        file = house.http.post("/v1/files", files={"file": ("a", b"{}")}).json()
        bulk["input"] = {"uri": file["uri"], "format": "requests"}
        job = house.http.post("/v1/jobs", json=bulk).json()
        assert [batch.id for batch in client.batches.list(limit=2)] == made[::-1]
        page = client.batches.list(limit=2, after=made[2])
        assert ([one.id for one in page.data], page.has_more) == ([made[1], made[0]], False)
        with pytest.raises(openai.NotFoundError) as missing:
            client.batches.retrieve("batch_" + job["id"].replace("-", ""))
        assert missing.value.code == "batch_not_found"
        for name in ("batch_" + "0" * 32, "batch_x", made[0].removeprefix("batch_")):
            for call in (client.batches.retrieve, client.batches.cancel):
                with pytest.raises(openai.NotFoundError):
                    call(name)
        with pytest.raises(openai.BadRequestError):
            client.batches.list(after="batch_x")

    def test_tenants_never_meet(self, client, house):
        house.push(tenant="other")
        mine = submit(client)
        BatchHand(house, job_id_of(mine)).all()
        done = client.batches.retrieve(mine.id)
        with open_client(house, house.key_for("other")) as other:
            theirs = submit(other)
            assert [batch.id for batch in other.batches.list()] == [theirs.id]
            for call, name in (
                (other.batches.retrieve, mine.id),
                (other.batches.cancel, mine.id),
                (other.files.content, done.output_file_id),
                (other.files.retrieve, done.output_file_id),
            ):
                with pytest.raises(openai.NotFoundError):
                    call(name)
            with pytest.raises(openai.NotFoundError):
                other.batches.create(input_file_id=done.input_file_id, **BATCH)

    def test_nobody_gives_the_label_of_a_batch_by_hand(self, client, house):
        job = {"model": "vectors", "input": {"tensor": [1, 2, 3, 4]}}
        answer = house.http.post("/v1/jobs", json={**job, "metadata": {"openai/batch": "true"}})
        assert answer.status_code == 400
        with pytest.raises(openai.BadRequestError):
            submit(client, metadata={"openai/requests": "1"})


class TestWrongFiles:
    @pytest.mark.parametrize(
        ("wrong", "code", "param"),
        [
            (b"{", "invalid_json", None),
            (b'"text"', "invalid_type", None),
            (line(method="GET"), "invalid_value", "method"),
            (line(url="/v1/chat/completions"), "invalid_value", "url"),
            (line(body={"model": "vectors"}), "missing_field", "body.input"),
            (line(body={"input": {"text": "a"}}), "missing_field", "body.model"),
            (line(more=1), "unknown_field", "more"),
            (line("c0"), "duplicate_custom_id", "custom_id"),
            (line(custom_id=7), "invalid_type", "custom_id"),
            (
                line(body={"model": "other", "input": {"text": "a"}}),
                "model_mismatch",
                "body.model",
            ),
        ],
    )
    def test_a_wrong_line_fails_the_batch_and_is_named(self, client, wrong, code, param):
        file_id = upload(client, [line("c0"), line("c1"), wrong, line("c3")])
        made = client.batches.create(input_file_id=file_id, **BATCH)
        batch = client.batches.retrieve(made.id)
        assert batch == made and batch.status == "failed" and batch.failed_at
        assert batch.input_file_id == file_id
        (error,) = batch.errors.data
        assert (error.code, error.line, error.param) == (code, 3, param)
        assert error.message
        assert batch.request_counts.model_dump() == {"total": 0, "completed": 0, "failed": 0}
        assert (batch.output_file_id, batch.error_file_id) == (None, None)
        assert [one.status for one in client.batches.list()] == ["failed"]
        assert client.batches.cancel(batch.id).status == "failed"

    def test_many_wrong_lines_are_told_together_and_not_without_end(self, client):
        lines = [line("c"), *(line(f"c{n}", method="PUT") for n in range(50))]
        batch = client.batches.create(input_file_id=upload(client, lines), **BATCH)
        told = batch.errors.data
        assert [one.line for one in told] == [2 + n for n in range(MAX_ERRORS)]
        assert all(one.message and one.param == "method" for one in told)

    def test_nothing_is_queued_for_it(self, client, house):
        lines = [line("c"), line("c")]
        batch = client.batches.create(input_file_id=upload(client, lines), **BATCH)
        job = house.http.get(f"/v1/jobs/{job_id_of(batch)}").json()
        assert (job["state"], job["error"]["code"]) == ("failed", "invalid_batch")
        assert job["error"]["message"].startswith("line 2, custom_id: duplicate_custom_id: ")
        with house.database.read() as tx:
            heads = tx.backlog.heads("default", "default", 100)
        assert heads == []

    @pytest.mark.parametrize(
        ("lines", "code"),
        [
            ([], "empty_file"),
            ([b"", b""], "empty_file"),
            ([b"no json"], "invalid_json"),
            ([line(body={"model": "none", "input": {"text": "a"}})], "model_not_found"),
        ],
    )
    def test_without_a_model_there_is_no_batch(self, client, lines, code):
        file_id = upload(client, lines)
        with pytest.raises(openai.APIStatusError) as refused:
            client.batches.create(input_file_id=file_id, **BATCH)
        assert refused.value.code == code
        assert client.batches.list().data == []

    def test_what_a_batch_is_made_of_is_checked(self, client):
        file_id = upload(client, [line()])
        for changes, param in (
            ({"endpoint": "/v1/chat/completions"}, "endpoint"),
            ({"completion_window": "1h"}, "completion_window"),
            ({"metadata": {"a": "x" * 600}}, "metadata.a"),
        ):
            with pytest.raises(openai.BadRequestError) as wrong:
                client.batches.create(input_file_id=file_id, **{**BATCH, **changes})
            assert wrong.value.param == param
        with pytest.raises(openai.NotFoundError) as missing:
            client.batches.create(input_file_id="file-" + "0" * 32, **BATCH)
        assert (missing.value.code, missing.value.param) == ("file_not_found", "input_file_id")
        expiring = {"anchor": "created_at", "seconds": 3600}
        assert client.batches.create(
            input_file_id=file_id, output_expires_after=expiring, **BATCH
        ).id

    def test_an_erased_file_is_gone(self, client, house):
        file_id = upload(client, [line()])
        with house.database.read() as tx:
            (file,) = tx.files.list("default", 10)
        house.objects.delete([file.object_key])
        with pytest.raises(openai.APIStatusError) as gone:
            client.batches.create(input_file_id=file_id, **BATCH)
        assert (gone.value.status_code, gone.value.code) == (410, "file_gone")


class TestRepeats:
    def test_one_key_is_one_batch(self, client, house):
        file_id = upload(client, [line("a")])
        bad_id = upload(client, [line("a"), line("a")])
        for one in (file_id, bad_id):
            headers = {"Idempotency-Key": f"k{one}"}
            first, again = (
                client.batches.create(input_file_id=one, extra_headers=headers, **BATCH)
                for _ in range(2)
            )
            assert first.id == again.id
        assert len(client.batches.list().data) == 2
        with pytest.raises(openai.UnprocessableEntityError) as other:
            client.batches.create(
                input_file_id=bad_id, extra_headers={"Idempotency-Key": f"k{file_id}"}, **BATCH
            )
        assert other.value.code == "idempotency_mismatch"

    def test_at_the_same_time_as_well(self, client):
        bad_id = upload(client, [line("a"), line("a")])
        made: list[str] = []

        def create():
            headers = {"Idempotency-Key": "k"}
            batch = client.batches.create(input_file_id=bad_id, extra_headers=headers, **BATCH)
            made.append(batch.id)

        threads = [threading.Thread(target=create) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(made) == 4 and len(set(made)) == 1
        assert len(client.batches.list().data) == 1


def test_a_line_of_many_megabytes_is_read_by_pieces(client):
    big = jsonl(
        [line("a"), line("b", body={"model": "vectors", "input": {"text": "x" * (3 << 20)}})]
    )
    file = client.files.create(file=("in.jsonl", big), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, **BATCH)
    assert (batch.status, batch.request_counts.total) == ("validating", 2)
