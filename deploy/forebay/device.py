"""One device process of ``forebay worker``. Its supervisor says by environment which device."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from forebay.composition import open_database, share_the_interpreter, start_logging, worker_settings
from storage.objects import open_objects
from storage.settings import Settings

if TYPE_CHECKING:
    from storage.database import Database
    from storage.objects import Objects
    from workers.inference.ports import Runtime
    from workers.process import WorkerParts
    from workers.settings import WorkerSettings

Thread = Callable[[threading.Event], None]

TRAINER = (sys.executable, "-P", "-m", "forebay.trainer")


def worker_parts(
    settings: Settings,
    tuned: WorkerSettings,
    database: Database,
    objects: Objects,
    environ: Mapping[str, str],
    threads: tuple[Thread, ...] = (),
) -> WorkerParts:
    """The parts of a device process with the TensorFlow runtime; trainers get ``environ``."""
    from workers.process import WorkerParts

    def runtime() -> Runtime:
        from workers.runtime.keras_runtime import KerasRuntime

        made = KerasRuntime(
            tuned.device, max_batch=tuned.max_batch, threads=tuned.tf_threads or None
        )
        made.start()
        # TensorFlow's 270,000 objects never become garbage: out of every later collection,
        # those while batches run and those when a model is let go.
        gc.collect()
        gc.freeze()
        return made

    return WorkerParts(
        database,
        objects,
        runtime,
        settings.broker_url,
        tuned,
        threads,
        trainer=TRAINER,
        environ=environ,
    )


def main(environ: Mapping[str, str]) -> int:
    """Work until told to stop; the exit code."""
    from workers.process import run_worker

    start_logging()
    share_the_interpreter()
    settings = Settings.from_environment(environ)
    tuned = worker_settings(settings, environ)
    database = open_database(settings)
    objects = open_objects(settings.objects_url)
    return run_worker(worker_parts(settings, tuned, database, objects, environ))


if __name__ == "__main__":
    sys.exit(main(os.environ))
