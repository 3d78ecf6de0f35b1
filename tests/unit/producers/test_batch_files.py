"""Files of requests: every line is looked at, in bounded memory, and what is wrong is told."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers import batch_files
from producers.batch_files import (
    ENDPOINT,
    MAX_ERRORS,
    MAX_LINE_BYTES,
    MAX_REQUESTS,
    BatchError,
    Checked,
    bulk_request,
    check_file,
    errors_of,
    job_error,
)
from storage.database.texts import MAX_ERROR_CHARACTERS, storable
from storage.records.bulk import BulkFormat, PartFormat
from storage.records.errors import InvalidInput
from storage.records.ids import FIRST_ID
from storage.records.jobs import BULK_PRIORITY, JobError, JobKind
from storage.records.webhooks import BATCH_LABEL


def line(custom_id: Any = "a", model: str = "m", **changes: Any) -> bytes:
    body = {"model": model, "input": {"tensor": [1]}}
    request = {"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": body} | changes
    return json.dumps(request).encode()


def check(*lines: bytes) -> Checked:
    return check_file([b"\n".join(lines)])


class TestLines:
    def test_a_good_file_is_counted_and_names_its_model(self):
        found = check(*(line(f"c{n}", "digits@prod") for n in range(100)))
        assert found == Checked(100, "digits@prod", ())

    @pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n\n"])
    def test_however_it_ends(self, end: bytes):
        assert check_file([line("a"), b"\r\n", line("b"), end]) == Checked(2, "m", ())

    def test_a_mark_of_the_byte_order_and_empty_lines_are_none(self):
        found = check_file([b"\xef\xbb\xbf" + line("a") + b"\n\n\r\n" + line("b")])
        assert found == Checked(2, "m", ())
        (error,) = check_file([line("a") + b"\n\xef\xbb\xbf" + line("b")]).errors
        assert (error.code, error.line) == ("invalid_json", 2)

    @given(st.lists(st.integers(1, 40), max_size=200), st.integers(0, 3))
    def test_however_it_is_cut_into_pieces(self, sizes: list[int], wrong: int):
        lines = [line(f"c{n}") for n in range(4)]
        lines[wrong] = b"{"
        data = b"\n".join(lines)

        def pieces() -> Iterator[bytes]:
            at = 0
            for size in sizes:
                yield data[at : at + size]
                at += size
            yield data[at:]

        assert check_file(pieces()) == check_file([data])
        (error,) = check_file(pieces()).errors
        assert (error.code, error.line) == ("invalid_json", wrong + 1)

    def test_lines_count_also_where_they_are_empty(self):
        (error,) = check(b"", line("a"), b"", b"no").errors
        assert error.line == 4

    def test_a_line_without_end_costs_no_memory(self):
        def pieces() -> Iterator[bytes]:
            yield line("a") + b"\n"
            for _ in range(200):
                yield b"x" * (1 << 20)
            yield b"\n" + line("b") + b"\n"

        tracemalloc.start()
        found = check_file(pieces())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert [(one.code, one.line) for one in found.errors] == [("line_too_long", 2)]
        assert found.requests == 2 and peak < 3 * MAX_LINE_BYTES
        (at_the_end,) = check_file([b"x" * (MAX_LINE_BYTES + 1)]).errors
        assert (at_the_end.code, at_the_end.line) == ("line_too_long", 1)

    def test_many_requests_cost_little_memory(self):
        def pieces() -> Iterator[bytes]:
            for n in range(5_000):
                yield line(f"{n:0400}") + b"\n"

        tracemalloc.start()
        found = check_file(pieces())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found == Checked(5_000, "m", ())
        assert peak < 300 * 5_000  # however long their names are


class TestWrong:
    def test_nothing_in_it(self):
        for lines in ((), (b"", b"\r", b"")):
            assert [one.code for one in check(*lines).errors] == ["empty_file"]

    def test_more_requests_than_a_batch_may_have(self):
        lines: Iterable[bytes] = (line(f"c{n}") + b"\n" for n in range(MAX_REQUESTS + 5))
        found = check_file(lines)
        assert [(one.code, one.line) for one in found.errors] == [("too_many_requests", None)]

    def test_no_more_errors_are_told_than_are_read_for(self):
        read = 0

        def pieces() -> Iterator[bytes]:
            nonlocal read
            while read < 10_000:
                read += 1
                yield b"wrong\n"

        found = check_file(pieces())
        assert [one.line for one in found.errors] == list(range(1, MAX_ERRORS + 1))
        assert read <= MAX_ERRORS + 2

    def test_a_name_that_occurs_twice_says_where_it_was(self):
        found = check(line("a"), line("b"), line("a"), line("b", "n"))
        assert [(one.line, one.code, one.param) for one in found.errors] == [
            (3, "duplicate_custom_id", "custom_id"),
            (4, "model_mismatch", "body.model"),
        ]
        assert "line 1" in found.errors[0].message and "'m'" in found.errors[1].message

    @pytest.mark.parametrize(
        "wrong",
        [
            b"[]",
            b"7",
            b"\xff",
            b" ",
            b"{}",
            b'{"custom_id":"a","method":"POST","url":"/v1/jobs","body":{"model":"m","input":{}}}',
            line(custom_id=""),
            line(custom_id="a\x00"),
            line(custom_id="x" * 513),
            line(model="No Model"),
            line(body={"model": "m", "input": {"text": "a"}, "priority": 9}),
            line(body=[]),
            b"[" * 200 + b"]" * 200,
            b"1" * 400,
        ],
    )
    def test_a_line_that_is_no_request(self, wrong: bytes):
        (error,) = check(line("first"), wrong).errors
        assert error.line == 2 and error.code and error.message

    def test_a_field_that_is_no_name_is_not_repeated_as_one(self):
        (error,) = check(line("a"), line("b", **{"x: y\n(z)": 1})).errors
        assert (error.code, error.param) == ("unknown_field", None)


class TestKept:
    """The errors of a file are the error of a job."""

    LONG = "x" * 500

    def test_they_are_read_back_as_they_were(self):
        lines = [b"{", line("a"), line("a"), line(more=1), line(url=self.LONG), line(**{"x: y": 1})]
        errors = check(*lines).errors
        assert len(errors) == 5
        assert errors_of(job_error(errors)) == list(errors)
        whole = [BatchError("empty_file", "nothing: in it")]
        assert errors_of(job_error(whole)) == whole

    @given(st.text(max_size=300), st.text(max_size=60))
    def test_whatever_is_in_them(self, name: str, field: str):
        request = {"custom_id": name, "method": "POST", "url": name, field: name}
        for data in (json.dumps(request).encode(), name.encode("utf-8", "replace")):
            found = check_file([line("first") + b"\n" + data]).errors
            assert errors_of(job_error(found)) == list(found)

    def test_the_longest_are_kept_whole(self):
        name = "n" * 40
        wrong = [line(f"c{n}", **{name: 1}, url=self.LONG) for n in range(MAX_ERRORS)]
        data = b"\n" * 49_000 + b"\n".join(wrong)
        errors = check_file([data]).errors
        assert len(errors) == MAX_ERRORS
        worst = [
            BatchError("duplicate_custom_id", "m" * batch_files.MAX_ERROR_CHARS, 50_000, name)
        ] * MAX_ERRORS
        for told in (errors, worst):
            error = job_error(told)
            assert len(error.message) < MAX_ERROR_CHARACTERS
            kept = JobError(error.code, storable(error.message))
            assert errors_of(kept) == list(told)

    def test_another_error_is_itself(self):
        assert errors_of(JobError("bad_file", "cut off")) == [BatchError("bad_file", "cut off")]


class TestRequest:
    def test_it_asks_for_a_bulk_job_that_answers_whatever_can_be(self):
        request = bulk_request(FIRST_ID, Checked(7, "digits:3", ()), {"mine": "a"})
        assert (request.kind, request.model, request.priority) == (
            JobKind.BULK,
            "digits:3",
            BULK_PRIORITY,  # and no other: its end looks for the label at this one alone
        )
        assert request.bulk is not None
        spec = request.bulk
        assert spec.input.uris == (f"forebay://files/{FIRST_ID}",)
        assert spec.input.format is BulkFormat.REQUESTS
        assert (spec.output.format, spec.output.keep) == (PartFormat.JSONL, ("custom_id",))
        assert spec.output.uri is None and spec.max_error_share == 1
        assert request.expires_in_ms == request.run_timeout_ms == 86_400_000
        key, value = BATCH_LABEL
        assert request.metadata == {"mine": "a", key: value, "openai/requests": "7"}

    def test_without_a_model_it_is_refused_with_what_is_wrong(self):
        with pytest.raises(InvalidInput, match="line 1: invalid_json: ") as refused:
            bulk_request(FIRST_ID, check(b"{"), {})
        assert (refused.value.stable_code, refused.value.field) == ("invalid_json", "input_file_id")
