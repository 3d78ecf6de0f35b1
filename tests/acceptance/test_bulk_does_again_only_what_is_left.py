"""What failed can be done again: the shards that are left, or the wrong rows alone. What is done is
kept, also of a run that stops by itself.
"""

from __future__ import annotations

from tests.acceptance.conftest import slow_files
from tests.support.bulk_desk import Desk
from tests.support.bulk_files import json_lines, lines, parquet, vectors
from tests.support.caller import Caller
from tests.support.zoo import grey_png

FILES, ROWS = 16, 64
WELL, ILL = 1_200, 900


def test_a_run_that_failed_goes_on_where_it_was(desk: Desk, caller: Caller) -> None:
    input = slow_files(desk, FILES, ROWS)
    last = f"slow/{FILES - 1:02}.parquet"
    job = desk.submit("slow_echo", input, {"to": "out", "format": "jsonl"})
    desk.until_some_rows(job)
    desk.input.move(last, "away")
    code, message = desk.error(job)
    assert code == "input_not_found" and desk.input.uri(last) in message
    kept = desk.parts(job)
    partial = desk.manifest(job)
    assert not partial["complete"] and partial["error"] == {"code": code, "message": message}
    assert {one["name"] for one in partial["parts"]} == {one["name"] for one in kept}

    desk.input.move("away", last)
    answer = caller.http.post(f"/v1/jobs/{job}/retry")
    assert answer.status_code == 202, answer.text
    outcome = desk.outcome(answer.json()["id"])
    numbers = sorted(row["prediction"][0] for row in outcome.rows.values())
    assert numbers == list(range(FILES * ROWS))
    parts = {one["name"]: one for one in outcome.manifest["parts"]}
    assert all(parts[one["name"]]["sha256"] == one["sha256"] for one in kept)


def test_too_many_wrong_rows_stop_a_run_and_what_is_done_is_kept(
    desk: Desk, caller: Caller
) -> None:
    """The first file is well, and the rest of the rows have a gap."""
    nothing = [None] * ILL
    desk.input.write("g/0.parquet", parquet({"question": [[n, -n] for n in range(WELL)]}))
    desk.input.write("g/1.parquet", parquet({"question": [*nothing, [1.0, 2.0]]}))
    job = desk.submit(
        "echo",
        {"uri": desk.input.uri("g/*.parquet")},
        {"to": "out"},
        on_error={"max_share": 0.2},
    )
    code, message = desk.error(job)
    assert code == "too_many_errors" and "0.2" in message
    rows = {row["row_id"]: row["prediction"] for row in desk.listed_rows(job)}
    assert rows and set(rows) <= {*(f"0:{n}" for n in range(WELL)), f"1:{ILL}"}
    errors = caller.http.get(f"/v1/jobs/{job}/errors").text.splitlines()
    assert len(errors) == ILL
    partial = desk.manifest(job)
    assert (partial["complete"], partial["state"]) == (False, "failed")
    assert partial["error"]["code"] == "too_many_errors" and partial["failed"] == ILL
    parts = {one["name"] for one in partial["parts"] if one["name"]}
    assert set(desk.output.at("out").names()) == parts | {"_manifest.partial.json"}


