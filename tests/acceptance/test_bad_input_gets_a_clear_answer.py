"""Every wrong request is a problem with a stable code that names the field, and loses nothing."""

from __future__ import annotations

import base64
import dataclasses
import json
import struct
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.support.caller import Caller, echo_jobs, only_output, tensor
from tests.support.zoo import grey_png

GOOD = tensor(1, 2)
PICTURE = base64.b64encode(grey_png(200)).decode()
UNKNOWN_ID = "01890000-0000-7000-8000-000000000000"


@dataclass(frozen=True)
class Wrong:
    """A request that must be refused, and how."""

    name: str
    status: int
    code: str
    field: str | None = None
    body: Any = None
    raw: bytes | None = None
    route: str = "/v1/jobs"
    method: str = "POST"
    headers: dict[str, str] = dataclasses.field(default_factory=dict)

    def send(self, caller: Caller) -> httpx.Response:
        headers = {"content-type": "application/json"} if self.method == "POST" else {}
        content = self.raw if self.body is None else json.dumps(self.body).encode()
        return caller.http.request(
            self.method, self.route, content=content, headers=headers | self.headers
        )


def job(**changes: Any) -> dict[str, Any]:
    """A good job with something changed."""
    return {"model": "echo", "input": GOOD} | changes


def raw(text: str) -> bytes:
    """A job whose first number is spelled as given."""
    return b'{"model":"echo","input":{"tensor":[' + text.encode() + b",2]}}"


def many(*jobs: dict[str, Any]) -> dict[str, Any]:
    return {"jobs": list(jobs)}


