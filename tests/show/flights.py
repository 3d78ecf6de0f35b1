"""336,776 flights scored overnight: ``python -m tests.show.flights``.

A small model says of each flight whether it will land late. It scores all of them by ``forebay up``
and by two workers on RabbitMQ, PostgreSQL and S3, of which one is killed half-way. What comes back
is compared with the table as the ``csv`` module reads it and with answers computed without Forebay.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tests.show.flights_data import GAP, ROWS, NoFlights, find_flights, read_flights
from tests.show.flights_model import KEEP, LABELS, REFUSED, Model, make
from tests.show.flights_runs import Run, embedded, full
from tests.support.stack import private_servers

TOLERANCE = 1e-5  # the composition of a batch moves the last bits


@dataclass(frozen=True)
class Truth:
    """What the rows are, in the order of the table, and what has to come of them."""

    ids: list[str]
    kept: dict[str, list[str]]
    gaps: list[str]  # ids of the rows that lack the refused column
    expected: npt.NDArray[np.float32]  # answers to the others; NaN where nobody computed one


@dataclass(frozen=True)
class Answers:
    """What came of a run, in the order of the input."""

    table: pa.Table
    errors: list[dict[str, Any]]

    @property
    def ids(self) -> list[str]:
        return [str(one) for one in self.table["row_id"].to_pylist()]

    @property
    def predictions(self) -> npt.NDArray[np.float32]:
        column = self.table["prediction"].combine_chunks()
        return np.asarray(column.flatten()).reshape(-1, len(LABELS))


def truth_of(table: Path, model: Model) -> Truth:
    ids: list[str] = []
    gaps: list[str] = []
    has_answer = np.ones(ROWS, np.bool_)
    kept: dict[str, list[str]] = {name: [] for name in KEEP}
    for index, (row_id, row) in enumerate(read_flights(table)):
        if row[REFUSED] == GAP:
            gaps.append(row_id)
            has_answer[index] = False
            continue
        ids.append(row_id)
        for name in KEEP:
            kept[name].append(row[name])
    return Truth(ids, kept, gaps, model.expected[has_answer])


def answers_of(run: Run) -> Answers:
    """Parts and errors, each file as the manifest says that it is."""
    manifest = run.manifest
    files = [part for part in manifest["parts"] if part["name"] is not None]
    for told in (*files, manifest["errors"]):
        data = (run.folder / told["name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == told["sha256"], told
        assert len(data) == told["size_bytes"], told
    table = pa.concat_tables([pq.read_table(run.folder / part["name"]) for part in files])
    lines = (run.folder / "errors.jsonl").read_text().splitlines()
    return Answers(table, [json.loads(line) for line in lines])


def check(run: Run, truth: Truth, model: Model) -> Answers:
    """Every row is answered once and right, and the manifest says so."""
    manifest, answers = run.manifest, answers_of(run)
    assert manifest["complete"] and manifest["state"] == "succeeded", manifest
    assert manifest["model"]["sha256"] == hashlib.sha256(model.archive.read_bytes()).hexdigest()
    assert (manifest["rows"], manifest["failed"]) == (len(truth.ids), len(truth.gaps))
    assert len(truth.ids) + len(truth.gaps) == ROWS

    assert answers.ids == truth.ids, "rows are missing, doubled or out of order"
    assert [error["row_id"] for error in answers.errors] == truth.gaps
    assert {error["code"] for error in answers.errors} == {"missing_column"}
    assert all(REFUSED in error["message"] for error in answers.errors)
    for name in KEEP:
        kept = answers.table[name].to_pylist()
        given = truth.kept[name]
        assert kept == [type(one)(text) for one, text in zip(kept, given, strict=True)], name

    off = np.nanmax(np.abs(answers.predictions - truth.expected))
    assert off <= TOLERANCE, f"an answer is {off} from what the model says"
    chosen = answers.predictions.argmax(axis=1)
    assert answers.table["label"].to_pylist() == [LABELS[one] for one in chosen]
    assert np.array_equal(answers.table["score"].to_numpy(), answers.predictions.max(axis=1))
    return answers


def check_alike(one: Answers, other: Answers) -> None:
    """Whatever cut and disturbed them: the same rows, within the tolerance the same answers."""
    assert one.ids == other.ids and one.table.schema == other.table.schema
    assert np.abs(one.predictions - other.predictions).max() <= TOLERANCE
    assert one.errors == other.errors
    for name in KEEP:
        assert one.table[name].equals(other.table[name]), name


def rows_again(run: Run, truth: Truth) -> tuple[int, int]:
    """Of the killed worker's shards: rows that it had scored and that were scored again, and rows
    between its last part and their ends, which is the most that it could be."""
    positions = np.sort([int(one.partition(":")[2]) for one in (*truth.ids, *truth.gaps)])

    def between(start: int, stop: int) -> int:
        first, last = np.searchsorted(positions, (start, stop))
        return int(last - first)

    again = sum(max(one.noted, between(one.start, one.reached)) for one in run.lost)
    return again, sum(between(one.start, one.stop) for one in run.lost)


def line_of(run: Run, truth: Truth) -> str:
    """The figures of a run."""
    manifest = run.manifest
    timings = manifest["timings"]
    words = [
        f"{run.name:<24}",
        f"{timings['rows_per_s']:>9,.0f} rows/s",
        f"{timings['wall_s']:5.1f} s ({timings['device_s']:.1f} s of the device)",
        f"{len(manifest['parts'])} parts",
    ]
    if run.lost:
        again, most = rows_again(run, truth)
        words.append(f"{again:,} rows scored again, of {most:,} in the killed worker's shards")
    return ", ".join(words)


def main() -> int:
    try:
        table = find_flights()
    except NoFlights as error:
        print(f"there are no flights to score: {error}", file=sys.stderr)
        return 2
    model = make(table)
    truth = truth_of(table, model)
    print(f"{ROWS:,} flights, {len(truth.gaps):,} of them without {REFUSED}: {table}")
    print(f"the model and the options that it is pushed with: {model.folder}", flush=True)
    with tempfile.TemporaryDirectory(prefix="forebay-flights-") as place:
        runs = embedded(Path(place) / "embedded", table, model)
        with private_servers() as servers:
            runs += full(Path(place) / "full", servers.services(), table, model)
        answers = [check(run, truth, model) for run in runs]
        for other in answers[1:]:
            check_alike(answers[0], other)
        for run in runs:
            print(line_of(run, truth))
    print("every row was answered once, and alike in all of them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
