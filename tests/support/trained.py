"""Trainings of a running stack, seen from outside: by HTTP, by its processes, by its store."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from storage.objects.keys import artifact_key
from tests.support.caller import Caller
from tests.support.stack import Stack, descendants
from tests.support.waiting import wait_until

Weights = dict[str, npt.NDArray[Any]]
ENDS_WITHIN_S = 240.0
LABELS = ("red", "green", "blue")
_GROWS = ("seconds", "trained_s")  # by how long it took, and nothing else may differ


def table(rows: int, columns: int, seed: int = 1) -> str:
    """A CSV file of so many numbers a row and a ``kind`` that a network can learn from them."""
    chance = np.random.Generator(np.random.PCG64(seed))
    x = chance.normal(size=(rows, columns)).astype(np.float32)
    y = (x @ chance.normal(size=(columns, len(LABELS))).astype(np.float32)).argmax(axis=1)
    header = ",".join([*(f"c{at}" for at in range(columns)), "kind"])
    lines = [
        ",".join([*(f"{value:.6f}" for value in row), LABELS[label]])
        for row, label in zip(x, y, strict=True)
    ]
    return "\n".join([header, *lines]) + "\n"


@dataclass(frozen=True)
class Learned:
    """What is left of a training that succeeded."""

    job: Mapping[str, Any]
    weights: Weights
    curves: Mapping[str, Any]

    @property
    def evaluation(self) -> Mapping[str, Any]:
        return dict(self.job["result"]["evaluation"])

    @property
    def steps(self) -> Sequence[int]:
        return list(self.curves["steps"]["step"])

    @property
    def measured(self) -> Mapping[str, Any]:
        """Curves without the time that they took, and without which steps were looked at: metrics
        are told of the last step of each group, and groups are made by time."""
        epochs = [
            {name: value for name, value in one.items() if name not in _GROWS}
            for one in self.curves["epochs"]
        ]
        return {"loss": list(self.curves["steps"]["loss"]), "epochs": epochs}


def must_be_equal(one: Learned, other: Learned) -> None:
    """Bit for bit, step for step."""
    assert list(one.weights) == list(other.weights)
    for name, values in one.weights.items():
        assert values.dtype == other.weights[name].dtype
        assert values.tobytes() == other.weights[name].tobytes(), name
    assert one.steps == other.steps
    assert one.measured == other.measured
    assert one.evaluation == other.evaluation


@dataclass
class Trainings:
    """Of a stack without keys."""

    stack: Stack
    caller: Caller
    read: Callable[[str], bytes]  # an object of the service's own store, past the service

    def submit(self, name: str, spec: Mapping[str, Any]) -> str:
        body = {"kind": "training", "model": name, "spec": dict(spec)}
        response = self.caller.http.post("/v1/jobs", json=body)
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    def tell(self, job_id: str, what: str) -> dict[str, Any]:
        """Pause, resume or cancel it; the job as it is answered."""
        response = self.caller.http.post(f"/v1/jobs/{job_id}/{what}")
        assert response.status_code in (200, 202), response.text
        return dict(response.json())

    def seen(self, job_id: str) -> dict[str, Any]:
        """How far it is."""
        return dict(self.caller.job(job_id)["training"])

    def wait_step(self, job_id: str, step: int) -> dict[str, Any]:
        """Until it has a checkpoint that is not of the very beginning, steps behind that, and
        ``step`` of them in all; how far it is."""

        def there() -> dict[str, Any]:
            job = self.caller.job(job_id)
            assert job["state"] not in ("failed", "succeeded"), f"{job}\n{self.stack.logs()}"
            seen: dict[str, Any] = job["training"]
            kept = (seen["checkpoint"] or {}).get("step", 0)
            return seen if 0 < kept < seen["step"] and seen["step"] >= step else {}

        return wait_until(there, ENDS_WITHIN_S, what=f"step {step} behind a checkpoint")

    def learned(self, job_id: str) -> Learned:
        """When it is over."""
        job = self.caller.finish(job_id, ENDS_WITHIN_S)
        assert job["state"] == "succeeded", f"{job}\n{self.log(job_id)}\n{self.stack.logs()}"
        curves = self.caller.http.get(f"/v1/jobs/{job_id}/curves", params={"points": "100000"})
        result = self.caller.result(job_id)
        version = self.caller.http.get(f"/v1/models/{job['model'].replace(':', '/versions/')}")
        assert version.json()["state"] == "ready", version.text
        data = self.read(artifact_key("default", version.json()["digest"]))
        return Learned({**job, "result": result}, weights_of(data), curves.json())

    def log(self, job_id: str) -> list[str]:
        found = self.caller.http.get(f"/v1/jobs/{job_id}/log", params={"limit": "10000"}).json()
        return [str(line["text"]) for line in found["data"]]

    def resumed_at(self, job_id: str) -> list[int]:
        """Behind which step each process of it went on; the first began at 0."""
        words = [line.split() for line in self.log(job_id) if line.startswith("training ")]
        begun = [line for line in words if line[1].rstrip(",") in ("begins", "goes")]
        return [int(line[5].rstrip(",")) if line[1] == "goes" else 0 for line in begun]

    def trainers(self, job_id: str, part: str) -> list[int]:
        """The processes of this part that train it."""
        return [pid for pid in descendants(self.stack.pid(part)) if job_id in words_of(pid)]

    def trainer(self, job_id: str, parts: Sequence[str]) -> tuple[str, int]:
        """Which of these parts trains it, in which process."""

        def found() -> list[tuple[str, int]]:
            return [(part, pid) for part in parts for pid in self.trainers(job_id, part)]

        wait_until(lambda: len(found()) == 1, 30, what="the one process that trains")
        return found()[0]


def words_of(pid: int) -> list[str]:
    """What a process was started with; nothing where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def weights_of(archive: bytes) -> Weights:
    """Every array in a ``.keras`` archive's weights, by its path."""
    found: Weights = {}

    def collect(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = np.asarray(item[()])

    with zipfile.ZipFile(io.BytesIO(archive)) as whole:
        data = whole.read("model.weights.h5")
    with h5py.File(io.BytesIO(data), "r") as file:
        file.visititems(collect)
    assert found
    return dict(sorted(found.items()))
