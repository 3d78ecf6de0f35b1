"""A dry run: a sample read, checked against the signature and scored; nothing is written."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pyarrow as pa

from storage.records.bulk import BulkSpec, row_id
from storage.records.jobs import ClaimedJob
from workers.bulk.encode import ChunkEncoder
from workers.bulk.kit import Kit
from workers.bulk.part_files import open_part
from workers.bulk.planning import Planner
from workers.bulk.sampling import Scored, score
from workers.bulk.stages import stages_of
from workers.bulk.writing import taken

SAMPLE_ROWS, SHOWN_ROWS, SHOWN_ERRORS = 512, 5, 20


def dry_run(kit: Kit, job: ClaimedJob, session_id: str, spec: BulkSpec) -> dict[str, object]:
    """What the job's result says."""
    planner = Planner(kit, job, session_id, spec)
    draft = planner.draft()
    shards = planner.cut(draft)
    stages = stages_of(kit, job.tenant, spec, draft.plan, draft.signature)
    scored = score(kit, job, session_id, draft, stages, SAMPLE_ROWS)
    if scored is None:
        return {"dry_run": True, "rows_total": draft.plan.rows, "sample_rows": 0}
    chunk = scored.chunk
    sample = len(chunk.positions) + len(chunk.errors) + chunk.skipped
    encoder: ChunkEncoder | None = None
    batches: list[pa.RecordBatch] = []
    errors = [(one.position, one.code, one.message) for one in chunk.errors]
    errors += [(int(chunk.positions[at]), code, says) for at, code, says in scored.decoded.errors]
    for first, _, answered in scored.answers:
        for low, high, outputs in answered.outputs:
            good = scored.decoded.good[first + low : first + high]
            kept = taken(chunk.batch.select(list(stages.kept)), good)
            encoder = encoder or ChunkEncoder(draft.signature, kept.schema, spec.output.format)
            encoded = encoder.encode(0, chunk.positions[good], kept, outputs)
            batches.append(encoded.batch)
            errors += [(int(chunk.positions[good[at]]), c, m) for at, c, m in encoded.errors]
        errors += [
            (int(chunk.positions[scored.decoded.good[first + row]]), one.stable_code, one.message)
            for row, one in answered.faults.items()
        ]
    rows_total = draft.plan.rows
    if rows_total is None:  # by the bytes that the sample took
        read = max(1, chunk.next)
        rows_total = round(sample * sum(file.stop for file in draft.plan.files) / read)
    device_s = sum(answered.device_s for _, _, answered in scored.answers)
    each_s = device_s / max(1, len(scored.decoded.good))
    with kit.database.read() as tx:
        workers = max(1, len(tx.sessions.live(kit.pool)))
    written = sum(batch.num_rows for batch in batches)
    shown = [row for batch in batches for row in batch.slice(0, SHOWN_ROWS).to_pylist()]
    return {
        "dry_run": True,
        "rows_total": rows_total,
        "rows_are_estimated": draft.plan.rows is None,
        "sample_rows": sample,
        "failed": len(errors),
        "shards": len(shards),
        "workers": workers,
        "estimated_s": math.ceil(10 * rows_total * each_s / workers) / 10,
        "estimated_device_s": round(rows_total * each_s, 1),
        "estimated_output_bytes": _output_bytes(kit, job, spec, batches, written, rows_total),
        "columns": _columns(stages.decoder.columns, stages.kept),
        "first_rows": shown[:SHOWN_ROWS],
        "errors": [
            {"row_id": row_id(0, position), "code": code, "message": message}
            for position, code, message in sorted(errors)[:SHOWN_ERRORS]
        ],
    }


def _columns(read: tuple[str, ...], kept: tuple[str, ...]) -> Mapping[str, object]:
    return {"read": list(read), "kept": list(kept)}


def _output_bytes(
    kit: Kit,
    job: ClaimedJob,
    spec: BulkSpec,
    batches: list[pa.RecordBatch],
    written: int,
    rows_total: int,
) -> int:
    if not written:
        return 0
    path = kit.spool / f"{job.id}-sample"
    try:
        part = open_part(path, spec.output.format, batches[0].schema)
        for batch in batches:
            part.write(batch)
        return round(part.close().size_bytes / written * rows_total)
    finally:
        path.unlink(missing_ok=True)


__all__ = ["Scored", "dry_run"]
