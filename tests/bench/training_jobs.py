"""Training jobs on a full stack: the demo's specs and data, submitted, and what their runs tell."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from forebay.demo_training import read_spec
from forebay.training_data import write_digits
from tests.bench import bulk_digits
from tests.bench.digits import SIDE
from tests.bench.rig import Rig, WrongAnswers
from tests.show import trainings
from tests.support.caller import Caller
from tests.support.stack import FullStack

FINISHES_WITHIN_S = 900.0
DRAWN = 2_000


@dataclass(frozen=True)
class Trained:
    """A training that succeeded."""

    job: Mapping[str, Any]
    result: Mapping[str, Any]
    curves: Mapping[str, Any]
    answered_at: float  # when the request was answered, seconds since 1970

    @property
    def epoch_seconds(self) -> list[float]:
        """Of every epoch but the first, in which steps are compiled."""
        return [float(one["seconds"]) for one in self.curves["epochs"][1:]]

    @property
    def timings(self) -> Mapping[str, Any]:
        """What its process told of its start."""
        return dict(self.result["timings"])


class Data:
    """A folder whose files a stack may read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def environment(self) -> dict[str, str]:
        """What the stack must be told."""
        return {"FOREBAY_REF_PREFIXES": f"{self.folder.as_uri()}/"}

    def spec(self, name: str, **changes: Any) -> tuple[str, dict[str, Any]]:
        """(model, spec) of one of the demo's, over these files."""
        model, spec = read_spec(name, self.folder)
        return model, {**spec, **changes}

    def write_demo(self, *, quick: bool) -> None:
        """The real digits and tweets; drawn digits, and no tweets, where it is to be quick."""
        if quick:
            drawn = bulk_digits.pixels(DRAWN).reshape(-1, SIDE, SIDE)
            write_digits(self.folder, drawn, np.arange(DRAWN) % 10)
        else:
            trainings.write_all(self.folder)


@contextlib.contextmanager
def training_stack(rig: Rig, data: Data, **environment: str) -> Iterator[tuple[FullStack, Caller]]:
    """A stack that may read the data, without a model yet."""
    own = {**data.environment(), **environment}
    with rig.stack(environment=own, model=False) as stack, stack.caller() as caller:
        yield stack, caller


def submit(caller: Caller, model: str, spec: Mapping[str, Any]) -> tuple[str, float]:
    """A training: its job, and when the request was answered."""
    answer = caller.http.post(
        "/v1/jobs", json={"kind": "training", "model": model, "spec": dict(spec)}
    )
    answered_at = time.time()
    if answer.status_code != 202:
        raise WrongAnswers(f"{answer.status_code}: {answer.text[:500]}")
    return str(answer.json()["id"]), answered_at


def train(
    caller: Caller,
    model: str,
    spec: Mapping[str, Any],
    meanwhile: Callable[[str], object] | None = None,
) -> Trained:
    """Submit and wait. ``meanwhile`` is given the job's id while it runs."""
    job_id, answered_at = submit(caller, model, spec)
    if meanwhile is not None:
        meanwhile(job_id)
    job = caller.finish(job_id, deadline_s=FINISHES_WITHIN_S)
    if job["state"] != "succeeded":
        log = caller.http.get(f"/v1/jobs/{job_id}/log").text
        raise WrongAnswers(f"the training is {job}\n{log[-2000:]}")
    curves = caller.http.get(f"/v1/jobs/{job_id}/curves").json()
    return Trained(job, caller.result(job_id), curves, answered_at)
