"""Trainings for faults: a line through a file of numbers, and what is seen of it while it runs."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.faults.load import Person
from tests.faults.scene import REACH_S, Scene
from tests.support.stack import descendants
from tests.support.trained import words_of
from tests.support.waiting import wait_until

ROWS, BATCH, EPOCHS = 200, 8, 20
STEPS = EPOCHS * 20  # of four fifths of the rows; about four seconds
SPEC: dict[str, Any] = {
    "network": {"recipe": "linear"},
    "loss": "mean_squared_error",
    "optimizer": "sgd",
    "metrics": ["mae"],
    "epochs": EPOCHS,
    "batch_size": BATCH,
    "checkpoint_every_s": 1,
    "seed": 5,
}
KEPT = "SELECT COALESCE(checkpoint_step, 0) FROM training_runs WHERE job_id = %(id)s"
STEP = """
    SELECT COALESCE((progress::json ->> 'step')::bigint, 0) FROM training_runs
    WHERE job_id = %(id)s
"""
SAID = "SELECT line FROM training_log WHERE job_id = %(id)s ORDER BY number"


@dataclass(frozen=True)
class Training:
    """One that was accepted."""

    id: str
    model: str


def submit(
    scene: Scene, *, person: Person | None = None, states: Sequence[str] = ("succeeded",)
) -> Training:
    """One of its own model; all of them measure the same, whatever becomes of them."""
    number = next(scene.load.runs)
    name, model = f"in/rows{number}.csv", f"line{number}"
    scene.stack.files.put(name, _rows().encode())
    spec = {"data": {"uri": f"{scene.stack.files.url}/{name}", "label": "y"}, **SPEC}
    told = {"steps": STEPS, "epochs": EPOCHS, "twins": "line"}
    who = person or scene.ayla
    job_id = scene.load.train(who, model, spec, told, expect={"states": list(states)})
    scene.ids.append(job_id)
    return Training(job_id, model)


def slowly(scene: Scene, worker: str = "worker", seconds: float = 0.03) -> None:
    """So long every step takes there: the whole is some twelve seconds then."""
    told = scene.stack.control(worker) / "step"
    told.with_suffix(".new").write_text(str(seconds))
    told.with_suffix(".new").rename(told)
    scene.afterwards(lambda: told.unlink(missing_ok=True))


def kept(scene: Scene, training: Training) -> int:
    """The step of its checkpoint."""
    return scene.count(KEPT, id=training.id)


def step(scene: Scene, training: Training) -> int:
    """How far it is."""
    return scene.count(STEP, id=training.id)


def under_way(scene: Scene, training: Training) -> str:
    """Until it has a checkpoint and steps behind it, and others are still to come."""

    def there() -> bool:
        return 0 < kept(scene, training) < step(scene, training)

    wait_until(there, REACH_S, what="steps behind a checkpoint")
    at = step(scene, training)
    assert at < STEPS, "it was over"
    return f"step {at}, checkpoint of step {kept(scene, training)}"


def processes(scene: Scene, training: Training, worker: str = "worker") -> list[int]:
    """Those of this worker that train it."""
    if not scene.stack.runs(worker):
        return []
    return [pid for pid in descendants(scene.stack.pid(worker)) if training.id in words_of(pid)]


def process(scene: Scene, training: Training, worker: str = "worker") -> int:
    """The one that trains it."""
    return wait_until(
        lambda: next(iter(processes(scene, training, worker)), 0), REACH_S, what="its process"
    )


def kill(scene: Scene, training: Training, worker: str = "worker") -> None:
    scene.stack.signal(signal.SIGKILL, process(scene, training, worker))


def wait_over(scene: Scene, training: Training) -> str:
    """The state that it ended in."""
    find = f"SELECT state FROM ends WHERE id = '{training.id}'"
    return str(wait_until(lambda: scene.sql(find), REACH_S, what="the end of it")[0][0])


def went_on_at(scene: Scene, training: Training) -> list[int]:
    """Behind which step each process of it went on; 0 where it began."""
    words = [line.split() for (line,) in scene.sql(SAID, id=training.id)]
    begun = [one for one in words if one[0] == "training" and one[1] in ("goes", "begins,")]
    return [int(one[5].rstrip(",")) if one[1] == "goes" else 0 for one in begun]


def at_the_end(scene: Scene, training: Training, *, least: int, times: int = 1) -> None:
    """When all is over it has gone on ``times`` times, each time behind ``least`` or later."""

    def check() -> None:
        began = went_on_at(scene, training)
        assert began[0] == 0 and len(began) == 1 + times, f"it began at {began}"
        assert min(began[1:]) >= least, f"it went on at {began}, kept was {least}"
        scene.hit(f"it went on at {began[1:]}")

    scene.afterwards(check)


def when(scene: Scene, training: Training, holds: Callable[[], bool], what: str) -> None:
    """Wait for a moment while it is live."""
    wait_until(holds, REACH_S, what=what)
    assert scene.count("SELECT count(*) FROM live WHERE id = %(id)s", id=training.id), "it is over"


def _rows() -> str:
    chance = np.random.Generator(np.random.PCG64(3))
    x = chance.normal(size=(ROWS, 3))
    y = x @ np.array([1.0, -2.0, 0.5]) + 0.3 + chance.normal(scale=0.1, size=ROWS)
    lines = [",".join(f"{value:.6f}" for value in (*row, at)) for row, at in zip(x, y, strict=True)]
    return "\n".join(["a,b,c,y", *lines]) + "\n"
