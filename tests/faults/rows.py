"""Bulk jobs for faults: files of numbered rows, and what is seen of them while they run."""

from __future__ import annotations

import functools
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.faults.load import Person
from tests.faults.scene import REACH_S, Scene
from tests.support.waiting import wait_until

FILES, ROWS = 8, 500  # each file is a shard, of about half a second
PACE_S = 0.02  # of a pass of 16 rows
_APART = 50_000  # numbers of one run and the next

PARTS = "SELECT count(*) FROM bulk_parts"
RUNNING = "SELECT count(*) FROM bulk_shards WHERE state = 'running'"
BUSY = "SELECT count(DISTINCT session_id) FROM bulk_shards WHERE state = 'running'"


@dataclass(frozen=True)
class Run:
    """A bulk job that was accepted."""

    id: str
    output: str | None
    first: int  # the number of its first row; they are consecutive
    rows: int


@dataclass(frozen=True)
class Wrong:
    """A row that the model cannot answer: its first number, and the code of its error line."""

    value: float
    code: str


def submit(
    scene: Scene,
    *,
    files: int = FILES,
    rows: int = ROWS,
    wrong: Mapping[int, Wrong] | None = None,
    own: bool = False,
    person: Person | None = None,
    states: Sequence[str] = ("succeeded",),
) -> Run:
    """So many files of so many rows each. ``wrong`` by the row's place in the run; ``own``: the
    parts stay in the service's own store."""
    number = next(scene.load.runs)
    name, first = f"run{number}", number * _APART
    wrong = wrong or {}
    numbers = np.arange(first, first + files * rows)
    x = np.stack([numbers, numbers / 8], axis=1).astype(np.float32)
    for place, one in wrong.items():
        x[place, 0] = one.value
    names = [f"in/{name}/{file:02d}.parquet" for file in range(files)]
    for file, of in enumerate(names):
        part = slice(file * rows, (file + 1) * rows)
        scene.stack.files.put(of, _parquet(numbers[part], x[part]))
    url, output = scene.stack.files.url, None if own else f"out/{name}"
    job = {
        "input": {"uri": f"{url}/in/{name}/*.parquet"},
        "output": {"keep": ["n"], **({"uri": f"{url}/{output}"} if output else {})},
    }
    told = {
        "files": names,
        "output": output,
        "wrong": {f"{at // rows}:{at % rows}": one.code for at, one in wrong.items()},
    }
    job_id = scene.load.run(person or scene.ayla, job, told, expect={"states": list(states)})
    scene.ids.append(job_id)
    return Run(job_id, output, first, files * rows)


def under_way(scene: Scene, parts: int = 1) -> str:
    """Until so many parts are committed and others are still to come; how it stands."""
    wait_until(lambda: scene.count(PARTS) >= parts, REACH_S, what=f"{parts} parts")
    wait_until(lambda: scene.count(RUNNING), REACH_S, what="shards that run")
    return f"{scene.count(PARTS)} parts committed, {scene.count(RUNNING)} shards running"


def again(scene: Scene, run: Run, *workers: str) -> int:
    """How many rows of the run were scored more than once, by these workers together."""
    seen: Counter[float] = Counter()
    for worker in workers or ("worker",):
        path = scene.stack.control(worker) / "seen"
        if not path.exists():
            continue
        values = np.fromfile(path, np.float64)
        for batch in np.split(values, np.flatnonzero(np.isnan(values))):
            seen.update(set(batch[1:].tolist()))  # what fills a batch up is its first row
    return sum(seen[n] - 1 for n in range(run.first, run.first + run.rows) if seen[n])


def at_the_end_again(scene: Scene, run: Run, most: int, *workers: str) -> None:
    """When all is over no more rows than these were scored again."""

    def check() -> None:
        count = again(scene, run, *workers)
        assert count <= most, f"{count} rows were scored again, more than {most}"
        scene.hit(f"{count} rows scored again")

    scene.afterwards(check)


def paced(scene: Scene, *workers: str, seconds: float = PACE_S) -> None:
    """Slow enough that a run of the usual size takes some seconds."""
    for worker in workers or ("worker",):
        scene.pace(seconds, worker)


def objects(scene: Scene, run: Run) -> list[str]:
    """Names in its output now."""
    below = f"{run.output}/"
    return [one.removeprefix(below) for one in scene.stack.files.names() if one.startswith(below)]


def wait_over(scene: Scene, run: Run) -> str:
    """The state that the run ended in."""
    find = functools.partial(scene.sql, f"SELECT state FROM ends WHERE id = '{run.id}'")
    return str(wait_until(find, REACH_S, what="the end of the bulk job")[0][0])


def _parquet(numbers: np.ndarray, x: np.ndarray) -> bytes:  # type: ignore[type-arg]
    values = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 2)
    sink = io.BytesIO()
    pq.write_table(pa.table({"n": pa.array(numbers), "x": values}), sink, row_group_size=100)
    return sink.getvalue()
