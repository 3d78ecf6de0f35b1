"""An epoch of a training job against one of plain Keras's ``fit``, tuned: what share is left.

Jobs and fits take turns, each in a process of its own, and one rests while the other works. Both
have the same network, as many rows of training and validation, the same batches, metrics and
``deterministic`` flag; both validate after every epoch. The first epoch of each run is left out on
both sides. What ours does beside it counts: scaling within the network, its curves, a checkpoint
after every epoch.
"""

from __future__ import annotations

import contextlib
import csv
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.report import Figure, Goal, told
from tests.bench.rig import Rig, WrongAnswers, tensorflow_environment
from tests.bench.training_jobs import Data, Trained, train, training_stack
from tests.support.caller import Caller

NAME = "training-epoch"
GOAL = Goal(0.95, 1.0, most=False)
ROUNDS, TRIES = 5, 10
EPOCHS = {"cnn": 10, "dense": 30, "tweets": 10}  # of each round, the first one left out


@dataclass
class Rounds:
    """Seconds of an epoch, the median of each run."""

    tuned: Mapping[str, Any]
    ours: list[float] = field(default_factory=list)
    fit: list[float] = field(default_factory=list)

    @property
    def value(self) -> float:
        """The median round's ratio: the machine is not equally fast from minute to minute."""
        return round(statistics.median(self._ratios), 3)

    @property
    def _ratios(self) -> list[float]:
        return [fit / ours for fit, ours in zip(self.fit, self.ours, strict=True)]

    def detail(self) -> dict[str, Any]:
        """What the figure is made of."""
        return {
            "our_epoch_s": [round(one, 3) for one in self.ours],
            "fit_epoch_s": [round(one, 3) for one in self.fit],
            "ratios": [round(one, 3) for one in self._ratios],
            "fit": self.tuned["best"],
            "tried_s": {way: round(seconds, 3) for way, seconds in self.tuned["tried"].items()},
        }


def measure(rig: Rig) -> list[Figure]:
    """The goal is the convolutional network's; the others are told beside it."""
    data = Data(rig.folder / NAME)
    data.write_demo(quick=rig.quick)
    figures = []
    with training_stack(rig, data) as (_, caller):
        for name in ("cnn",) if rig.quick else EPOCHS:
            for deterministic in (False, True):
                made = _compared(rig, caller, data, name, deterministic)
                how = "deterministic" if deterministic else "as fast as it may"
                words = f"training, {name}.yaml, {how}: epoch of a tuned fit ÷ ours"
                command = f"python -m tests.bench.training_fit FOLDER {int(deterministic)} {TRIES}"
                rest: dict[str, Any] = {"baseline_command": command, "detail": made.detail()}
                figures.append(
                    GOAL.of(NAME, words, made.value, "×", **rest)
                    if name == "cnn"
                    else told(NAME, words, made.value, "×", **rest)
                )
    return figures


def _compared(rig: Rig, caller: Caller, data: Data, name: str, deterministic: bool) -> Rounds:
    epochs = 2 if rig.quick else EPOCHS[name]
    model, spec = data.spec(name, epochs=epochs, deterministic=deterministic)
    spec.pop("early_stopping", None)  # every round has as many epochs
    first = train(caller, model, spec)
    folder = data.folder / f"fit-{name}-{int(deterministic)}"
    folder.mkdir()
    write_rows(folder, data.folder, name, first)
    with _fit(folder, deterministic, 1 if rig.quick else TRIES) as fit:
        made = Rounds(fit.tuned)
        for _ in range(1 if rig.quick else ROUNDS):
            made.ours.append(statistics.median(train(caller, model, spec).epoch_seconds))
            made.fit.append(statistics.median(fit.epochs(epochs)[1:]))
            print(
                f"{name}, deterministic {deterministic}: an epoch took {made.ours[-1]:.3f} s,"
                f" of fit {made.fit[-1]:.3f} s",
                flush=True,
            )
    return made


def write_rows(folder: Path, source: Path, name: str, first: Trained) -> None:
    """What ``training_fit`` reads: as many rows of each part as the job had. Which rows they are
    makes no difference to the time."""
    split = first.result["data"]["split"]
    if name == "tweets":
        x, y = _tweets(source / "tweets.csv")
    else:
        with np.load(source / "digits.npz") as file:
            x, y = file["pictures"].astype(np.float32) / 255, file["labels"].astype(np.int32)
    stop = split["train"] + split["validation"]
    if len(x) < stop:
        raise WrongAnswers(f"the job had more rows than {len(x)}")
    if name == "cnn":
        y = np.eye(10, dtype=np.float32)[y]
    if name == "dense":
        x = x.reshape(len(x), -1)
    rows = {"x": x[: split["train"]], "y": y[: split["train"]]}
    rows |= {"vx": x[split["train"] : stop], "vy": y[split["train"] : stop]}
    if name == "tweets":  # weights: {classes: balanced}
        counts = np.bincount(rows["y"][:, 0].astype(np.int64), minlength=2)
        for part in ("", "v"):
            each = counts.sum() / (2 * counts[rows[f"{part}y"][:, 0].astype(np.int64)])
            rows[f"{part}w"] = each.astype(np.float32)
    np.savez(folder / "rows.npz", case=np.array(name), **rows)


def _tweets(path: Path) -> tuple[Any, Any]:
    with path.open(newline="", encoding="utf-8") as file:
        said = [row for row in csv.DictReader(file) if row["sentiment"] != "neutral"]
    texts = np.array([row["text"] for row in said])
    return texts, np.array([[row["sentiment"] == "positive"] for row in said], np.float32)


class _Fit:
    """The process of ``training_fit``."""

    def __init__(self, folder: Path, deterministic: bool, tries: int) -> None:
        flag = str(int(deterministic))
        command = [sys.executable, "-m", "tests.bench.training_fit", str(folder), flag, str(tries)]
        self.process = subprocess.Popen(
            command,
            env=tensorflow_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def epochs(self, count: int) -> list[float]:
        """Seconds of each."""
        assert self.process.stdin is not None
        print(count, file=self.process.stdin, flush=True)
        return [float(one) for one in self.next_line()]

    def tune(self) -> None:
        """Wait until it has tried every way."""
        self.tuned: Mapping[str, Any] = self.next_line()

    def next_line(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise WrongAnswers("the process of fit ended")
        return json.loads(line)


@contextlib.contextmanager
def _fit(folder: Path, deterministic: bool, tries: int) -> Iterator[_Fit]:
    fit = _Fit(folder, deterministic, tries)
    try:
        fit.tune()
        yield fit
    finally:
        fit.process.kill()
        fit.process.wait()
