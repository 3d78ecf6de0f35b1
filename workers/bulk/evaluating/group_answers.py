"""What a group's jobs were answered, beside the rows that score their inputs again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from storage.objects.packs import read_slices
from storage.records.errors import Gone, NotFound
from storage.records.jobs import Job, PackSlice
from storage.records.models import ModelVersion
from storage.records.packs import PackState
from storage.records.signatures import Signature
from workers.bulk.evaluating.basis import Basis, basis_of
from workers.bulk.evaluating.matching import Pair, taken
from workers.bulk.evaluating.reading import Scored
from workers.bulk.kit import Failed, Kit
from workers.bulk.replaying import Still, in_bytes, members

Answer = Mapping[str, object]
Row = tuple[Any, ...]
"""What of an answer is compared."""


class GroupAnswers:
    """One group's, read as far as the rows have come. Beside the rows of a chunk it holds a page of
    jobs and some MiB of their answers.

    ``missing`` counts the jobs that only one side has answered in a way that can be compared: an
    answer to a list of items never can. ``versions`` are those that answered.
    """

    def __init__(self, kit: Kit, tenant: str, group_id: str, still: Still) -> None:
        self._kit, self._tenant, self._group_id, self._still = kit, tenant, group_id, still
        self.missing = 0
        self.versions: set[str] = set()

    def basis(self, signature: Signature) -> Basis | None:
        """By the version of the first job that was answered; None where none was."""
        for page in members(self._kit, self._tenant, self._group_id, self._still):
            for job in page:
                if job.result is not None:
                    version = self._kit.patiently(partial(self._version, job), self._still)
                    return basis_of(Signature.from_json(version.signature), signature)
        return None

    def pairs(self, after: Iterable[Scored], basis: Basis) -> Iterator[Pair]:
        """The rows that are answered on both sides."""
        answers = self._answers()
        for rows in after:
            found: list[tuple[int, Row]] = []
            for at, job_id in enumerate(rows.kept["custom_id"].to_pylist()):
                answer = self._until(job_id, answers)
                row = None if answer is None else _row(answer, rows, basis)
                if row is None:
                    self.missing += 1
                else:
                    found.append((at, row))
            if found:
                now = taken(rows, np.array([at for at, _ in found]))
                yield _scored([row for _, row in found], now, basis), now
        self.missing += sum(answer is not None for _, answer in answers)

    def _until(self, job_id: str, answers: Iterator[tuple[str, Answer | None]]) -> Answer | None:
        """The answer of this job; those before it in the group have no row now."""
        for other, answer in answers:
            if other == job_id:
                return answer
            self.missing += answer is not None
        return None

    def _answers(self) -> Iterator[tuple[str, Answer | None]]:
        """Each job of the group, in its order, with its answer if it has one."""
        for page in members(self._kit, self._tenant, self._group_id, self._still):
            for some in in_bytes(page, _size_bytes):
                results = self._kit.patiently(partial(self._results, some), self._still)
                for job in some:
                    if job.result is None:
                        yield job.id, None
                        continue
                    self.versions.add(f"{job.model_name}:{job.version}")
                    answer = orjson.loads(results[job.id])
                    yield job.id, answer if isinstance(answer, dict) else {}

    def _version(self, job: Job) -> ModelVersion:
        with self._kit.database.read() as tx:
            version = tx.models.by_id(job.version_id)
        if version is None:
            raise Failed(self._gone())
        return version

    def _results(self, jobs: Sequence[Job]) -> Mapping[str, bytes]:
        """The results of those that have one, a pack at a time."""
        by_pack: dict[str, list[tuple[str, PackSlice]]] = defaultdict(list)
        for job in jobs:
            if job.result is not None:
                by_pack[job.result.pack_id].append((job.id, job.result))
        with self._kit.database.read() as tx:
            packs = {pack_id: tx.packs.get(pack_id) for pack_id in by_pack}
        found: dict[str, bytes] = {}
        for pack_id, wanted in by_pack.items():
            pack = packs[pack_id]
            if pack is None or pack.state is PackState.DOOMED:
                raise Failed(self._gone())
            try:
                data = read_slices(self._kit.objects, pack.key, [place for _, place in wanted])
            except NotFound:
                raise Failed(self._gone()) from None
            found.update(zip((job_id for job_id, _ in wanted), data, strict=True))
        return found

    def _gone(self) -> Gone:
        return Gone(
            f"answers of group {self._group_id} were erased, or their retention has passed: there"
            " is nothing left to compare with",
            code="result_gone",
        )


def _size_bytes(job: Job) -> int:
    return job.result.length_bytes if job.result is not None else 0


def _row(answer: Answer, rows: Scored, basis: Basis) -> Row | None:
    """Label and score, or a number or more for each output; None where they are not all there."""
    if basis.labels:
        label, top = answer.get("label"), answer.get("top")
        if not isinstance(label, str) or not isinstance(top, list) or not top:
            return None
        return label, top[0]["score"]
    given = answer.get("outputs")
    if not isinstance(given, dict):
        return None
    found = []
    for was, now in basis.outputs:
        only = len(given) == len(basis.outputs) == 1  # whatever it is called in this version
        if not only and was not in given:
            return None
        output = rows.outputs[now]
        try:
            numbers = np.asarray(
                next(iter(given.values())) if only else given[was], dtype=output.dtype
            )
        except (TypeError, ValueError, OverflowError):
            return None
        if numbers.size != output[0].size or not np.isfinite(numbers).all():
            return None
        found.append(numbers.reshape(output.shape[1:]))
    return tuple(found)


def _scored(answers: Sequence[Row], rows: Scored, basis: Basis) -> Scored:
    """The answers as rows at the same positions."""
    columns = list(zip(*answers, strict=True))
    if basis.labels:
        labels, scores = pa.array(columns[0], pa.string()), np.array(columns[1], np.float32)
        return Scored(rows.file, rows.positions, rows.kept, labels, scores, {})
    names = [was for was, _ in basis.outputs]
    outputs = {name: np.stack(column) for name, column in zip(names, columns, strict=True)}
    return Scored(rows.file, rows.positions, rows.kept, None, None, outputs)
