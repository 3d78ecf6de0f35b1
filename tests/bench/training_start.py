"""How soon after its submission a training takes its first step, on a service that runs already.

From the moment at which the request was answered to the end of the first step, as the trainer's
process tells it, both by one machine's clock. Its import of TensorFlow is taken off, as the process
measured it; the data is prepared meanwhile. What importing takes by itself, in a process that does
nothing else, is told beside it: the import within the trainer is slower than that.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from typing import Any

from tests.bench.report import Figure, Goal, told
from tests.bench.rig import Rig, tensorflow_environment
from tests.bench.training_jobs import Data, Trained, train, training_stack

NAME = "training-start"
GOAL = Goal(3.0, 1.0)
JOBS, IMPORTS = 5, 3
IMPORT = (
    "import time; began = time.perf_counter(); import tensorflow, keras;"
    " print(time.perf_counter() - began)"
)


def measure(rig: Rig) -> list[Figure]:
    """The median job's."""
    data = Data(rig.folder / NAME)
    data.write_demo(quick=rig.quick)
    model, spec = data.spec("cnn", epochs=1)
    with training_stack(rig, data) as (_, caller):
        train(caller, model, spec)
        made = [train(caller, model, spec) for _ in range(1 if rig.quick else JOBS)]
    alone_s = statistics.median(_import_s() for _ in range(1 if rig.quick else IMPORTS))
    walls = [_wall_s(one) for one in made]
    beyond = [wall - float(one.timings["import_s"]) for wall, one in zip(walls, made, strict=True)]
    wall_s = statistics.median(walls)
    detail = {
        "wall_s": [round(one, 2) for one in walls],
        "import_alone_s": round(alone_s, 2),
        "parts": [
            ["seconds", "median"],
            *([name, f"{statistics.median(values):.2f}"] for name, values in _parts(made).items()),
        ],
    }
    name = "training, submit → first step, beyond importing TensorFlow"
    return [
        GOAL.of(NAME, name, round(statistics.median(beyond), 3), "s", detail=detail),
        told(NAME, f"{name} in a process of its own", round(wall_s - alone_s, 3), "s"),
        told(NAME, "training, submit → first step", round(wall_s, 3), "s"),
    ]


def _wall_s(one: Trained) -> float:
    return float(one.timings["first_step_at_ms"]) / 1000 - one.answered_at


def _parts(made: list[Trained]) -> dict[str, list[float]]:
    """Some of them overlap."""
    told: list[Any] = [one.timings for one in made]
    return {
        "until its process runs": [
            one.timings["began_at_ms"] / 1000 - one.answered_at for one in made
        ],
        "importing TensorFlow": [one["import_s"] for one in told],
        "preparing the data, meanwhile": [one["prepare_s"] for one in told],
        "building the network": [one["open_s"] for one in told],
        "from the process's begin to the first step's end": [one["first_step_s"] for one in told],
    }


def _import_s() -> float:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT],
        check=True,
        capture_output=True,
        text=True,
        env=tensorflow_environment(),
    )
    return float(done.stdout.split()[-1])
