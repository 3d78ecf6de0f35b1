"""From what was asked for to a plan: files found, columns checked, the output proved, shards cut.

Everything that can be wrong with a whole run is found here, before the first batch; each finding
is an error of the job's that says which file or column it is about.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import pyarrow as pa

from storage.records.bulk import OUTPUT, BulkFormat, BulkSpec, Plan, PlannedFile, ShardPlan
from storage.records.errors import InvalidInput, NotFound, ObjectsMisconfigured
from storage.records.jobs import ClaimedJob
from storage.records.signatures import Signature
from workers.bulk.cutting import FileToCut, cut
from workers.bulk.destination import (
    OWN,
    Destination,
    destination_of,
    output_prefix,
    own_store,
)
from workers.bulk.evaluating.asked import asked_of, check_target
from workers.bulk.evaluating.comparing import check_against
from workers.bulk.feeding import signature_of
from workers.bulk.files import APART, LISTED, LISTING, TYPES, open_found, open_planned
from workers.bulk.kept import kept_of, notes_of
from workers.bulk.kit import Failed, Kit, Stopped
from workers.bulk.names import is_ours
from workers.bulk.places import MAX_FILES, Found, Place
from workers.bulk.ports import Chunk, Source
from workers.bulk.reading.opening import format_of, planned
from workers.bulk.reading.uris import write_listing
from workers.bulk.replaying import group_lines, replayed
from workers.bulk.retrying import failed_rows
from workers.bulk.sampling import device_s_per_row
from workers.bulk.stages import Stages, stages_of, types_in
from workers.inference.gate import TROUBLE

log = logging.getLogger(__name__)

T = TypeVar("T")

_OPENERS = 8
_PAUSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan that nothing was written of yet."""

    plan: Plan
    sources: Sequence[Source]
    signature: Signature
    destination: Destination
    bytes_per_row: float = 1.0  # where positions are bytes


