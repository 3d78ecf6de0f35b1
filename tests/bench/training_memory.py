"""Does a training's memory grow with its data? 2 GB of float32 columns against 20 MB.

The same small network, one epoch in large batches; each job has a process of its own, and what
counts is the highest that the kernel saw of it (``VmHWM``), looked at ten times a second.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench.report import Figure, Goal
from tests.bench.rig import Rig, WrongAnswers
from tests.bench.training_jobs import FINISHES_WITHIN_S, Data, train, training_stack
from tests.support.caller import TERMINAL, Caller
from tests.support.stack import FullStack, descendants
from tests.support.waiting import wait_until

NAME = "training-memory"
GOAL = Goal(1_000, 300)
COLUMNS, GROUP_ROWS, BATCH = 128, 20_000, 4_096
FEW_MB, MANY_MB, QUICK_MB = 20, 2_000, 200
LOOK_EVERY_S = 0.1


def measure(rig: Rig) -> list[Figure]:
    """The difference of the two jobs' peaks."""
    many_mb = QUICK_MB if rig.quick else MANY_MB
    data = Data(rig.folder / NAME)
    for size_mb in (FEW_MB, many_mb):
        write(data.folder / f"{size_mb}.parquet", size_mb * 1_000_000 // (4 * COLUMNS))
    peaks: dict[int, float] = {}
    seconds: dict[int, dict[str, Any]] = {}
    with training_stack(rig, data) as (stack, caller):
        for size_mb in (FEW_MB, many_mb):
            watch = _Watch(stack, caller)
            spec = spec_of((data.folder / f"{size_mb}.parquet").as_uri())
            made = train(caller, NAME, spec, watch.until_end)
            peaks[size_mb] = watch.highest_mb
            seconds[size_mb] = {
                "prepared": made.timings["prepare_s"],
                "epoch": made.curves["epochs"][0]["seconds"],
            }
            if not watch.highest_mb:
                raise WrongAnswers("the trainer's process was not seen")
    detail = {
        "highest_mb": {f"{size_mb} MB": round(mb) for size_mb, mb in peaks.items()},
        "seconds": {f"{size_mb} MB": told for size_mb, told in seconds.items()},
    }
    name = f"training, peak memory on {many_mb:,} MB less that on {FEW_MB} MB"
    value = round(peaks[many_mb] - peaks[FEW_MB], 1)
    return [GOAL.of(NAME, name, value, "MB", detail=detail)]


def spec_of(uri: str) -> dict[str, Any]:
    """One epoch of a small network."""
    return {
        "data": {"uri": uri, "format": "parquet", "label": "kind"},
        "prepare": {"scale": "standard"},
        "split": {"validation": 0.05, "test": 0.05, "seed": 7},
        "network": {"recipe": "dense", "units": [64]},
        "loss": "sparse_categorical_crossentropy",
        "metrics": ["accuracy"],
        "epochs": 1,
        "batch_size": BATCH,
        "seed": 1,
    }


def write(path: Path, rows: int) -> None:
    """Chance, group by group, whose sum's sign is the label."""
    chance = np.random.default_rng(5)
    names = [f"column_{number:03d}" for number in range(COLUMNS)]
    schema = pa.schema([*((name, pa.float32()) for name in names), ("kind", pa.int32())])
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as file:
        for start in range(0, rows, GROUP_ROWS):
            values = chance.standard_normal((COLUMNS, min(GROUP_ROWS, rows - start)), np.float32)
            kinds = (values.sum(axis=0) > 0).astype(np.int32)
            columns = [pa.array(one) for one in values]
            file.write_table(pa.table([*columns, pa.array(kinds)], schema=schema))


class _Watch:
    """Looks at the trainer's process for as long as its job runs."""

    def __init__(self, stack: FullStack, caller: Caller) -> None:
        self._stack, self._caller = stack, caller
        self.highest_mb = 0.0

    def until_end(self, job_id: str) -> None:
        def ended() -> bool:
            for pid in descendants(self._stack.pid("worker")):
                with contextlib.suppress(OSError):
                    if b"forebay.trainer" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        self.highest_mb = max(self.highest_mb, _highest_mb(pid))
            return self._caller.job(job_id)["state"] in TERMINAL

        wait_until(ended, FINISHES_WITHIN_S, what="the training's end", every_s=LOOK_EVERY_S)


def _highest_mb(pid: int) -> float:
    """0 of a process that is just ending."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0