MANY = "/v1/jobs/many"
TABLE = [
    Wrong("unknown model", 404, "model_not_found", "model", job(model="nobody")),
    Wrong("unknown version", 404, "version_not_found", "model", job(model="echo:99")),
    Wrong("unknown alias", 404, "alias_not_found", "model", job(model="echo@nowhere")),
    Wrong("no name", 400, "invalid_value", "model", job(model="Echo!")),
    Wrong("model missing", 400, "missing_field", "model", {"input": GOOD}),
    Wrong("input missing", 400, "missing_field", "input", {"model": "echo"}),
    Wrong("wrong shape", 400, "wrong_shape", "input.tensor", job(input=tensor(1, 2, 3))),
    Wrong("a batch axis", 400, "wrong_shape", "input.tensor", job(input={"tensor": [[1, 2]]})),
    Wrong(
        "unknown dtype",
        400,
        "wrong_dtype",
        "input.tensor.dtype",
        job(input={"tensor": {"dtype": "complex64", "shape": [2], "b64": "AAAA"}}),
    ),
    Wrong(
        "too few bytes",
        400,
        "wrong_size",
        "input.tensor.b64",
        job(input={"tensor": {"dtype": "float32", "shape": [2], "b64": "AAAA"}}),
    ),
    Wrong("wrong form", 400, "wrong_form", "input", job(input={"text": "seven"})),
    Wrong("two forms", 400, "wrong_form", "input", job(input=GOOD | {"text": "x"})),
    Wrong("no form", 400, "invalid_value", "input", job(input={})),
    Wrong("unknown form", 400, "unknown_field", "input.sound", job(input={"sound": "x"})),
    Wrong(
        "unknown tensor name",
        400,
        "unknown_input",
        "input.inputs.middle",
        job(model="pair", input={"inputs": {"left": [1, 2], "middle": [3]}}),
    ),
    Wrong(
        "tensor missing",
        400,
        "missing_input",
        "input.inputs",
        job(model="pair", input={"inputs": {"left": [1, 2]}}),
    ),
    Wrong("NaN", 400, "invalid_json", None, raw=raw("NaN")),
    Wrong("infinity", 400, "invalid_json", None, raw=raw("-Infinity")),
    Wrong("1e999", 400, "number_out_of_range", None, raw=raw("1e999")),
    Wrong("huge integer", 400, "number_out_of_range", None, raw=raw("9" * 25)),
    Wrong("5,000 digits", 400, "number_out_of_range", None, raw=raw("9" * 5_000)),
    Wrong("a hundred deep", 400, "too_deep", None, raw=raw("[" * 100 + "]" * 100)),
    Wrong("very deep", 400, "too_deep", None, raw=raw("[" * 100_000 + "]" * 100_000)),
    Wrong("deep and open", 400, None, None, raw=raw("[" * 100_000)),  # type: ignore[arg-type]
    Wrong("17 MiB", 413, "too_large", None, raw=raw("1," * (9 << 20))),
    Wrong("half a body", 400, "invalid_json", None, raw=b'{"model": "echo"'),
    Wrong("no body", 400, "invalid_json", None, raw=b""),
    Wrong("not UTF-8", 400, "invalid_json", None, raw=b'{"model":"\xff"}'),
    Wrong("a list", 400, "invalid_type", None, raw=b"[]"),
    Wrong("a number", 400, "invalid_type", None, raw=b"7"),
    Wrong("text with NUL", 400, "bad_text", "input.text", job(model="text", input={"text": "a\0"})),
    Wrong("custom_id with NUL", 400, "invalid_value", "custom_id", job(custom_id="a\0b")),
    Wrong("metadata with NUL", 400, "invalid_value", "metadata.k", job(metadata={"k": "a\0"})),
    Wrong("metadata of numbers", 400, "invalid_type", "metadata.k", job(metadata={"k": 1})),
    Wrong("unknown field", 400, "unknown_field", "colour", job(colour="red")),
    Wrong("priority 10", 400, "out_of_range", "priority", job(priority=10)),
    Wrong("priority 'high'", 400, "invalid_type", "priority", job(priority="high")),
    Wrong("priority true", 400, "invalid_type", "priority", job(priority=True)),
    Wrong("negative expiry", 400, "out_of_range", "expires_in_s", job(expires_in_s=-1)),
    Wrong("no attempts", 400, "out_of_range", "max_attempts", job(max_attempts=0)),
    Wrong("kind of no kind", 400, "invalid_value", "kind", job(kind="guess")),
    Wrong("evaluation of an input", 400, "unknown_field", "input.tensor", job(kind="evaluation")),
    Wrong(
        "evaluation without labels",
        422,
        "no_labels",
        "evaluation.label",
        job(kind="evaluation", input={"uri": "s3://b/k.csv", "format": "csv"}),
    ),
    Wrong("output not built", 422, "not_built", "output", job(output={"uri": "s3://b/k"})),
    Wrong("webhook of ours", 400, "bad_webhook_url", "webhook", job(webhook="http://10.0.0.1/")),
    Wrong("webhook misspelled", 400, "unknown_field", "webhook.uri", job(webhook={"uri": ""})),
    Wrong(
        "a file of the host",
        400,
        "ref_not_allowed",
        "input.ref",
        job(input={"ref": "file:///etc/passwd"}),
    ),
    Wrong(
        "an address inside",
        400,
        "ref_not_allowed",
        "input.items[1].ref",
        job(input={"items": [GOOD, {"ref": "http://169.254.169.254/latest"}]}),
    ),
    Wrong(
        "unknown file",
        422,
        "file_not_found",
        "input.ref",
        job(input={"ref": f"forebay://files/{UNKNOWN_ID}"}),
    ),
    Wrong("no jobs", 400, "invalid_value", "jobs", many(), route=MANY),
    Wrong("10,001 jobs", 413, "too_many_jobs", "jobs", many(*[job()] * 10_001), route=MANY),
    Wrong(
        "1,025 items", 413, "too_many_items", "input.items", job(input={"items": [GOOD] * 1_025})
    ),
    Wrong(
        "a custom_id twice",
        400,
        "duplicate_custom_id",
        "jobs[2].custom_id",
        many(job(custom_id="a"), job(custom_id="b"), job(custom_id="a")),
        route=MANY,
    ),
    Wrong(
        "one wrong of three",
        400,
        "wrong_shape",
        "jobs[1].input.tensor",
        many(job(), job(input=tensor(1)), job()),
        route=MANY,
    ),
    Wrong(
        "a form",
        415,
        "unsupported_media_type",
        None,
        raw=b"model=echo",
        headers={"content-type": "application/x-www-form-urlencoded"},
    ),
    Wrong(
        "compressed",
        415,
        "unsupported_media_type",
        None,
        job(),
        headers={"content-encoding": "gzip"},
    ),
    Wrong(
        "spaces in the key",
        400,
        "invalid_value",
        "Idempotency-Key",
        job(),
        headers={"idempotency-key": "a b"},
    ),
    Wrong("unknown job", 404, "job_not_found", None, route=f"/v1/jobs/{UNKNOWN_ID}", method="GET"),
    Wrong("no id", 404, "job_not_found", None, route="/v1/jobs/7", method="GET"),
    Wrong("no route", 404, "no_such_route", None, route="/v2/things", method="GET"),
    Wrong("wrong method", 405, "method_not_allowed", None, route="/v1/jobs", method="DELETE"),
    Wrong(
        "a wait of words",
        400,
        "invalid_type",
        "wait",
        route=f"/v1/jobs/{UNKNOWN_ID}?wait=soon",
        method="GET",
    ),
    Wrong(
        "unknown filter",
        400,
        "unknown_parameter",
        "colour",
        route="/v1/jobs?colour=red",
        method="GET",
    ),
    Wrong("no limit", 400, "out_of_range", "limit", route="/v1/jobs?limit=0", method="GET"),
]


