"""Bad files and wrong places end a bulk job with a code and a message that names them; bad rows are
lines of the error file, and the rest is scored.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from typing import Any

import pytest

from tests.acceptance.conftest import slow_files
from tests.support.bulk_desk import Desk
from tests.support.bulk_files import csv_lines, json_lines, lines, npy, parquet, vectors
from tests.support.caller import Caller

TOO_LONG = 20 << 20
GOOD = {"question": [[1.0, 2.0], [3.0, 4.0]], "id": [1, 2]}


def test_a_wrong_input_fails_its_job_and_is_named(desk: Desk) -> None:
    """All at once; each job of a kind of its own, with what its message has to say."""
    put = desk.input.write
    whole = parquet({"question": vectors(range(5_000)), "id": list(range(5_000))}, 1_000)
    hurt = bytearray(whole)
    hurt[len(whole) // 2 : len(whole) // 2 + 2_000] = bytes(2_000)
    csv, _ = lines(csv_lines(["x", "y"], [[n, -n] for n in range(5_000)]))
    put("two/0.parquet", parquet(GOOD))
    put("two/1.parquet", parquet({"question": [[1.0, 2.0]]}))
    put("mixed/0.parquet", parquet(GOOD))
    put("mixed/1.csv", csv)
    good = put("good.parquet", parquet(GOOD))
    uri = desk.input.uri
    cases: list[tuple[Mapping[str, Any], str, tuple[str, ...]]] = [
        ({"uri": uri("nothing.parquet")}, "input_not_found", (uri("nothing.parquet"),)),
        ({"uri": uri("nothing/*.parquet")}, "input_empty", (uri("nothing/*.parquet"),)),
        ({"uri": put("0.parquet", b"")}, "bad_file", (uri("0.parquet"),)),
        ({"uri": put("0.csv", b""), "columns": ["x"]}, "input_empty", (uri("0.csv"),)),
        ({"uri": put("0.jsonl", b"")}, "input_empty", (uri("0.jsonl"),)),
        (
            {"uri": put("none.parquet", parquet({"question": vectors([])}))},
            "input_empty",
            (uri("none.parquet"),),
        ),
        (
            {"uri": put("none.csv", b"x,y\n"), "columns": ["x", "y"]},
            "input_empty",
            (uri("none.csv"),),
        ),
        ({"uri": good, "columns": ["quest"]}, "unknown_column", ("'quest'", "question", "id")),
        ({"uri": good, "columns": ["id", "id", "id"]}, "wrong_columns", ("question", "3")),
        ({"uri": good, "where": [["ids", "=", 1]]}, "unknown_column", ("'ids'",)),
        (
            {"uri": put("lacks.parquet", parquet({"q": [[1.0, 2.0]], "id": [1]}))},
            "missing_input",
            ("'question'", "q", "id"),
        ),
        ({"uri": uri("two/*.parquet")}, "unknown_column", (uri("two/1.parquet"), "'id'")),
        ({"uri": uri("mixed/*")}, "mixed_formats", ("parquet", "csv")),
        ({"uri": put("half.parquet", whole[:-3_000])}, "bad_file", (uri("half.parquet"),)),
        ({"uri": put("hurt.parquet", bytes(hurt))}, "bad_file", (uri("hurt.parquet"),)),
        ({"uri": put("text.parquet", b"x,y\n1,2\n")}, "bad_file", (uri("text.parquet"),)),
        ({"uri": put("half.npy", npy(vectors(range(99)))[:-50])}, "bad_file", (uri("half.npy"),)),
        (
            {"uri": put("half.csv.gz", gzip.compress(csv)[:-2_000]), "columns": ["x", "y"]},
            "bad_file",
            (uri("half.csv.gz"),),
        ),
        ({"uri": put("data.bin", b"1234")}, "unknown_format", ("data.bin", "format")),
    ]
    put("types/0.parquet", parquet(GOOD))
    put("types/1.parquet", parquet({"question": [[1.0, 2.0]], "id": ["one"]}))
    types = desk.submit("echo", {"uri": uri("types/*")}, {"to": "types", "keep": ["id"]})
    jobs = [desk.submit("echo", input, {"to": f"out/{n}"}) for n, (input, *_) in enumerate(cases)]
    for job, (input, code, words) in zip(jobs, cases, strict=True):
        found, message = desk.error(job)
        assert found == code, (input, found, message)
        assert all(word in message for word in words), (input, message)
    found, message = desk.error(types)
    assert (
        found == "mixed_types" and "'id'" in message and "string" in message and "int64" in message
    )
    left = [name for name in desk.output.names() if not name.endswith("_manifest.partial.json")]
    assert all("part-" in name for name in left), left


def test_a_bad_row_is_one_line_and_the_rest_is_scored(desk: Desk, caller: Caller) -> None:
    """Wrong quotes, bytes that are no UTF-8, a line without end, gaps and other types."""
    header = csv_lines(["name", "x", "y"], [["ünder", n, -n] for n in range(40)])
    made = {3: b'in"ner,2,-2', 9: b"\xff\xfe,8,-8", 20: b'"open,19,-19', 30: b"a,b,-29"}
    text, starts = lines([made.get(n, line) for n, line in enumerate(header)])
    csv = {
        "uri": desk.input.write("rows.csv", text),
        "columns": ["x", "y"],
    }
    long = b'{"question": [1, 2], "pad": "' + b"x" * TOO_LONG + b'"}'
    given = json_lines([{"question": [n, -n]} for n in range(40)])
    odd = {4: b'{"question": "text"}', 5: b'{"question": [1, {}]}', 6: b"[]", 7: b"\x00", 8: long}
    data, begins = lines([odd.get(n, line) for n, line in enumerate(given)])
    jsonl = {"uri": desk.input.write("rows.jsonl", data)}
    share = {"on_error": {"max_share": 0.5}}
    jobs = [
        desk.submit("echo", csv, {"to": "csv", "keep": ["name"]}, **share),
        desk.submit("echo", jsonl, {"to": "jsonl"}, **share),
    ]
    first, second = (desk.outcome(job) for job in jobs)
    assert first.codes() == {
        f"0:{starts[3]}": "bad_quote",
        f"0:{starts[9]}": "bad_utf8",
        f"0:{starts[20]}": "bad_quote",
        f"0:{starts[30]}": "wrong_type",
    }
    assert first.predictions() == {
        f"0:{starts[n + 1]}": [n, -n] for n in range(40) if n + 1 not in made
    }
    assert second.codes() == {
        f"0:{begins[4]}": "wrong_type",
        f"0:{begins[5]}": "wrong_type",
        f"0:{begins[6]}": "bad_json",
        f"0:{begins[7]}": "bad_json",
        f"0:{begins[8]}": "line_too_long",
    }
    assert second.predictions() == {f"0:{begins[n]}": [n, -n] for n in range(40) if n not in odd}


def test_an_output_is_never_written_over_unasked(desk: Desk, caller: Caller) -> None:
    input = {"uri": desk.input.write("good.parquet", parquet(GOOD))}
    first = desk.outcome(desk.submit("echo", input, {"to": "out"}))
    before = {name: desk.output.read(name) for name in desk.output.names()}
    code, message = desk.error(desk.submit("echo", input, {"to": "out"}))
    assert code == "output_exists" and desk.output.uri("out") in message
    assert {name: desk.output.read(name) for name in desk.output.names()} == before
    again = desk.outcome(desk.submit("echo", input, {"to": "out", "overwrite": True}))
    assert again.predictions() == first.predictions()
    assert again.manifest["job"] != first.manifest["job"]


def test_where_nothing_may_be_written_is_found_before_a_row_is_scored(
    desk: Desk, caller: Caller
) -> None:
    uri = desk.both.write("in/good.parquet", parquet(GOOD))
    listed = desk.output.uri("x")
    refused = [
        (listed.replace("/out/", "/elsewhere/"), "output_not_allowed"),
        (listed.replace("/out/", "/in/"), "output_not_allowed"),
        (desk.both.uri("in"), "output_in_input"),
        (desk.both.uri("in/good.parquet/under"), "output_in_input"),
        (desk.both.uri(), "output_in_input"),
    ]
    for output, code in refused:
        body = {"kind": "bulk", "model": "echo", "input": {"uri": uri}, "output": {"uri": output}}
        answer = caller.http.post("/v1/jobs", json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, code), (output, answer.text)
        assert answer.json()["field"] == "output.uri"
    body = {"uri": uri, "columns": {"quest": "id"}}
    answer = caller.http.post("/v1/jobs", json={"kind": "bulk", "model": "echo", "input": body})
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown_input")
    apart = caller.submit("echo", {"uri": uri}, kind="bulk", output={"uri": desk.both.uri("out")})
    assert caller.finish(apart["id"])["state"] == "succeeded"


def test_a_place_that_may_only_be_read_is_found_before_a_row_is_scored(desk: Desk) -> None:
    sealed = desk.shelves.sealed
    if sealed is None:
        pytest.skip("there is no place here that the service may read and not write")
    input = {"uri": desk.input.write("good.parquet", parquet(GOOD))}
    job = desk.submit("echo", input, {"uri": sealed.uri("run")})
    code, message = desk.error(job)
    assert code == "output_not_accessible"
    assert "cannot be written" in message and "sealed" in message
    assert desk.parts(job) == [] and desk.progress(job)["rows_done"] == 0


def test_a_file_that_changes_meanwhile_is_never_scored_in_part(desk: Desk) -> None:
    input = slow_files(desk, 16, 64)
    last = "slow/15.parquet"
    job = desk.submit("slow_echo", input, {"to": "out"})
    desk.until_some_rows(job)
    desk.input.write(last, parquet({"id": list(range(64)), "question": vectors(range(64))}))
    code, message = desk.error(job)
    assert code == "file_changed" and desk.input.uri(last) in message
    assert not any(part["file"] == desk.input.uri(last) for part in desk.parts(job))
