"""What outlives the process that trains: checkpoints, and at the end a version."""

from __future__ import annotations

from collections.abc import Mapping

from storage.database.models import Models
from storage.database.packs import Packs
from storage.database.statements import Statement
from storage.database.training.runs import Going
from storage.database.training.told import done_text, json_text
from storage.records.errors import Conflict
from storage.records.packs import PackSummary
from storage.records.training_runs import Checkpoint, TrainedVersion

KEPT = Statement(
    "What a run has come to, held until this transaction ends.",
    """
    SELECT r.version_id, r.progress, r.result, r.checkpoint_pack_id
    FROM training_runs AS r WHERE r.job_id = :job {own}
    """,
)

KEEP = Statement(
    "A run can go on from here; its process has not died since.",
    """
    UPDATE training_runs SET checkpoint_pack_id = :pack, checkpoint_key = :key,
        checkpoint_digest = :digest, checkpoint_bytes = :size_bytes, checkpoint_epoch = :epochs,
        checkpoint_step = :step, checkpoint_at = :now, deaths = 0
    WHERE job_id = :job
    """,
)

FINISH = Statement(
    "A run is done.",
    """
    UPDATE training_runs SET result = :result, progress = :progress, progressed_at = :now
    WHERE job_id = :job
    """,
)


class Keeping(Going):
    """Runs leave something behind."""

    def keep_checkpoint(
        self, job_id: str, session_id: str, epoch: int, checkpoint: Checkpoint
    ) -> bool:
        """The checkpoint was put, below a pack's row that was opened before: from now on the run
        goes on from it, and the one before it is doomed. Deaths and losses count from here.

        Note what was measured up to its step before: what is noted later with a step behind it is
        forgotten when somebody goes on. False when the job is not this session's: then the pack's
        row stays ``writing``, and the collector takes it. ``Conflict`` with code
        ``pack_not_writable`` when a collector took it meanwhile (an hour after its opening): put
        it again under another id. Said again, as an answer was lost, it is the same.
        """
        work = self._work
        if self._bump(job_id, session_id, epoch, further=True) is None:
            return False
        (run,) = work.change(KEPT, job=job_id)
        if run.checkpoint_pack_id == checkpoint.pack_id:
            return True
        packs = Packs(work)
        summary = PackSummary(checkpoint.pack_id, entries=1, size_bytes=checkpoint.size_bytes)
        if not packs.publish(summary):
            raise Conflict("the checkpoint is no longer being written", code="pack_not_writable")
        if run.checkpoint_pack_id is not None:
            packs.doom([run.checkpoint_pack_id])
        work.count(
            KEEP,
            job=job_id,
            pack=checkpoint.pack_id,
            key=checkpoint.key,
            digest=checkpoint.digest,
            size_bytes=checkpoint.size_bytes,
            epochs=checkpoint.epoch,
            step=checkpoint.step,
        )
        return True

    def finish(
        self,
        job_id: str,
        session_id: str,
        epoch: int,
        result: Mapping[str, object],
        version: TrainedVersion,
    ) -> bool:
        """The training is over: its result is kept for the job's end, and its version has what a
        worker is to load (``training`` → ``pending``). From now on it cannot be cancelled. False
        when the job is not this session's, or was asked to stop before.

        Said again, as an answer was lost, it changes nothing. ``Conflict`` with code
        ``version_not_in_training`` when the version was given up meanwhile.
        """
        work = self._work
        job = self._bump(job_id, session_id, epoch)
        if job is None:
            return False
        (run,) = work.change(KEPT, job=job_id)
        if run.result is not None:
            return True
        if job.cancel_requested_at is not None:
            return False
        if not Models(work).fill_in(run.version_id, version):
            raise Conflict(
                "the version that this training was to fill in was given up: submit it again",
                code="version_not_in_training",
            )
        work.count(FINISH, job=job_id, result=json_text(result), progress=done_text(run.progress))
        return True
