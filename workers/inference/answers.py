"""From computed segments to one verdict per job. Counts every row; nothing here is uncertain."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from storage.records.errors import ItemError
from storage.records.jobs import JobError, Outcome, Verdict
from workers.inference.batch import Batch, Fault, Work
from workers.inference.batching import retry_delay_ms
from workers.inference.encode import encode_items, encode_rows
from workers.inference.spans import RowRef

log = logging.getLogger(__name__)

Answer = bytes | ItemError
_UNANSWERED = ItemError("the model gave no answer for it", code="no_answer")


@dataclass(slots=True)
class Answers:
    """Bytes to store by job id, and the verdicts of those that have none."""

    results: dict[str, bytes]
    outcomes: list[Outcome]


def answer(batch: Batch, *, retry_back_off_s: float) -> Answers:
    """Encode a batch, whatever became of its works."""
    rows = _encode(batch)
    answers = Answers({}, [])
    for index, work in enumerate(batch.works):
        if work.postpone_ms:
            answers.outcomes.append(_later(work))
        elif work.expired:
            answers.outcomes.append(_expired(work))
        elif work.refused is not None:
            answers.outcomes.append(_failed(work, work.refused))
        elif work.fault is not None:
            answers.outcomes.append(_again(work, work.fault, retry_back_off_s))
        elif work.is_list:
            answers.results[work.job.id] = encode_items(
                [_of_row(work, rows, RowRef(index, place)) for place in range(len(work.rows))]
            )
        else:
            only = _of_row(work, rows, RowRef(index, 0))
            if isinstance(only, ItemError):
                answers.outcomes.append(_failed(work, only))
            else:
                answers.results[work.job.id] = only
    return answers


def _of_row(work: Work, rows: dict[RowRef, Answer], ref: RowRef) -> Answer:
    row = work.rows[ref.row]
    return row if isinstance(row, ItemError) else rows.get(ref, _UNANSWERED)


def _encode(batch: Batch) -> dict[RowRef, Answer]:
    rows: dict[RowRef, Answer] = dict(batch.faults)
    if batch.lease is None:
        return rows
    signature = batch.lease.model.signature
    for segment in batch.segments:
        try:
            texts = encode_rows(signature, segment.outputs, len(segment.refs))
        except Exception as fault:
            log.error("outputs cannot be encoded: %s", type(fault).__name__, exc_info=True)
            error = ItemError(f"its output has no JSON form: {fault}"[:500], code="bad_output")
            texts = [error] * len(segment.refs)
        rows.update(zip(segment.refs, texts, strict=True))
    return rows


def _failed(work: Work, error: ItemError) -> Outcome:
    attempt = work.job.attempts + work.entered_device
    return Outcome(
        work.job.id,
        work.job.epoch,
        Verdict.FAILED,
        work.entered_device,
        error=JobError(error.stable_code, error.message, attempt),
    )


def _later(work: Work) -> Outcome:
    job = work.job
    return Outcome(job.id, job.epoch, Verdict.RELEASED, False, retry_in_ms=work.postpone_ms)


def _expired(work: Work) -> Outcome:
    return Outcome(work.job.id, work.job.epoch, Verdict.EXPIRED, False)


def _again(work: Work, fault: Fault, retry_back_off_s: float) -> Outcome:
    job = work.job
    return Outcome(
        job.id,
        job.epoch,
        Verdict.RETRY,
        work.entered_device,
        error=JobError(fault.code, fault.message, job.attempts + 1),
        retry_in_ms=retry_delay_ms(job.attempts, retry_back_off_s),
    )
