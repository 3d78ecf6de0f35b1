"""A trainer that learns nothing: it obeys the protocol, and misbehaves where it is told to.

Run as a script, with what starts any trainer behind ``DATABASE_URL OBJECTS_URL FOLDER``. FOLDER
holds ``behaviour.json`` and gets a line in ``starts`` for each start: pid, job, first step.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.clock import random_bits
from storage.database import Database
from storage.objects import Objects, open_objects
from storage.objects.packs import pack_key
from storage.records.ids import uuid7
from storage.records.jobs import JobError
from storage.records.packs import NewPack, PackKind
from storage.records.training_runs import (
    Checkpoint,
    Phase,
    TrainedVersion,
    TrainingControl,
    TrainingProgress,
)
from workers.parent import die_with_parent

DEFAULT: dict[str, Any] = {
    "steps": 30,
    "step_s": 0.01,
    "checkpoint_every": 10,
    "die_at": 0,  # step at which it dies, 0 for never
    "die_times": 1,
    "die_by": 9,  # signal, or exit code where it is above 64
    "fail_at": 0,
    "deaf": False,  # to SIGTERM
    "artifact": "weights",
}


@dataclass
class Trainer:
    """One life."""

    database: Database
    objects: Objects
    folder: Path
    job: str
    session: str
    epoch: int
    asked: bool = False

    def run(self) -> int:
        with self.database.begin() as tx:
            run = tx.training.begin(*self.hold)
        if run is None:
            return 4
        if run.result is not None:
            return 0
        told = {**DEFAULT, **json.loads((self.folder / "behaviour.json").read_text())}
        signal.signal(signal.SIGTERM, lambda *_: self.ask(deaf=told["deaf"]))
        step = run.checkpoint.step if run.checkpoint else 0
        with (self.folder / "starts").open("a") as starts:
            starts.write(f"{os.getpid()} {self.job} {step}\n")
        print(f"starts at {step}", flush=True)
        while step < told["steps"]:
            time.sleep(told["step_s"])
            step += 1
            progress = TrainingProgress(Phase.TRAINING, step=step, steps=told["steps"])
            with self.database.begin() as tx:
                control = tx.training.note(*self.hold, progress)
            if control in (TrainingControl.STOP, TrainingControl.LOST):
                return 4
            if step == told["die_at"] and self.lives() <= told["die_times"]:
                print("oh dear", file=sys.stderr, flush=True)
                self.die(told["die_by"])
            if step == told["fail_at"]:
                error = JobError("loss_not_a_number", f"the loss is NaN at step {step}")
                with self.database.begin() as tx:
                    tx.training.fail(*self.hold, error)
                return 3
            wanted = control is TrainingControl.PAUSE or self.asked
            if wanted or step % told["checkpoint_every"] == 0:
                self.keep(step)
            if control is TrainingControl.PAUSE:
                return 5
            if self.asked:
                return 4
        self.finish(told["artifact"].encode(), step)
        return 0

    @property
    def hold(self) -> tuple[str, str, int]:
        return self.job, self.session, self.epoch

    def ask(self, *, deaf: bool) -> None:
        self.asked = not deaf

    def lives(self) -> int:
        return sum(self.job in line for line in (self.folder / "starts").read_text().splitlines())

    def die(self, by: int) -> None:
        if by > 64:
            os._exit(by)
        os.kill(os.getpid(), by)

    def keep(self, step: int) -> None:
        with self.database.begin() as tx:
            run = tx.training.run(self.job)
            assert run is not None
            pack_id = uuid7(time.time_ns() // 10**6, random_bits())
            key = pack_key(PackKind.RESULT, run.tenant, "2099-01-01", pack_id)
            tx.packs.open(NewPack(pack_id, run.tenant, PackKind.RESULT, key))
        body = str(step).encode()
        self.objects.put(key, body)
        made = Checkpoint(pack_id, key, hashlib.sha256(body).hexdigest(), len(body), 0, step)
        with self.database.begin() as tx:
            tx.training.keep_checkpoint(*self.hold, made)

    def finish(self, artifact: bytes, step: int) -> None:
        artifact += self.job.encode()
        digest = hashlib.sha256(artifact).hexdigest()
        key = f"models/trained/{digest}"
        self.objects.put(key, artifact)
        signature = json.loads((self.folder / "signature.json").read_text())
        made = TrainedVersion(digest, len(artifact), key, signature, {"job_id": self.job})
        with self.database.begin() as tx:
            tx.training.finish(*self.hold, {"steps": step}, made)


def main(argv: list[str]) -> int:
    if not die_with_parent(int(os.environ["FOREBAY_WORKER_PARENT_PID"]), signal.SIGKILL):
        return 4
    parser = argparse.ArgumentParser()
    parser.add_argument("database")
    parser.add_argument("objects")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--job", required=True)
    parser.add_argument("--session", required=True)
    parser.add_argument("--epoch", type=int, required=True)
    told = parser.parse_args(argv)
    database, objects = Database.open(told.database), open_objects(told.objects)
    return Trainer(database, objects, told.folder, told.job, told.session, told.epoch).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
