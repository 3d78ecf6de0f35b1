"""``python -m tests.faults.light_trainer``: a trainer's process whose network is plain numpy.

Everything is the product's own but what learns. The folder ``FOREBAY_FAULTS_CONTROL`` steers it:
``step`` holds the seconds that a step takes.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forebay import trainer
from storage.records.training import TrainingSpec
from tests.faults.light_device import CONTROL
from tests.support.numpy_learner import NumpyLearner
from workers.training.ports import Learner, Prepared
from workers.training.trainer_parts import Framework

STEP_S = 0.01


def open_learner(spec: TrainingSpec, prepared: Prepared, artifact: Path | None) -> Learner:
    """A line through the rows."""
    told = Path(os.environ[CONTROL]) / "step"

    def take_time(_: int) -> None:
        time.sleep(float(told.read_text()) if told.exists() else STEP_S)

    feature = prepared.features[0]
    return NumpyLearner(width=feature.shape[0], feature=feature.name, on_step=take_time)


class LightFramework:
    """In the place of TensorFlow's import."""

    def __init__(self, device: str, threads: int | None) -> None:
        pass

    def start(self) -> None:
        """Nothing takes long."""

    def for_spec(self, spec: TrainingSpec) -> Callable[[], Framework]:
        return lambda: Framework(open_learner, _no_texts, _no_texts)


def _no_texts(_: Any) -> Any:
    raise AssertionError("there are no texts")


if __name__ == "__main__":
    trainer.FrameworkImport = LightFramework  # type: ignore[assignment,misc]
    code = trainer.main(sys.argv[1:], os.environ)
    logging.shutdown()
    os._exit(code)