def test_only_the_rows_of_the_error_file_are_done_again(desk: Desk, caller: Caller) -> None:
    """Pictures that come late."""
    late = {3, 40, 41, 77}
    uris = [desk.input.uri(f"late/{n:02}.png") for n in range(80)]
    for n in set(range(80)) - late:
        desk.input.write(f"late/{n:02}.png", grey_png(0 if n % 2 else 255))
    data, starts = lines([uri.encode() for uri in uris])
    input = {"uri": desk.input.write("late.txt", data)}
    first = desk.outcome(desk.submit("picture", input, {"to": "out"}, on_error={"max_share": 0.5}))
    ids = {n: f"0:{start}" for n, start in enumerate(starts)}
    assert first.codes() == {ids[n]: "ref_not_found" for n in late}

    for n in late - {77}:
        desk.input.write(f"late/{n:02}.png", grey_png(0 if n % 2 else 255))
    answer = caller.http.post(
        f"/v1/jobs/{first.manifest['job']}/retry",
        json={"failed_rows": True, "output": {"uri": desk.output.uri("again"), "format": "jsonl"}},
    )
    assert answer.status_code == 202, answer.text
    second = desk.outcome(answer.json()["id"])
    assert second.codes() == {ids[77]: "ref_not_found"}
    assert {row_id: row["label"] for row_id, row in second.rows.items()} == {
        ids[3]: "dark",
        ids[40]: "bright",
        ids[41]: "dark",
    }
    assert second.manifest["input"]["failed_rows_of"] == first.manifest["job"]
    assert first.rows.keys() | second.rows.keys() | {ids[77]} == set(ids.values())

    # Without a place of its own it goes below the first one's, which stays as it was.
    third = caller.http.post(
        f"/v1/jobs/{second.manifest['job']}/retry", json={"failed_rows": True}
    ).json()["id"]
    assert desk.finish(third)["error"] is None
    told = caller.result(third)
    assert (told["rows"], told["failed"]) == (0, 1)
    assert told["output"].startswith(desk.output.uri("again") + "/")
    good = desk.submit("echo", {"uri": _few(desk)}, {})
    desk.finish(good)
    none = caller.http.post(f"/v1/jobs/{good}/retry", json={"failed_rows": True})
    assert (none.status_code, none.json()["code"]) == (409, "not_retryable")


def test_what_is_done_again_may_keep_other_columns(desk: Desk, caller: Caller) -> None:
    """Files whose columns differ in their types have parts alike, and so has the retry."""
    ids = [["a", "b", "c"], [1, 2, 3]]
    for file, some in enumerate(ids):
        rows = {"id": some, "n": [1, 2, 3], "question": [[1.0, 2.0], None, [3.0, 4.0]]}
        desk.input.write(f"t/{file}.parquet", parquet(rows))
    input = {"uri": desk.input.uri("t/*")}
    first = desk.outcome(
        desk.submit("echo", input, {"to": "one", "keep": ["id"]}, on_error={"max_share": 1})
    )
    assert [row["id"] for row in first.rows.values()] == ["a", "c", "1", "3"]
    assert first.codes() == {"0:1": "missing_input", "1:1": "missing_input"}
    retry = caller.http.post(
        f"/v1/jobs/{first.manifest['job']}/retry",
        json={"failed_rows": True, "output": {"uri": desk.output.uri("two"), "keep": ["n"]}},
    )
    second = desk.outcome(retry.json()["id"])
    assert second.codes() == first.codes()
    assert [one["name"] for one in second.manifest["output"]["columns"]] == [
        "row_id",
        "n",
        "prediction",
    ]


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(desk: Desk, caller: Caller) -> None:
    rows = [{"question": [n, -n], "id": n} for n in range(2_000)]
    rows[1] = {"question": "what", "id": 1}
    data, starts = lines(json_lines(rows))
    uri = desk.input.write("dry.jsonl", data)
    output = {"to": "out", "keep": ["id"], "format": "csv"}
    job = desk.submit("echo", {"uri": uri}, output, dry_run=True)
    desk.finish(job)
    told = caller.result(job)
    assert told["dry_run"] and told["rows_are_estimated"]
    assert abs(told["rows_total"] - 2_000) < 200 and told["shards"] >= 1
    assert told["estimated_s"] >= 0 and told["estimated_output_bytes"] > 2_000
    assert [(row["row_id"], row["id"], row["prediction"]) for row in told["first_rows"]] == [
        (f"0:{starts[n]}", n, [n, -n]) for n in (0, 2, 3, 4, 5)
    ]
    assert [error["row_id"] for error in told["errors"]] == [f"0:{starts[1]}"]
    assert desk.parts(job) == [] and desk.output.names() == []

    wrong = desk.submit("echo", {"uri": uri, "columns": ["ids"]}, output, dry_run=True)
    code, message = desk.error(wrong)
    assert code == "unknown_column" and "'ids'" in message and "id" in message


def _few(desk: Desk) -> str:
    return desk.input.write("few.parquet", parquet({"question": vectors(range(10))}))
