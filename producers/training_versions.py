"""Trainings among jobs about to be written: each makes the next version of its model.

The version's number is taken in the transaction that writes the job, so that the job's row has it
from the first and a submit that is rolled back, or was there before, takes none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from storage.database import Transaction
from storage.records.jobs import JobKind, NewJob


def with_versions(tx: Transaction, jobs: Sequence[tuple[str, NewJob]]) -> list[NewJob]:
    """The jobs of these (tenant, job), with a version reserved for each training.

    In the order of the models' names: transactions that want the same two wait for each other, and
    never both at once.
    """
    written = [job for _, job in jobs]
    trainings = [n for n, job in enumerate(written) if job.kind is JobKind.TRAINING]
    for n in sorted(trainings, key=lambda n: (jobs[n][0], written[n].model_name)):
        tenant, job = jobs[n]
        version = tx.models.reserve(tenant, job.version_id, job.model_name)
        written[n] = replace(job, version=version.version)
    return written