class Planner:
    """Plans one run."""

    def __init__(self, kit: Kit, job: ClaimedJob, session_id: str, spec: BulkSpec) -> None:
        self._kit, self._job, self._session_id, self._spec = kit, job, session_id, replayed(spec)
        self._is_mine = partial(kit.holds, session_id)

    def plan(self) -> bool:
        """Write the plan and its shards; False when the job is not ours any more."""
        spec, kit, job = self._spec, self._kit, self._job
        if spec.resume_of is not None:
            adopted = self._adopt(spec.resume_of)
            if adopted is not None:
                return adopted
        if spec.failed_rows_of is not None:
            plan, shards = failed_rows(kit, job, spec, self._base())
            plan = self._with_columns(plan, shards[0])
            self._prove_output(destination_of(kit, spec, plan.base))
        else:
            draft = self.draft()
            plan, shards = draft.plan, self.cut(draft)

        def write() -> bool:
            with kit.database.begin() as tx:
                return tx.bulk.plan(job.id, self._session_id, job.epoch, plan, shards)

        return kit.patiently(write, self._is_mine)

    def draft(self) -> Draft:
        """Everything but the shards."""
        kit, spec, tenant = self._kit, self._spec, self._job.tenant
        signature = signature_of(kit, self._job.version_id)
        own = own_store(kit, self._job)
        destination = self._outside(lambda: destination_of(kit, spec, self._base()), "output")
        self._prove_output(destination)
        extra: dict[str, object] = {OWN: own.base}
        if spec.output.uri is not None:
            extra[OUTPUT] = output_prefix(kit, spec.output.uri)
        found = self._found(own, extra)
        sources = self._open(found, extra, signature)
        files = tuple(map(planned, found, sources))
        columns = next(names for source in sources if (names := source.columns()))
        rows = [file.rows for file in files]
        known = None if None in rows else sum(row or 0 for row in rows)
        plan = Plan(files, columns, destination.base, known, extra)
        stages = stages_of(kit, tenant, spec, plan, signature)
        file, first = self._first_rows(plan, sources, stages)
        kept = first.batch.select(list(stages.kept)).schema
        if (asked := asked_of(spec, columns, plan.files[0].format)) is not None:
            check_target(asked, signature, kept)
        rows_read = len(first.positions) + len(first.errors) + first.skipped
        row_bytes = 1.0 if file.rows is not None else first.next / rows_read
        extra |= {**notes_of(signature, kept, spec.output.format), APART: row_bytes}
        plan = replace(plan, extra=extra)
        if spec.evaluation is not None:
            check_against(kit, self._job, spec, plan, signature, self._is_mine)
        return Draft(plan, sources, signature, destination, row_bytes)

    def cut(self, draft: Draft) -> list[ShardPlan]:
        """The shards, of as much work each as is worth a claim and small enough to be shared."""
        kit = self._kit
        each_s = device_s_per_row(kit, self._job, self._session_id, self._spec, draft)
        with kit.database.read() as tx:
            workers = len(tx.sessions.live(kit.pool))
        files = [
            FileToCut(
                index,
                file.stop,
                file.rows,
                tuple(source.cuts()),
                splittable=not file.gzip,
                bytes_per_row=None if file.rows is not None else draft.bytes_per_row,
            )
            for index, (file, source) in enumerate(
                zip(draft.plan.files, draft.sources, strict=True)
            )
        ]
        return cut(files, device_s_per_row=each_s, workers=max(1, workers))

    # --- inputs

    def _with_columns(self, plan: Plan, shard: ShardPlan) -> Plan:
        """Another run's plan with what this one keeps beside the predictions, by a row of it."""
        kit, spec, tenant = self._kit, self._spec, self._job.tenant
        signature = signature_of(kit, self._job.version_id)
        kept = stages_of(kit, tenant, spec, plan, signature).kept
        schema = kept_of(plan)
        if schema is None or tuple(schema.names) != kept:

            def look() -> Chunk:  # the range has at least the wrong row that it begins with
                source = open_planned(kit, tenant, spec, plan, shard.file)
                chunks = source.chunks(shard.start, shard.stop, kept, max_rows=1, max_bytes=1 << 20)
                return next(iter(chunks))

            schema = self._outside(look, "input").batch.schema if kept else pa.schema([])
        return replace(
            plan, extra={**plan.extra, **notes_of(signature, schema, spec.output.format)}
        )

    def _found(self, own: Destination, extra: dict[str, object]) -> list[Found]:
        spec, tenant, places = self._spec, self._job.tenant, self._kit.places
        if spec.evaluation is not None and spec.evaluation.of_group is not None:
            group_id = spec.evaluation.of_group
            return [group_lines(self._kit, self._job, group_id, own, extra, self._is_mine)]
        if spec.input.format is BulkFormat.IMAGES:
            return [self._listing(own, extra)]
        found: list[Found] = []
        for uri in spec.input.uris:
            found += self._outside(partial(places.expand, tenant, uri), "input")
        if len(found) > MAX_FILES:
            raise InvalidInput(
                f"the input names {len(found)} files, at most {MAX_FILES} are taken",
                code="too_many_files",
            )
        return found

    def _listing(self, own: Destination, extra: dict[str, object]) -> Found:
        """A prefix of pictures becomes a list of addresses in our own store."""
        kit, tenant = self._kit, self._job.tenant

        def listed() -> bytes:
            founds = (one for uri in self._spec.input.uris for one in kit.places.each(tenant, uri))
            return write_listing(founds)

        data = self._outside(listed, "input")
        key = own.keep(kit, tenant, f"_listing-{self._job.epoch}.txt", data, self._is_mine)
        extra |= {LISTING: key, LISTED: hashlib.sha256(data).hexdigest()}
        place = Place(kit.objects, key, self._spec.input.uris[0])
        return Found(place, len(data), None)

    def _open(
        self, found: Sequence[Found], extra: dict[str, object], signature: Signature
    ) -> Sequence[Source]:
        """Every file, looked into; the first one's types go for all of them."""
        spec = self._spec
        form = spec.input.format
        if form is None:
            forms = {format_of(one.place.filename)[0] for one in found}
            if len(forms) > 1:
                names = " and ".join(sorted(one.value for one in forms))
                raise InvalidInput(
                    f"the input holds {names} files: score each kind in a job of its own",
                    code="mixed_formats",
                )
            (form,) = forms
        if form is BulkFormat.IMAGES:
            form = BulkFormat.URIS
        kit, tenant = self._kit, self._job.tenant

        def opened(one: Found) -> Source:
            return self._outside(
                lambda: open_found(kit, tenant, spec, extra, one, form, just_found=True), "input"
            )

        at, first = 0, opened(found[0])
        while not first.columns():  # an empty file of text says nothing of the others
            at += 1
            if at == len(found):
                raise _empty([one.place.uri for one in found])
            first = opened(found[at])
        tell = getattr(first, "types", None)
        if tell is not None:  # a text file's columns have the types that they have in the first one
            extra[TYPES] = self._outside(
                lambda: types_in(spec, signature, first.columns(), form, tell), "input"
            )
            first = opened(found[at])
        with ThreadPoolExecutor(_OPENERS, "forebay-bulk-open") as pool:
            others = list(pool.map(opened, [*found[:at], *found[at + 1 :]]))
        sources = [*others[:at], first, *others[at:]]
        for source, one in zip(sources, found, strict=True):
            missing = set(first.columns()) - set(source.columns())
            if missing and source.columns():
                raise InvalidInput(
                    f"{one.place.uri} has no column {min(missing)!r}, which"
                    f" {found[at].place.uri} has",
                    code="unknown_column",
                )
        return sources

    def _first_rows(
        self, plan: Plan, sources: Sequence[Source], stages: Stages
    ) -> tuple[PlannedFile, Chunk]:
        """The first file that has rows, and its first ones. Raises when there is none."""
        for file, source in zip(plan.files, sources, strict=True):

            def first(file: PlannedFile = file, source: Source = source) -> Chunk | None:
                for chunk in source.chunks(
                    0, file.stop, stages.columns, max_rows=256, max_bytes=1 << 20
                ):
                    if len(chunk.positions) or chunk.errors or chunk.skipped:
                        return chunk
                return None

            chunk = None if file.rows == 0 else self._outside(first, "input")
            if chunk is not None:
                return file, chunk
        raise _empty([file.uri for file in plan.files])

    # --- the output

    def _base(self) -> str:
        if self._spec.output.uri is None:
            return own_store(self._kit, self._job).base
        return self._kit.places.output(self._spec.output.uri).key

    def _prove_output(self, destination: Destination) -> None:
        """Nothing is there, and something can be put there."""
        if destination.is_own:
            return
        names = self._outside(destination.names, "output")
        ours = [name for name in names if is_ours(name)]
        if names and not self._spec.output.overwrite:
            raise InvalidInput(
                f"there is something at {self._spec.output.uri} ({names[0]}): choose another"
                " place, or say overwrite",
                code="output_exists",
                field="output.uri",
            )
        if ours:
            self._outside(lambda: destination.delete(ours), "output")

        def probe() -> None:
            key = destination.key(f"_probe-{secrets.token_hex(8)}")
            destination.objects.put(key, b"forebay")
            destination.objects.delete([key])

        self._outside(probe, "output")

    def _outside(self, call: Callable[[], T], what: str) -> T:
        """A call to somebody else's storage: our own may be well, so only this job waits; a
        refusal is the job's error, as nobody else would be let in either."""
        while True:
            try:
                return call()
            except ObjectsMisconfigured as refused:
                verb = "read" if what == "input" else "written"
                raise Failed(
                    InvalidInput(
                        f"the {what} cannot be {verb}: {refused.message}",
                        code=f"{what}_not_accessible",
                        field=f"{what}.uri",
                    )
                ) from refused
            except TROUBLE as trouble:
                log.warning("a bulk job's %s does not answer: %s", what, type(trouble).__name__)
            if not self._is_mine():
                raise Stopped
            self._kit.hurry.wait(_PAUSE_S)

    # --- others

    def _adopt(self, old_id: str) -> bool | None:
        """Go on with another job's parts; None when it was never planned."""
        kit, job = self._kit, self._job

        def adopt() -> bool | None:
            with kit.database.begin() as tx:
                old = tx.bulk.run(old_id, tenant=job.tenant)
                if old is None:
                    raise Failed(NotFound(f"job {old_id} is gone", code="job_not_found"))
                if old.plan is None:
                    return None
                return tx.bulk.adopt(job.id, old_id, self._session_id, job.epoch)

        return kit.patiently(adopt, self._is_mine)


def _empty(uris: Sequence[str]) -> InvalidInput:
    """The error of an input without a row."""
    more = f" and {len(uris) - 3} more" if len(uris) > 3 else ""
    says = f"there is no row that can be read in {', '.join(uris[:3])}{more}"
    return InvalidInput(says, code="input_empty", field="input.uri")
