"""A runtime of plain numpy that keeps every promise of ``workers.inference.ports``.

``echo`` answers each row with itself, so a crossed answer shows. Some rows misbehave on demand:
see ``misbehaviour`` and ``Behaviour``. Used by tests that are about everything but TensorFlow.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from storage.records.models import ModelVersion
from storage.records.push_options import InputForm
from storage.records.serving import Serving
from storage.records.signatures import InputSpec, OutputSpec, Signature
from tests.support.fake_runtime import menace
from workers.inference.ports import Array, DeviceOutOfMemory, LoadedModel, ModelBroken, Plan


def echo_signature(width: int = 4, serving: Serving | None = None) -> Signature:
    """A tensor of ``width`` float64 numbers in, the same out."""
    return Signature(
        form=InputForm.TENSOR,
        inputs=(InputSpec("x", "float64", (width,)),),
        outputs=(OutputSpec("y", "float64", (width,)),),
        serving=serving or Serving(),
    )


@dataclass
class Behaviour:
    """What the runtime does besides answering."""

    batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    seconds_fixed: float = 0.0
    seconds_per_row: float = 0.0
    gate: threading.Event = field(default_factory=threading.Event)  # forward waits for it
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    batches: list[int] = field(default_factory=list)  # rows that were not padding are unknown here
    versions: list[str] = field(default_factory=list)  # whose batch each of them was
    loads: int = 0
    rows_that_fit: int | None = None  # a larger pass is out of memory
    memory_budget_bytes: int = 1 << 30
    memory_bytes: int = 0  # what each loaded version says that it holds
    load: Callable[[ModelVersion, Path], None] | None = None  # may raise
    before_forward: Callable[[Mapping[str, Array]], None] | None = None

    def __post_init__(self) -> None:
        self.gate.set()


class EchoModel:
    """Its signature is the pushed one, so that a test may turn the serving knobs."""

    def __init__(self, version: ModelVersion, behaviour: Behaviour) -> None:
        self.version_id = version.id
        pushed = Signature.from_json(version.signature)
        self.signature = replace(pushed, outputs=echo_signature().outputs)
        serving = self.signature.serving
        allowed = serving.batch_sizes or behaviour.batch_sizes
        sizes = tuple(s for s in allowed if s <= min(serving.max_batch, behaviour.batch_sizes[-1]))
        self.plan = Plan(sizes, serving, memory_bytes=behaviour.memory_bytes)
        self._behaviour = behaviour
        self.closed = False

    def forward(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        assert not self.closed, "a closed model was run"
        behaviour, x = self._behaviour, inputs["x"]
        assert len(x) in self.plan.sizes, f"{len(x)} rows is no bucket"
        behaviour.batches.append(len(x))
        behaviour.versions.append(self.version_id)
        behaviour.entered.release()
        assert behaviour.gate.wait(60)
        if behaviour.before_forward is not None:
            behaviour.before_forward(inputs)
        if behaviour.rows_that_fit is not None and len(x) > behaviour.rows_that_fit:
            raise DeviceOutOfMemory(f"{len(x)} rows do not fit")
        if behaviour.seconds_fixed or behaviour.seconds_per_row:
            time.sleep(behaviour.seconds_fixed + behaviour.seconds_per_row * len(x))
        return menace(inputs)

    def close(self) -> None:
        self.closed = True


class NumpyRuntime:
    """Loads anything; an artifact of the bytes ``broken`` cannot be served."""

    device = "cpu"
    device_kind = "cpu"

    def __init__(self, behaviour: Behaviour | None = None) -> None:
        self.behaviour = behaviour or Behaviour()

    def memory_budget_bytes(self) -> int:
        return self.behaviour.memory_budget_bytes

    def load(self, version: ModelVersion, artifact: Path) -> LoadedModel:
        self.behaviour.loads += 1
        if artifact.read_bytes() == b"broken":
            raise ModelBroken("it says so itself", code="bad_archive")
        if self.behaviour.load is not None:
            self.behaviour.load(version, artifact)
        return EchoModel(version, self.behaviour)
