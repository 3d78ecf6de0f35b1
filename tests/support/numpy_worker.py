"""``python -m tests.support.numpy_worker``: a device process with the numpy runtime.

Settings come by the environment, as in a real one. Two more steer it from outside:
``FOREBAY_TEST_HOLD`` names a file; while it exists every forward pass waits, after writing
``<file>.entered``. ``FOREBAY_TEST_PASS_S`` is how long a pass takes. ``FOREBAY_TEST_TRAINER`` is
what starts a trainer; none runs without it.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from storage.database import Database
from storage.objects import open_objects
from tests.support.numpy_runtime import Behaviour, NumpyRuntime
from workers.inference.ports import Array
from workers.process import WorkerParts, run_worker
from workers.settings import WorkerSettings


def main(environ: Mapping[str, str]) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    logging.captureWarnings(True)
    behaviour = Behaviour(seconds_fixed=float(environ.get("FOREBAY_TEST_PASS_S", "0")))
    hold = environ.get("FOREBAY_TEST_HOLD")
    if hold:
        behaviour.before_forward = lambda _: wait_while(Path(hold), _)
    parts = WorkerParts(
        Database.open(environ["FOREBAY_DATABASE_URL"]),
        open_objects(environ["FOREBAY_OBJECTS_URL"]),
        lambda: NumpyRuntime(behaviour),
        environ["FOREBAY_BROKER_URL"],
        WorkerSettings.from_environment(environ),
        trainer=shlex.split(environ.get("FOREBAY_TEST_TRAINER", "")),
        environ=environ,
    )
    return run_worker(parts)


def wait_while(hold: Path, _: Mapping[str, Array]) -> None:
    if hold.exists():
        hold.with_suffix(".entered").touch()
    while hold.exists():
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main(os.environ))
