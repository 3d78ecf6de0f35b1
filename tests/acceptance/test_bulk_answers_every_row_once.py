"""A bulk job answers every row of its input exactly once: outputs and errors are the input, told
apart by row id, whatever the rows lie in and whatever they are written as.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.support.bulk_desk import Desk
from tests.support.bulk_files import csv_lines, json_lines, lines, npy, npz, parquet, vectors
from tests.support.zoo import WORDS, grey_png

ROWS = 600


@dataclass
class Asked:
    """A job, and what has to come of it: the rows with their columns, the wrong ones' codes."""

    model: str
    input: Mapping[str, Any]
    output: Mapping[str, Any]
    rows: dict[str, dict[str, Any]]
    wrong: dict[str, str] = field(default_factory=dict)
    skipped: int = 0


def test_files_of_columns_in_any_output(desk: Desk) -> None:
    _all_come_right(
        desk,
        [
            _parquet(desk),
            _csv(desk, "csv", "csv"),
            _csv(desk, "csv.gz", "parquet"),
            _jsonl(desk, "jsonl", "jsonl"),
            _jsonl(desk, "ndjson.gz", "csv"),
            _npy(desk),
            _npz(desk),
        ],
    )


def test_pictures_texts_and_requests(desk: Desk) -> None:
    _all_come_right(desk, [_images(desk), _uris(desk), _texts(desk), _requests(desk)])


def _all_come_right(desk: Desk, asked: Sequence[Asked]) -> None:
    """All at once, as one worker does the shards of many jobs."""
    jobs = [desk.submit(one.model, one.input, one.output) for one in asked]
    for job_id, one in zip(jobs, asked, strict=True):
        outcome = desk.outcome(job_id)
        assert outcome.rows.keys() | outcome.errors.keys() == one.rows.keys() | one.wrong.keys()
        assert outcome.codes() == one.wrong, outcome.errors
        assert {row_id: _plain(row, one.rows[row_id]) for row_id, row in outcome.rows.items()} == {
            row_id: {"row_id": row_id, **row} for row_id, row in one.rows.items()
        }
        assert outcome.result["skipped"] == one.skipped
        model = outcome.manifest["model"]
        assert model["name"] == one.model and model["sha256"]


def _parquet(desk: Desk) -> Asked:
    """Three files by a pattern, several row groups each; a row with NaN, and one with a gap."""
    rows: dict[str, dict[str, Any]] = {}
    wrong = {"0:7": "not_finite", "2:3": "missing_input"}
    for file in range(3):
        numbers = [1000 * file + n for n in range(ROWS)]
        questions: Any = vectors([float("nan") if (file, n) == (0, 7) else n for n in numbers])
        if file == 2:
            questions = [None if n == 3 else list(one) for n, one in enumerate(questions.tolist())]
        name, data = (
            f"a/{file}.parquet",
            parquet({"id": numbers, "question": questions, "x": numbers}),
        )
        desk.input.write(name, data)
        rows |= {
            f"{file}:{place}": {"id": n, "prediction": [n, -n]}
            for place, n in enumerate(numbers)
            if f"{file}:{place}" not in wrong
        }
    desk.input.write("a/notes.txt", b"none of the pattern's")
    uri = desk.input.uri("a/[0-9].parquet")
    return Asked("echo", {"uri": uri}, {"to": "parquet", "keep": ["id"]}, rows, wrong)


def _csv(desk: Desk, ending: str, form: str) -> Asked:
    """Cells with commas and quotes; two columns are the input; some rows are left out, and of the
    others one has no number, one an open quote, one a cell too many. A file beside it is empty."""
    given: list[list[object]] = [[n, f'say "{n}", then ü', n / 8, -n] for n in range(ROWS)]
    given[20][2] = "none"
    made = csv_lines(["id", "note", "x", "y"], given)
    made[31] = b'30,"open,3.75,-30'
    made[41] += b",5"
    data, starts = lines(made)
    packed = gzip.compress if ending.endswith("gz") else bytes
    desk.input.write(f"b-{ending}/0.{ending}", packed(b""))
    desk.input.write(f"b-{ending}/1.{ending}", packed(data))
    uri = desk.input.uri(f"b-{ending}/*")
    ids = [f"1:{start}" for start in starts[1:]]
    rows = {
        ids[n]: {
            "id": n,
            "note": given[n][1],
            "x": n / 8,
            "y": -float(n),
            "prediction": [n / 8, -n],
        }
        for n in range(10, ROWS)
        if n not in (20, 30, 40)
    }
    wrong = {ids[20]: "wrong_type", ids[30]: "bad_quote", ids[40]: "wrong_fields"}
    input = {"uri": uri, "columns": ["x", "y"], "where": [["id", ">=", 10]]}
    output = {"to": f"from-{ending}", "format": form, "join": True}
    return Asked("echo", input, output, rows, wrong, skipped=10)


