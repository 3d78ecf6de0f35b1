"""Checkpoints of one run: written beside the training, and read where somebody goes on.

A thread writes one at a time: a file in the spool folder, the object from it, then the run's row,
which lets go of the one before. Training has copied its state and goes on meanwhile.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from storage.clock import random_bits
from storage.objects import Objects
from storage.objects.packs import pack_key, retention_day
from storage.records.errors import Conflict, InvalidInput, NotFound, ObjectCorrupt, Unavailable
from storage.records.ids import uuid7
from storage.records.packs import NewPack, PackKind
from storage.records.training_runs import Checkpoint
from workers.inference.artifacts import sha256
from workers.training.checkpoint_file import CheckpointFile, read_checkpoint, write_checkpoint
from workers.training.position import Snapshot
from workers.training.retrying import GaveUp, Retrying
from workers.training.room import room_for
from workers.training.run_store import RunStore

log = logging.getLogger(__name__)

_JOIN_S = 5.0
_WAIT_S = 2.0  # how long training is held up for the checkpoint before the last
_MOST_MISSED = 2  # checkpoints in a row: then it is of no use to train on


class CheckpointStore:
    """One run's, in the service's own store."""

    def __init__(
        self, run: RunStore, objects: Objects, tenant: str, spool: Path, retention_days: int
    ) -> None:
        self._run, self._objects = run, objects
        self._tenant, self._spool, self._days = tenant, spool, retention_days

    def write(self, snapshot: Snapshot, *, spec: str, prepared: str) -> Path:
        """A file of the spool folder, to ``put``; ``InvalidInput`` (``no_room``)."""
        path = self._spool / "checkpoint.zip"
        try:
            with room_for("a checkpoint"):
                write_checkpoint(path, snapshot, spec=spec, prepared=prepared)
        except BaseException:
            path.unlink(missing_ok=True)  # what there is of it takes room
            raise
        return path

    def put(self, path: Path, snapshot: Snapshot) -> bool:
        """Store it and make it the run's; False when the run is somebody else's by now. Raises
        what storage raises, and may be called again: each time it is another object."""
        at = snapshot.at
        with self._run.database.begin() as tx:
            now = tx.now()
            pack_id = uuid7(now, random_bits())
            key = pack_key(PackKind.RESULT, self._tenant, retention_day(now, self._days), pack_id)
            tx.packs.open(NewPack(pack_id, self._tenant, PackKind.RESULT, key))
        self._objects.put_file(key, path)
        made = Checkpoint(
            pack_id, key, sha256(path), path.stat().st_size, at.epoch, at.step, made_at=now
        )
        try:
            return self._run.keep(made)
        except Conflict as late:
            raise Unavailable("the put took longer than a pack may be written") from late

    def read(self, checkpoint: Checkpoint, *, spec: str, prepared: str) -> CheckpointFile:
        """Raises what storage raises, and ``InvalidInput``: ``checkpoint_unreadable``,
        ``checkpoint_mismatch`` (another spec's), ``data_changed``."""
        path = self._spool / "resumed.zip"
        try:
            self._objects.get_to_file(checkpoint.key, path)
            if sha256(path) != checkpoint.digest:
                raise ObjectCorrupt("its bytes are not the ones that were written")
            found = read_checkpoint(path)
        except (NotFound, ObjectCorrupt) as error:
            why = "it is gone" if isinstance(error, NotFound) else error.message
            raise InvalidInput(
                f"the checkpoint of step {checkpoint.step} cannot be read ({why}): submit the"
                " training again",
                code="checkpoint_unreadable",
            ) from error
        finally:
            path.unlink(missing_ok=True)
        if found.spec != spec:
            raise InvalidInput(
                f"the checkpoint of step {checkpoint.step} belongs to another spec",
                code="checkpoint_mismatch",
            )
        if found.prepared != prepared:
            raise InvalidInput(
                f"the data is not what it was when the checkpoint of step {checkpoint.step} was"
                " made: put the files back as they were, or submit the training again",
                code="data_changed",
                field="spec.data.uris",
            )
        return found


class CheckpointWriter:
    """The thread. ``put`` stores a file as the run's checkpoint and says whether it is ours."""

    def __init__(
        self,
        store: CheckpointStore,
        retrying: Retrying,
        *,
        spec: str,
        prepared: str,
        before: Callable[[], None],
        kept: Callable[[Snapshot, int], None],
        lost: Callable[[], None],
        ours: Callable[[], bool],
    ) -> None:
        """``before`` makes sure that what was measured up to here is written; ``kept`` and
        ``lost`` are told how it ended."""
        self._store, self._retrying = store, retrying
        self._spec, self._prepared = spec, prepared
        self._before, self._on_kept, self._on_lost, self._ours = before, kept, lost, ours
        self._changed = threading.Condition()
        self._next: Snapshot | None = None
        self._busy = self._troubled = self._closed = False
        self._fault: Exception | None = None  # why the last one is not kept
        self._missed = 0  # so many in a row
        self._thread = threading.Thread(target=self._run, name="forebay-checkpoints", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether one is on its way."""
        return self._busy or self._next is not None

    def keep(self, snapshot: Snapshot) -> None:
        """Hand it over. Waits for the one before the last, but not for a store that is slow or
        does not answer: then the latest one is what will be kept. Raises why, when those before
        it could not be written."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._next is None or self._troubled or self._closed, _WAIT_S
            )
            if self._fault is not None and self._missed >= _MOST_MISSED:
                raise self._fault
            self._next = snapshot
            self._changed.notify_all()

    def settle(self) -> None:
        """Wait for all that were handed over; raises a fault of the thread's. A last one for
        which there was no room is given up: whoever goes on has the one before."""
        with self._changed:
            self._changed.wait_for(lambda: not self.busy or self._closed)
            if self._fault is not None and not isinstance(self._fault, InvalidInput):
                raise self._fault

    def close(self) -> None:
        """Nothing more is handed over, and what waits is forgotten."""
        with self._changed:
            self._closed, self._next = True, None
            self._changed.notify_all()
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._next is not None or self._closed)
                snapshot, self._next = self._next, None
                if snapshot is None:
                    return
                self._busy = True
                self._changed.notify_all()
            fault = self._fault_of(snapshot)
            with self._changed:
                self._fault, self._missed = fault, self._missed + 1 if fault else 0
                self._busy = self._troubled = False
                self._changed.notify_all()

    def _fault_of(self, snapshot: Snapshot) -> Exception | None:
        """Why it is not kept, where trying again does not help."""
        at = snapshot.at.step
        try:
            self._keep(snapshot)
        except GaveUp:
            log.warning("the checkpoint of step %d is given up", at)
        except InvalidInput as refused:
            log.warning("the checkpoint of step %d is given up: %s", at, refused.message)
            return refused
        except Exception as fault:
            log.exception("the checkpoint of step %d cannot be written", at)
            return fault
        return None

    def _keep(self, snapshot: Snapshot) -> None:
        def attempt() -> tuple[bool, int]:
            path = self._store.write(snapshot, spec=self._spec, prepared=self._prepared)
            try:
                size_bytes = path.stat().st_size
                self._before()
                return self._store.put(path, snapshot), size_bytes
            finally:
                path.unlink(missing_ok=True)

        mine, size_bytes = self._retrying.call(attempt, ours=self._ours, on_trouble=self._trouble)
        if mine:
            self._on_kept(snapshot, size_bytes)
        else:
            self._on_lost()

    def _trouble(self, _: Exception) -> None:
        with self._changed:
            self._troubled = True
            self._changed.notify_all()
