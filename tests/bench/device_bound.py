"""A model that keeps the device busy: MobileNetV2 on photographs, against a bare loop over it.

Jobs are queued first, then the worker drains them; what counts is the rate between commits once
it runs. The loop is run at the batch size and the number of decoding threads that suit it best,
while none of Forebay's processes runs. Both decode the same JPEG and PNG files. A machine that
others share is not equally fast from minute to minute: each drain is compared with the loop just
before and just after it.
"""

from __future__ import annotations

import base64
import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from storage.records.counts import VersionCounts
from tests.bench import counts, photographs
from tests.bench.bare_loop import ANSWERS, CLASSES, MEAN, MODEL, SCALE, SIDE
from tests.bench.report import Figure, Goal
from tests.bench.rig import Rig, WrongAnswers, finish, push_model, rows, submit
from tests.bench.rig import tensorflow_environment as environment
from tests.support.caller import Caller
from tests.support.stack import FullStack

NAME = "device-bound"
GOAL = Goal(0.92, 0.97, most=False)
JOBS, ROUNDS, PER_REQUEST = 1_024, 3, 24  # 24 of the photographs make a body of about 10 MB
SETTINGS = [f"{batch}:{threads}" for batch in (8, 16, 32, 64) for threads in (0, 1, 2)]
WARM_SHARE, LAST_SHARE = 0.25, 0.97  # the first pass learns, the last one is not full
OPTIONS = {
    "input": "image",
    "image": {"scale": SCALE, "mean": MEAN},
    "labels": [f"class {number}" for number in range(CLASSES)],
}


def measure(rig: Rig) -> list[Figure]:
    """The loop, then drains and loops in turns; the median of the drains' ratios counts."""
    pictures = photographs.fetch()
    folder = rig.folder / "mobilenet"
    folder.mkdir()
    _bare("build", folder, *map(str, pictures))
    answers = np.load(folder / ANSWERS)
    jobs, count = (96, 1) if rig.quick else (JOBS, ROUNDS)
    settings = ["16:0", "16:1"] if rig.quick else SETTINGS
    tried = _time(folder, pictures, settings, 1 if rig.quick else 4)
    best = max(tried, key=lambda setting: tried[setting])
    bare: list[float] = []
    ours: list[float] = []
    passes: list[float] = []

    def loop() -> None:
        bare.extend(_time(folder, pictures, [best], 1 if rig.quick else 12).values())

    with rig.stack(model=False) as stack:
        with stack.caller() as caller:
            push_model(caller, "mobilenet", folder / MODEL, OPTIONS)
        for number in range(count):
            stack.stop("worker")
            with stack.caller() as caller:
                groups = submit(caller, _bodies(pictures, jobs))
            stack.stop()
            if not bare:
                loop()
            stack.start()
            with stack.caller() as caller:
                finish(caller, groups, deadline_s=600)
                _check(caller, groups, answers, len(pictures))
            ours.append(_steady(stack, groups))
            passes.append(_rows_per_commit(stack, groups))
            learned = counts.learned_ms(stack)
            stages = counts.stages(VersionCounts(), counts.of_workers(stack))
            stack.stop()
            loop()
            stack.start()
            before, after = bare[-2:]
            print(
                f"round {number + 1}: {ours[-1]:.1f} rows/s, the bare loop before it {before:.1f},"
                f" after it {after:.1f}",
                flush=True,
            )
    around = [statistics.fmean(pair) for pair in itertools.pairwise(bare)]
    ratios = [drain / loops for drain, loops in zip(ours, around, strict=True)]
    batch, threads = best.split(":")
    detail = {
        "rows_per_s": [round(rate, 1) for rate in ours],
        "bare_rows_per_s": [round(rate, 1) for rate in bare],
        "ratios": [round(ratio, 3) for ratio in ratios],
        "bare_best": f"batch {batch}, {threads} decoding threads",
        "bare_tried": {setting: round(rate, 1) for setting, rate in tried.items()},
        "rows_per_commit": passes,
        "photographs": len(pictures),
        "jobs": jobs,
        "a pass, as learned": learned,
        "time by stage, of the clock": stages,
    }
    value = round(statistics.median(ratios), 3)
    name = f"MobileNetV2 {SIDE}×{SIDE}, photographs: rows/s ÷ bare loop at its best batch"
    command = f"python -m tests.bench.bare_loop time FOLDER 12 {best} -- PHOTOGRAPHS"
    return [GOAL.of(NAME, name, value, "×", baseline_command=command, detail=detail)]


def _time(
    folder: Path, pictures: Sequence[Path], settings: Sequence[str], seconds: float
) -> dict[str, float]:
    found: dict[str, float] = json.loads(
        _bare("time", folder, str(seconds), *settings, "--", *map(str, pictures))
    )
    return found


def _bare(verb: str, folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "tests.bench.bare_loop", verb, str(folder), *arguments]
    done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip().rpartition("\n")[2]


def _bodies(pictures: Sequence[Path], jobs: int) -> list[bytes]:
    images = [base64.b64encode(path.read_bytes()).decode() for path in pictures]
    asked = [
        {"model": "mobilenet", "input": {"image": images[n % len(images)]}} for n in range(jobs)
    ]
    return [
        json.dumps({"jobs": asked[at : at + PER_REQUEST]}).encode()
        for at in range(0, jobs, PER_REQUEST)
    ]


def _check(caller: Caller, groups: list[str], answers: Any, pictures: int) -> None:
    """Every job has the label and the scores that the model itself gives."""
    for number, group in enumerate(groups):
        for index, line in enumerate(caller.results(group)):
            right = answers[(number * PER_REQUEST + index) % pictures]
            answer = line["result"] or {}
            if answer.get("label") != f"class {right.argmax()}":
                raise WrongAnswers(f"job {index} of group {group}: {str(line)[:300]}")
            if not np.allclose(answer["outputs"]["scores"], right, atol=1e-3):
                raise WrongAnswers(f"job {index} of group {group}: other scores")


def _commits(stack: FullStack, groups: list[str]) -> list[tuple[float, int]]:
    """(seconds, jobs finished by then), commit by commit."""
    found = rows(
        stack.services,
        "SELECT finished_at, sum(count(*)) OVER (ORDER BY finished_at) FROM ends"
        " WHERE group_id = ANY(%s::uuid[]) GROUP BY finished_at ORDER BY finished_at",
        groups,
    )
    return [(at / 1_000, int(done)) for at, done in found]


def _steady(stack: FullStack, groups: list[str]) -> float:
    """Rows/s between the first commit after the warm-up and the last of a full pass."""
    commits = _commits(stack, groups)
    jobs = commits[-1][1]
    first = next(one for one in commits if one[1] >= WARM_SHARE * jobs)
    within = [one for one in commits if first[1] < one[1] <= LAST_SHARE * jobs] or commits[-1:]
    last = within[-1]
    return (last[1] - first[1]) / (last[0] - first[0])


def _rows_per_commit(stack: FullStack, groups: list[str]) -> float:
    commits = _commits(stack, groups)
    return round(commits[-1][1] / len(commits), 1)
