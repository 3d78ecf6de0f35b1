"""Lines of requests, in the shape of batch files of OpenAI's or shorter."""

from __future__ import annotations

import json

import pytest

from tests.unit.bulk.lying import Lying
from tests.unit.bulk.reading_all import Read, read_all
from workers.bulk.reading.requests import RequestsSource


def read(*lines: object) -> Read:
    data = b"".join(
        (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines
    )
    source = RequestsSource(Lying(data, "in/batch.jsonl"), len(data), gzip=False)
    assert source.columns() == tuple(source.types()) == ("custom_id", "model", "input")
    return read_all(source)


def test_both_shapes_are_read_and_what_else_is_in_them_is_passed_over() -> None:
    found = read(
        {
            "custom_id": "one",
            "method": "POST",
            "url": "/v1/jobs",
            "body": {"model": "digits", "input": {"tensor": [1, 2.5]}, "temperature": 0},
        },
        {"custom_id": "two", "input": {"text": "ß"}, "other": 1},
        {"input": {}},
    )
    assert list(found.rows.values()) == [
        {"custom_id": "one", "model": "digits", "input": b'{"tensor":[1,2.5]}'},
        {"custom_id": "two", "model": None, "input": '{"text":"ß"}'.encode()},
        {"custom_id": None, "model": None, "input": b"{}"},
    ]
    assert not found.errors


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ([1], "the line is not an object"),
        (b"no json", "not valid JSON"),
        (b'{"input":{"a":NaN}}', "not valid JSON"),
        (b'{"input":{"a":' + b"[" * 100 + b"]" * 100 + b"}}", "nests deeper"),
        ({"custom_id": 7, "input": {}}, "custom_id 7: custom_id is not a text"),
        ({"custom_id": "a", "method": "GET", "input": {}}, "\"a\": method is not 'POST'"),
        ({"custom_id": "a", "url": "/v1/chat", "input": {}}, "\"a\": url is not '/v1/jobs'"),
        ({"custom_id": "a", "body": []}, '"a": body is not an object'),
        ({"custom_id": "a", "body": {}}, '"a": there is no input'),
        ({"custom_id": "a", "body": {"input": 1}}, '"a": input is not an object'),
        ({"custom_id": "a", "body": {"model": 1, "input": {}}}, '"a": model is not a text'),
        ({"custom_id": "a"}, '"a": a line has either a body'),
        ({"custom_id": "a", "body": {"input": {}}, "input": {}}, '"a": a line has either a body'),
    ],
)
def test_a_wrong_line_is_its_own_error_and_says_which_request_it_was(
    line: object, why: str
) -> None:
    found = read({"input": {}}, line, {"input": {}})
    (error,) = found.errors.values()
    assert error.code == "bad_request_line" and why in error.message
    assert len(found.rows) == 2
