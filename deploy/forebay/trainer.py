"""The process of one training: ``python -m forebay.trainer --job ID --session ID --epoch N``.

Its exit codes are ``workers.training.exits``. It is started by the device process that owns the job
and ends with it. TensorFlow is imported in a thread from the very start, while the database is
asked and the data prepared: the first step waits for whichever takes longer.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storage.records.training import TrainingSpec
    from storage.settings import Settings
    from workers.bulk.spool import Spool
    from workers.settings import WorkerSettings
    from workers.training.trainer_parts import Framework, TrainerParts

log = logging.getLogger(__name__)


class FrameworkImport:
    """Imports TensorFlow in a thread; set up as the spec asks for once that is known."""

    def __init__(self, device: str, threads: int | None) -> None:
        self._device, self._threads = device, threads
        self._spec: Future[TrainingSpec] = Future()
        self._framework: Future[Framework] = Future()

    def start(self) -> None:
        """At once: it is what takes longest."""
        threading.Thread(target=self._run, name="forebay-import", daemon=True).start()

    def for_spec(self, spec: TrainingSpec) -> Callable[[], Framework]:
        """What waits for it."""
        self._spec.set_result(spec)
        return self._framework.result

    def _run(self) -> None:
        try:
            began_s = time.monotonic()
            from workers.runtime.framework import imported

            imported(self._device)  # how many threads compute, the spec has a say in
            import_s = time.monotonic() - began_s
            from workers.runtime.learning.opening import open_learning
            from workers.training.trainer_parts import Framework

            spec = self._spec.result()
            opened = open_learning(self._device, self._threads, spec.deterministic, spec.seed)
            self._framework.set_result(
                Framework(
                    opened.open_learner,
                    opened.vectorizer_of,
                    opened.vectorizer_of_version,
                    import_s,
                )
            )
        except BaseException as fault:  # whoever waits for it is told
            self._framework.set_exception(fault)


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Train; the exit code."""
    began_s = time.monotonic()
    asked = _asked(argv)
    stop = threading.Event()
    _listen_to_signals(stop)

    # What both threads need is imported before there are two: none meets the other's half of it.
    import numpy as np  # noqa: F401

    from forebay.composition import start_logging, worker_settings
    from storage.settings import Settings
    from workers.training.exits import TrainerExit

    start_logging()
    settings = Settings.from_environment(environ)
    tuned = worker_settings(settings, environ)
    importing = FrameworkImport(tuned.device, tuned.tf_threads or None)
    importing.start()

    from workers.bulk.spool import Spool
    from workers.parent import die_with_parent
    from workers.training.trainer import run

    parent_pid = asked.parent_pid or tuned.parent_pid
    if parent_pid and not die_with_parent(parent_pid):
        return TrainerExit.STOPPED
    spool = Spool(tuned.cache_dir.expanduser().parent / "spool")
    spool.open()
    try:
        parts = _parts(settings, tuned, importing, spool, stop, began_s)
        return run(parts, asked.job, asked.session, asked.epoch)
    except Exception:
        log.exception("the training's process fails")
        return 1
    finally:
        spool.close()


def _parts(
    settings: Settings,
    tuned: WorkerSettings,
    importing: FrameworkImport,
    spool: Spool,
    stop: threading.Event,
    began_s: float,
) -> TrainerParts:
    from forebay.composition import open_database
    from storage.clock import SystemClock
    from storage.objects import open_objects
    from workers.bulk.places import Places
    from workers.training.data.prepare import prepare
    from workers.training.trainer_parts import TrainerParts

    database, objects = open_database(settings), open_objects(settings.objects_url)
    return TrainerParts(
        database=database,
        objects=objects,
        places=Places(database, objects, tuned.ref_prefixes, tuned.output_prefixes),
        prepare=prepare,
        import_framework=importing.for_spec,
        clock=SystemClock(),
        spool=spool.folder,
        cache_dir=tuned.cache_dir,
        retention_days=tuned.retention_days,
        stop=stop,
        began_s=began_s,
    )


def _asked(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m forebay.trainer")
    parser.add_argument("--job", required=True)
    parser.add_argument("--session", required=True)
    parser.add_argument("--epoch", type=int, required=True, help="of the job's lease")
    parser.add_argument("--parent-pid", type=int, default=0, help="end when this parent ends")
    return parser.parse_args(argv)


def _listen_to_signals(stop: threading.Event) -> None:
    def on_signal(_: int, __: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)


if __name__ == "__main__":
    code = main(sys.argv[1:], os.environ)
    logging.shutdown()
    # Neither a framework that is still being imported nor one that takes its time to end is
    # waited for: all that counts is stored.
    os._exit(code)
