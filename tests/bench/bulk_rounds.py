"""A bulk job and the bare loop in turns: what share of the loop's rate is left of files in S3."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.bulk_jobs import Bucket, Scored
from tests.bench.bulk_loop import READY
from tests.bench.rig import WrongAnswers, tensorflow_environment
from tests.support.caller import Caller


class BareLoop:
    """The process of ``bulk_loop``; it rests while Forebay works, and the other way round."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "tests.bench.bulk_loop", str(folder)]
        self._process = subprocess.Popen(
            command,
            env=tensorflow_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._folder = folder
        self._next_line(READY)

    @property
    def answers(self) -> Any:
        """What the model says of each row or picture."""
        return np.load(self._folder / "answers.npy")

    def rows_per_s(self, setting: str, seconds: float) -> float:
        """At ``BATCH:THREADS``."""
        assert self._process.stdin is not None
        print(setting, seconds, file=self._process.stdin, flush=True)
        return float(self._next_line())

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _next_line(self, awaited: str | None = None) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if awaited is None or line.strip() == awaited:
                return line
        raise WrongAnswers("the bare loop ended")


@contextlib.contextmanager
def bare_loop(folder: Path) -> Iterator[BareLoop]:
    """The loop's process, ended afterwards."""
    loop = BareLoop(folder)
    try:
        yield loop
    finally:
        loop.close()


@dataclass
class Rounds:
    """What each side achieved, in rows/s."""

    rows: int
    ours: list[float] = field(default_factory=list)
    ours_since_submit: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    tried: dict[str, float] = field(default_factory=dict)
    best: str = ""

    @property
    def ratios(self) -> list[float]:
        """Each job against the loops just before and just after it."""
        around = map(statistics.fmean, itertools.pairwise(self.bare))
        return [mine / loops for mine, loops in zip(self.ours, around, strict=True)]

    @property
    def value(self) -> float:
        """The median round's."""
        return round(statistics.median(self.ratios), 3)

    def detail(self) -> dict[str, Any]:
        """What the figure is made of."""
        batch, threads = self.best.split(":")
        return {
            "rows": self.rows,
            "rows_per_s": [round(rate, 1) for rate in self.ours],
            "rows_per_s, from submit": [round(rate, 1) for rate in self.ours_since_submit],
            "bare_rows_per_s": [round(rate, 1) for rate in self.bare],
            "ratios": [round(ratio, 3) for ratio in self.ratios],
            "bare_best": f"batch {batch}, {threads} decoding threads",
            "bare_tried": {setting: round(rate, 1) for setting, rate in self.tried.items()},
        }


def run(
    loop: BareLoop,
    rows: int,
    count: int,
    score: Callable[[], Scored],
    settings: Sequence[str],
    seconds: float,
) -> Rounds:
    """The loop's best setting, then loops and jobs in turns."""
    made = Rounds(rows)
    made.tried = {setting: loop.rows_per_s(setting, seconds / 3) for setting in settings}
    made.best = max(made.tried, key=lambda setting: made.tried[setting])
    made.bare.append(loop.rows_per_s(made.best, seconds))
    for number in range(count):
        scored = score()
        made.ours.append(rows / scored.seconds)
        made.ours_since_submit.append(rows / scored.seconds_since_submit)
        made.bare.append(loop.rows_per_s(made.best, seconds))
        print(
            f"round {number + 1}: {made.ours[-1]:,.1f} rows/s, the bare loop before it"
            f" {made.bare[-2]:,.1f}, after it {made.bare[-1]:,.1f}: {made.ratios[-1]:.3f}",
            flush=True,
        )
    return made


def check(bucket: Bucket, scored: Scored, rows: int, answers: Any) -> None:
    """Every row is there once and has the model's own answer; rows repeat every
    ``len(answers)``."""
    table = bucket.outputs(scored)
    ids = table.column("row_id").to_pylist()
    if ids != [f"0:{number}" for number in range(rows)]:
        raise WrongAnswers(f"{len(ids)} rows came back of {rows}, or others")
    column = table.column("prediction").combine_chunks()
    given = column.flatten().to_numpy().reshape(rows, -1)
    right = answers[np.arange(rows) % len(answers)]
    if not np.allclose(given, right, atol=1e-5):
        raise WrongAnswers("a bulk job's predictions are not the model's")


def finish_warm_up(bucket: Bucket, caller: Caller, model: str, uri: str, times: int) -> None:
    """Jobs that are not counted: sizes and times are learned by them."""
    for _ in range(times):
        bucket.score(caller, model, uri)