def _jsonl(desk: Desk, ending: str, form: str) -> Asked:
    """A line that is no JSON, one that lacks the column, one of the wrong length; a blank line."""
    given = json_lines([{"n": n, "q": [n, -n], "é": "ü"} for n in range(ROWS)])
    bad = {5: b'{"n": 5, "q": [5', 6: b'{"n": 6}', 7: b'{"n": 7, "q": [1, 2, 3]}'}
    codes = {5: "bad_json", 6: "missing_input", 7: "wrong_shape"}
    given = [bad.get(n, line) for n, line in enumerate(given)]
    data, starts = lines([*given[:300], b"", *given[300:]])
    del starts[300]
    uri = desk.input.write(f"c.{ending}", gzip.compress(data) if ending.endswith("gz") else data)
    rows = {
        f"0:{starts[n]}": {"n": n, "é": "ü", "prediction": [n, -n]}
        for n in range(ROWS)
        if n not in bad
    }
    wrong = {f"0:{starts[n]}": code for n, code in codes.items()}
    input = {"uri": uri, "columns": {"question": "q"}}
    return Asked(
        "echo", input, {"to": f"from-{ending}", "format": form, "keep": ["n", "é"]}, rows, wrong
    )


def _npy(desk: Desk) -> Asked:
    """Into the service's own store, where the API reads it."""
    uri = desk.input.write("d.npy", npy(vectors(range(ROWS))))
    rows = {f"0:{n}": {"prediction": [n, -n]} for n in range(ROWS)}
    return Asked("echo", {"uri": uri}, {}, rows)


def _npz(desk: Desk) -> Asked:
    """Two inputs by their names."""
    right = (np.arange(ROWS) % 256).astype(np.uint8)[:, None]
    uri = desk.input.write("e.npz", npz(left=vectors(range(ROWS)), right=right))
    rows = {f"0:{n}": {"prediction": [n, -n, n % 256]} for n in range(ROWS)}
    return Asked("pair", {"uri": uri}, {"to": "from-npz", "format": "jsonl"}, rows)


def _images(desk: Desk) -> Asked:
    """All that lies below a prefix; one of them is no picture."""
    names = [f"{n // 10}/p{n:02}.png" for n in range(40)]
    uris = [
        desk.input.write(f"pictures/{n}", grey_png(0 if i % 2 else 255))
        for i, n in enumerate(names)
    ]
    desk.input.write("pictures/3/p39.png", b"no picture")
    _, starts = lines([uri.encode() for uri in uris])
    rows = {
        f"0:{start}": _grey(uri, i) for i, (start, uri) in enumerate(zip(starts, uris, strict=True))
    }
    wrong = f"0:{starts[39]}"
    del rows[wrong]
    input = {"uri": desk.input.uri("pictures") + "/", "format": "images"}
    return Asked("picture", input, {"to": "from-images"}, rows, {wrong: "bad_image"})


def _uris(desk: Desk) -> Asked:
    """A list of addresses: one leads nowhere, one where nobody may read."""
    uris = [desk.input.write(f"some/{n}.png", grey_png(0 if n % 2 else 255)) for n in range(20)]
    uris[4], uris[5] = desk.input.uri("some/missing.png"), desk.output.uri("some/5.png")
    data, starts = lines([uri.encode() for uri in uris])
    uri = desk.input.write("list.txt", data)
    ids = [f"0:{start}" for start in starts]
    rows = {ids[n]: _grey(uris[n], n) for n in range(20) if n not in (4, 5)}
    wrong = {ids[4]: "ref_not_found", ids[5]: "ref_not_allowed"}
    return Asked("picture", {"uri": uri}, {"to": "from-uris", "format": "jsonl"}, rows, wrong)


def _texts(desk: Desk) -> Asked:
    said = [[WORDS[n % 4]] for n in range(100)]
    data, starts = lines(csv_lines(["text"], said))
    uri = desk.input.write("f.csv", data)
    rows = {
        f"0:{start}": {"prediction": [0, *(int(word == said[n][0]) for word in WORDS)]}
        for n, start in enumerate(starts[1:])
    }
    return Asked("text", {"uri": uri}, {"to": "from-texts", "format": "jsonl"}, rows)


def _requests(desk: Desk) -> Asked:
    """Each line any form of input, with an id of the caller's; wrong lines keep theirs."""
    bodies = [{"model": "echo", "input": {"tensor": [n, -n]}} for n in range(50)]
    bodies[9]["input"] = {"tensor": [1, 2, 3]}
    given = json_lines(
        [
            {"custom_id": f"n{n}", "method": "POST", "url": "/v1/jobs", "body": body}
            for n, body in enumerate(bodies)
        ]
    )
    data, starts = lines(given)
    uri = desk.input.write("g.jsonl", data)
    ids = [f"0:{start}" for start in starts]
    rows = {ids[n]: {"custom_id": f"n{n}", "prediction": [n, -n]} for n in range(50) if n != 9}
    input = {"uri": uri, "format": "requests"}
    output = {"to": "from-requests", "format": "jsonl"}
    return Asked("echo", input, output, rows, {ids[9]: "wrong_shape"})


def _grey(uri: str, number: int) -> dict[str, Any]:
    return {
        "uri": uri,
        "label": "dark" if number % 2 else "bright",
        "score": ...,
        "prediction": ...,
    }


def _plain(row: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """A row in the types that it is to have (a CSV has texts); ``...`` is any number."""
    told: dict[str, Any] = {"row_id": row["row_id"]}
    for name, value in like.items():
        if isinstance(value, list) and name not in row:
            told[name] = [float(row[f"{name}_{n}"]) for n in range(len(value))]
        elif value is ...:
            told[name] = ... if np.isfinite(row[name]).all() else row[name]
        else:
            told[name] = type(value)(row[name])
    extra = {name for name in row if name not in told and name.rpartition("_")[0] not in told}
    assert not extra
    return told