@pytest.mark.parametrize("wrong", TABLE, ids=lambda wrong: wrong.name)
def test_it_is_a_problem_with_a_code_and_a_field(caller: Caller, wrong: Wrong) -> None:
    answer = wrong.send(caller)
    assert answer.status_code == wrong.status, answer.text[:1000]
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == wrong.status
    assert problem["code"] == wrong.code or (wrong.code is None and problem["code"])
    assert problem.get("field") == wrong.field
    assert problem["detail"]
    assert len(answer.text) < 20_000
    for trace in ("Traceback", 'File "', "sqlalchemy", "psycopg"):
        assert trace not in answer.text


def test_an_error_of_many_names_every_wrong_index_and_stores_none(caller: Caller) -> None:
    mark = {"metadata": {"wrong": "many"}}
    jobs = [
        job(**mark),
        job(input=tensor(1), **mark),
        job(**mark),
        job(input={"text": "x"}, **mark),
    ]
    answer = caller.http.post(MANY, json=many(*jobs))
    assert answer.status_code == 400
    assert [entry["field"] for entry in answer.json()["errors"]] == [
        "jobs[1].input.tensor",
        "jobs[3].input",
    ]
    assert caller.http.get("/v1/jobs", params={"metadata.wrong": "many"}).json()["data"] == []


def floats(*numbers: float) -> dict[str, Any]:
    """A binary tensor, which can hold what JSON cannot."""
    content = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
    return {"tensor": {"dtype": "float32", "shape": [len(numbers)], "b64": content}}


def huge_picture() -> str:
    """A PNG of a few hundred bytes that says it is 60,000 pixels wide and high."""
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    return base64.b64encode(png + chunk(b"IEND", b"")).decode()


FOUND_LATER = {
    "a NaN in bytes": ("echo", floats(1, float("nan")), "not_finite"),
    "an infinity in bytes": ("echo", floats(float("inf"), 1), "not_finite"),
    "a word among numbers": ("echo", {"tensor": [1, "two"]}, "wrong_dtype"),
    "a null among numbers": ("echo", {"tensor": [1, None]}, "wrong_dtype"),
    "ragged": ("echo", {"tensor": [1, [2]]}, "wrong_shape"),
    "300 in a uint8": (
        "pair",
        {"inputs": {"left": [1, 2], "right": [300]}},
        "out_of_range",
    ),
    "half a number in a uint8": (
        "pair",
        {"inputs": {"left": [1, 2], "right": [0.5]}},
        "wrong_dtype",
    ),
    "a truncated picture": ("picture", {"image": PICTURE[:-40]}, "bad_image"),
    "no picture": ("picture", {"image": base64.b64encode(b"hello").decode()}, "bad_image"),
    "no base64": ("picture", {"image": "?!"}, "bad_base64"),
    "a huge picture": ("picture", {"image": huge_picture()}, "image_too_large"),
}


def test_what_only_a_worker_can_see_fails_that_one_job(caller: Caller) -> None:
    wrong = [
        {"model": model, "input": value, "custom_id": name}
        for name, (model, value, _) in FOUND_LATER.items()
    ]
    good = echo_jobs("echo", range(40))
    mixed = [*good[:20], *wrong, *good[20:]]
    accepted = caller.submit_many(mixed)
    caller.finish_group(accepted["group"])
    lines = {line["custom_id"]: line for line in caller.results(accepted["group"])}
    found = {
        name: (lines[name]["state"], (lines[name]["error"] or {}).get("code"))
        for name in FOUND_LATER
    }
    assert found == {name: ("failed", code) for name, (_, _, code) in FOUND_LATER.items()}
    for name in FOUND_LATER:
        assert "Traceback" not in lines[name]["error"]["message"]
    for number in range(40):
        assert only_output(lines[f"n{number}"]["result"]) == [number, -number]
    failed = next(entry["id"] for entry in accepted["jobs"] if entry["custom_id"] == "ragged")
    answer = caller.http.get(f"/v1/jobs/{failed}/result")
    assert (answer.status_code, answer.json()["code"]) == (409, "job_failed")
    assert caller.job(failed)["error"]["code"] == "wrong_shape"


def test_after_all_of_it_the_service_works(caller: Caller) -> None:
    assert only_output(caller.ask("echo", GOOD)) == [1, 2]
