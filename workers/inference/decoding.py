"""From claimed jobs to candidates: brings the inputs, decodes them item by item, adds them to the
ready window. What is refused goes straight to the finishing stage.

A claim is decoded in slices. Each ends when it has brought enough bytes or taken long enough, so
that the device gets its first rows while the last ones of a slow claim are still pictures.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from storage.clock import Clock
from storage.records.errors import ItemError
from storage.records.jobs import PackSlice
from workers.inference import shapes
from workers.inference.batch import Batch, Work
from workers.inference.batching import Candidate, companions_of, latest_start_s
from workers.inference.claim import Claimed
from workers.inference.credit import Credit
from workers.inference.decode import decode_input
from workers.inference.decode_crew import DecodeCrew
from workers.inference.gate import TROUBLE
from workers.inference.meters import Meters
from workers.inference.payloads import Payload, Payloads
from workers.inference.ports import LoadedModel
from workers.inference.ready import Ready, work_of
from workers.inference.refs import RefReader, RefUnavailable

log = logging.getLogger(__name__)

_POSTPONE_MS = 30_000  # for a job whose reference lies in a storage that does not answer
_DECODED_FACTOR = 4  # what waits decoded may be so much larger than what one claim brings in
_TICK_S = 0.25


class Decoder:
    """Runs on a decode thread for each class."""

    def __init__(
        self,
        payloads: Payloads,
        refs: RefReader,
        ready: Ready,
        credit: Credit,
        clock: Clock,
        meters: Meters,
        crew: DecodeCrew,
        *,
        max_bytes: int,
        stopping: Callable[[], bool],
        trouble: Callable[[Exception], None],
    ) -> None:
        self._payloads, self._refs, self._ready = payloads, refs, ready
        self._credit, self._clock = credit, clock
        self._meters, self._crew = meters, crew
        self._max_bytes, self._stopping = max_bytes, stopping
        self._trouble = trouble

    def run(self, claimed: Claimed, refuse: Callable[[Batch], None]) -> list[Work]:
        """Decode and hand on; returns what has to be given back (a stop, storage that is away)."""
        left = claimed.works
        fetched: dict[str, Payload] = {}
        try:
            while left and self._wait_for_memory():
                decoded = self._decoded(left, claimed, fetched)
                left = [*self._hand_on(decoded, claimed, refuse), *left[len(decoded) :]]
        except Exception as trouble:
            self._trouble(trouble)
        for lease in claimed.leases.values():
            lease.release()
        for work in left:
            self._credit.spend(work.line, -work.credit)
        return left

    def _wait_for_memory(self) -> bool:
        while not self._stopping():
            if self._ready.wait_for_bytes(_DECODED_FACTOR * self._max_bytes, _TICK_S):
                return not self._stopping()
        return False

    def _decoded(
        self, works: Sequence[Work], claimed: Claimed, fetched: dict[str, Payload]
    ) -> Sequence[Work]:
        """The first few, decoded. Raises trouble of the storage.

        ``fetched`` keeps what was brought and not decoded for the next slice.
        """
        began_s = self._clock.monotonic_s()
        if works[0].job.id not in fetched:
            coming = works[: _fitting(works, self._max_bytes)]
            fetched.update(self._payloads.fetch([work.job for work in coming]))
        here = [work for work in works if work.job.id in fetched]  # the first ones

        def decode(work: Work) -> None:
            model = claimed.leases[work.job.version_id].model
            self._decode(model, work, fetched.pop(work.job.id))

        some = works[: self._crew.run(here, decode)]
        self._note(some, self._clock.monotonic_s() - began_s)
        return some

    def _hand_on(
        self, works: Sequence[Work], claimed: Claimed, refuse: Callable[[Batch], None]
    ) -> list[Work]:
        """To the window, or to the finishing stage. Returns what a stop kept out of the window."""
        refused: list[Work] = []
        ready: dict[str, list[Candidate]] = {}
        passes_s: dict[tuple[str, str, int], float] = {}
        for work in works:
            model = claimed.leases[work.job.version_id].model
            candidate = self._candidate(model, work, passes_s)
            if candidate is None:
                refused.append(work)
            else:
                ready.setdefault(work.job.version_id, []).append(candidate)
        if refused:
            for work in refused:
                self._credit.spend(work.line, -work.credit)
            refuse(Batch(refused))
        kept_out: list[Work] = []
        for version_id, candidates in ready.items():
            if not self._ready.add(claimed.leases[version_id].share(), candidates):
                kept_out += [work_of(one) for one in candidates]
        return kept_out

    def _candidate(
        self, model: LoadedModel, work: Work, passes_s: dict[tuple[str, str, int], float]
    ) -> Candidate | None:
        """None when it has no row that could be computed."""
        job, signature = work.job, model.signature
        rows = [row for row in work.rows if not isinstance(row, ItemError)]
        if not rows:
            return None
        try:
            shape = shapes.shape_of(signature, rows)
            cost = shapes.cost_of(signature, rows)
        except Exception as fault:
            log.error("an input has no shape: %s", type(fault).__name__, exc_info=True)
            work.refused = ItemError("the input could not be read", code="undecodable")
            return None
        kind = (job.version_id, shape, len(rows))
        pass_s = passes_s.get(kind)
        if pass_s is None:
            pass_s = passes_s[kind] = self._ready.estimate_s(*kind)
        self._credit.spend(work.line, len(rows) - work.credit)
        work.credit = len(rows)
        work.size_bytes = sum(array.nbytes for row in rows for array in row.values())
        return Candidate(
            job_id=job.id,
            tenant=job.tenant,
            version_id=job.version_id,
            shape=shape,
            rows=len(rows),
            cost=cost,
            rank_ms=job.rank,
            bulk=job.is_bulk,
            latest_start_s=latest_start_s(job, work.claimed_s, pass_s),
            companions=companions_of(job),
            payload=work,
        )

    def _note(self, works: Sequence[Work], seconds: float) -> None:
        counts: dict[str, int] = {}
        for work in works:
            counts[work.job.version_id] = counts.get(work.job.version_id, 0) + 1
        for version_id, count in counts.items():
            share_s = seconds * count / len(works)
            self._meters.stage(version_id, "decode", count, share_s)
            self._ready.observe_stage(version_id, "decode", count, share_s)

    def _decode(self, model: LoadedModel, work: Work, payload: Payload) -> None:
        if isinstance(payload, ItemError):
            work.refused = payload
            return
        try:
            reader = self._refs.for_tenant(work.job.tenant)
            decoded = decode_input(model.signature, payload, fetch_ref=reader)
        except ItemError as error:
            work.refused = error
            return
        except RefUnavailable as trouble:
            log.warning("a listed prefix does not answer: %s", trouble)
            work.postpone_ms = _POSTPONE_MS
            return
        except TROUBLE:
            raise
        except Exception as fault:
            log.error("an input could not be decoded: %s", type(fault).__name__, exc_info=True)
            work.refused = ItemError("the input could not be read", code="undecodable")
            return
        work.rows, work.is_list = decoded.rows, decoded.is_list


def _fitting(works: Sequence[Work], max_bytes: int) -> int:
    """How many of the first ones may be brought in together."""
    total = 0
    for count, work in enumerate(works):
        payload = work.job.payload
        total += payload.length_bytes if isinstance(payload, PackSlice) else len(payload)
        if count and total > max_bytes:
            return count
    return len(works)
