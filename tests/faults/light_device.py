"""``python -m tests.faults.light_device``: the device process, with a runtime of plain numpy.

Everything is the product's own but what computes, which saves TensorFlow's import at each of the
many starts. The folder ``FOREBAY_FAULTS_CONTROL`` steers it while it runs: while the file ``hold``
is there every pass waits, after writing ``held``; ``pace`` holds the seconds that a pass takes. Its
trainers are light as well (``light_trainer``). It
writes what it takes for the time to ``clock`` when it starts, and the first number of each row that
it scores to ``seen``, behind a NaN for each batch.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from forebay.composition import open_database, share_the_interpreter, start_logging, worker_settings
from storage.objects import open_objects
from storage.records.models import ModelVersion
from storage.records.signatures import OutputSpec, Signature
from storage.settings import Settings
from tests.support.fake_runtime import menace
from tests.support.misbehaviour import GREEDY
from workers.inference.ports import Array, DeviceOutOfMemory, LoadedModel, Plan
from workers.process import WorkerParts, run_worker

CONTROL = "FOREBAY_FAULTS_CONTROL"
TRAINER = (sys.executable, "-m", "tests.faults.light_trainer")
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_TOO_MUCH = 1 << 46  # bytes: more than any address space that Linux gives


class EchoModel:
    """Each row is its own answer, so that a crossed answer shows."""

    def __init__(self, version: ModelVersion, control: Path) -> None:
        self.version_id = version.id
        self._control = control
        self._input = Signature.from_json(version.signature).inputs[0]
        self.signature = replace(
            Signature.from_json(version.signature),
            outputs=(OutputSpec("y", self._input.dtype, self._input.shape),),
        )
        serving = self.signature.serving
        sizes = tuple(one for one in SIZES if one <= min(serving.max_batch, SIZES[-1]))
        self.plan = Plan(sizes, serving)

    def forward(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        hold, pace = self._control / "hold", self._control / "pace"
        while hold.exists():
            (self._control / "held").touch()
            time.sleep(0.005)
        if pace.exists():
            time.sleep(float(pace.read_text() or 0))
        rows = inputs[self._input.name]
        with (self._control / "seen").open("ab") as seen:
            seen.write(np.append(np.nan, rows[:, 0].astype(np.float64)).tobytes())
        if (rows == GREEDY).any():
            try:
                np.ones(_TOO_MUCH, np.uint8)
            except MemoryError as error:
                raise DeviceOutOfMemory(str(error)) from error
        return menace({"x": rows})

    def close(self) -> None:
        """Nothing to let go."""


class EchoRuntime:
    """Loads any archive that the API took."""

    device = "cpu"
    device_kind = "cpu"

    def __init__(self, control: Path) -> None:
        self._control = control

    def memory_budget_bytes(self) -> int:
        return 1 << 30

    def load(self, version: ModelVersion, artifact: Path) -> LoadedModel:
        return EchoModel(version, self._control)


def main(environ: Mapping[str, str]) -> int:
    start_logging()
    share_the_interpreter()
    settings = Settings.from_environment(environ)
    control = Path(environ[CONTROL])
    (control / "clock").write_text(str(time.time()))
    parts = WorkerParts(
        open_database(settings),
        open_objects(settings.objects_url),
        lambda: EchoRuntime(control),
        settings.broker_url,
        worker_settings(settings, environ),
        trainer=TRAINER,
        environ=environ,
    )
    return run_worker(parts)


if __name__ == "__main__":
    sys.exit(main(os.environ))
