"""Single jobs that arrive together: one read and one write for all, each answered by itself.

A transaction costs the same for one job as for a hundred, so what queues up while one is being
committed shares the next. The callers know nothing of each other: a refusal or a replay is one
caller's alone, and when the database refuses what was written together, the halves are written
apart until the one at fault is alone. Only a database that does not answer fails them all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from producers.admission import Admission
from producers.bulk_retries import take_over
from producers.drafting import Drafting, Facts, as_written, of_tenants
from producers.express import Booking, Express, booking
from producers.inputs import InputStore, Placed
from producers.repeats import Repeat
from producers.requests import JobRequest
from producers.training_versions import with_versions
from storage.database import Database, Transaction
from storage.records.errors import (
    DatabaseUnavailable,
    ForebayError,
    Gone,
    Overloaded,
    Unprocessable,
)
from storage.records.jobs import BULK_KINDS, Job, JobKind, Millis, NewJob, PackSlice
from storage.records.tenants import Remembered


@dataclass(frozen=True, slots=True)
class Asked:
    """One job as somebody asked for it, read but not yet held against the database."""

    tenant: str
    request: JobRequest
    repeat: Repeat | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """One job, durable. ``replayed``: the idempotency key had it already."""

    job: Job
    replayed: bool = False
    estimated_start_at: Millis | None = None


# (pool, tenant, priority, jobs, version id) → when the first of these jobs will start
Estimate = Callable[[str, str, int, int, str], Millis | None]
Answer = Accepted | Exception


@dataclass(slots=True, eq=False)
class Case:
    """A job on its way into the database, and in the end the answer to its caller."""

    tenant: str
    repeat: Repeat | None
    request: JobRequest | None = None
    job: NewJob | None = None
    placed: Placed | None = None
    answer: Answer | None = None

    @property
    def pair(self) -> tuple[str, str]:
        """Whose idempotency key it came with, and the key."""
        assert self.repeat is not None
        return self.tenant, self.repeat.key


@dataclass(frozen=True, slots=True)
class _Written:
    """What a transaction wrote, to be told once it has committed."""

    answers: Sequence[tuple[Case, Answer]]
    fresh: Sequence[tuple[Case, NewJob]]
    express: bool  # all of them are in the ready window


@dataclass(frozen=True, slots=True)
class SinglesParts:
    """What writing needs; shared with the submission of many."""

    database: Database
    drafting: Drafting
    inputs: InputStore
    admission: Admission
    express: Express | None
    idempotency_ttl_ms: int
    estimate: Estimate
    wrote: Callable[[str, int], None]  # tenant and number of jobs that are durable now
    poke: Callable[[], None]  # there is work that waits for a relay


class Singles:
    """Blocking. Safe to share between threads."""

    def __init__(self, parts: SinglesParts) -> None:
        self._parts = parts

    def submit(self, asked: Sequence[Asked]) -> list[Answer]:
        """The answers, in the order of the questions."""
        cases = [Case(one.tenant, one.repeat, one.request) for one in asked]
        self._settle(cases, self._look_and_write)
        return [_said(case) for case in cases]

    def write(self, tenant: str, job: NewJob, repeat: Repeat | None) -> Accepted:
        """One job that needs no looking up."""
        case = Case(tenant, repeat, job=job)
        self._settle([case], self._write)
        answer = _said(case)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _settle(self, cases: Sequence[Case], step: Callable[[Sequence[Case]], None]) -> None:
        """Do the step for all; if that fails, for each half, until the one at fault is alone."""
        try:
            step(cases)
            return
        except DatabaseUnavailable as error:
            for case in _open(cases):
                case.answer = error
            return
        except Exception as error:
            rest = _open(cases)
            if len(rest) <= 1:
                for case in rest:
                    case.answer = error
                return
        half = len(rest) // 2
        self._settle(rest[:half], step)
        self._settle(rest[half:], step)

    def _look_and_write(self, cases: Sequence[Case]) -> None:
        """Look up and write in one transaction, unless a large input has to be put in between:
        a server process that was just asked is awake, and answers in a tenth of the time."""
        parts = self._parts
        with booking(parts.express) as booked, parts.database.begin() as tx:
            self._recall(tx, cases)
            self._admit(tx, cases)
            facts = self._look(tx, cases)
            self._draft(_open(cases), facts)
            firsts, twins = _without_twins(_open(cases))
            large = any(parts.inputs.is_large(case.job) for case in firsts if case.job)
            written = None if large else self._write_in(tx, booked, firsts)
        if written is None:
            self._place(_open(cases), facts)
            self._write(_open(cases))
        else:
            self._tell(written)
            self._answer_twins(firsts, twins)

    def _recall(self, tx: Transaction, cases: Sequence[Case]) -> None:
        """Answer those whose key is known, before anything of them is checked."""
        keyed = [case for case in cases if case.repeat is not None]
        known = tx.idempotency.recall_each({case.pair for case in keyed})
        for case in keyed:
            if (remembered := known.get(case.pair)) is not None:
                case.answer = _replay(tx, case, remembered)

    def _admit(self, tx: Transaction, cases: Sequence[Case]) -> None:
        """Each tenant's jobs as far as its backlog has room."""
        counts: dict[str, int] = {}
        for case in _open(cases):
            counts[case.tenant] = counts.get(case.tenant, 0) + 1
            try:
                self._parts.admission.check(tx, case.tenant, counts[case.tenant])
            except Overloaded as error:
                case.answer = error

    def _look(self, tx: Transaction, cases: Sequence[Case]) -> dict[str, Facts]:
        requests = of_tenants((c.tenant, c.request) for c in _open(cases) if c.request)
        return {
            tenant: self._parts.drafting.look(tx, tenant, theirs)
            for tenant, theirs in requests.items()
        }

    def _draft(self, cases: Sequence[Case], facts: dict[str, Facts]) -> None:
        """Check each job."""
        if not cases:
            return
        drafting = self._parts.drafting
        ids = drafting.ids(len(cases), facts[cases[0].tenant].now)
        for case, job_id in zip(cases, ids, strict=True):
            assert case.request is not None
            try:
                case.job = drafting.one(case.request, facts[case.tenant], job_id)
            except ForebayError as error:
                case.answer = error

    def _place(self, cases: Sequence[Case], facts: dict[str, Facts]) -> None:
        """Put what is too large for SQL."""
        for case in cases:
            assert case.job is not None
            now = facts[case.tenant].now
            (pack_id,) = self._parts.drafting.ids(1, now)
            try:
                case.placed = self._parts.inputs.place(case.tenant, [case.job], pack_id, now)
                (case.job,) = case.placed.jobs
            except ForebayError as error:
                case.answer = error

    def _write(self, cases: Sequence[Case]) -> None:
        if not cases:
            return
        firsts, twins = _without_twins(cases)
        with booking(self._parts.express) as booked, self._parts.database.begin() as tx:
            written = self._write_in(tx, booked, firsts)
        self._tell(written)
        self._answer_twins(firsts, twins)

    def _write_in(self, tx: Transaction, booked: Booking, cases: Sequence[Case]) -> _Written:
        _hold_inputs(tx, cases)
        answers = self._take_keys(tx, cases)
        known = {case for case, _ in answers}
        unknown = [(c, c.job) for c in cases if c.job is not None and c not in known]
        written = with_versions(tx, [(case.tenant, job) for case, job in unknown])
        fresh = [(case, job) for (case, _), job in zip(unknown, written, strict=True)]
        for case, _ in fresh:
            if case.placed is not None:
                case.placed.publish(tx)
        booked.take((case.tenant, job) for case, job in fresh)
        published = booked.ids
        rows = [(case.tenant, job) for case, job in fresh]
        now = tx.jobs.submit_each(rows, published=published) if rows else 0
        for tenant, runs in _of_kinds(rows, BULK_KINDS).items():
            tx.bulk.create(tenant, runs)
            for job in runs:
                take_over(tx, tenant, job)
        for tenant, runs in _of_kinds(rows, {JobKind.TRAINING}).items():
            tx.training.create(tenant, runs)
        answers += [
            (c, Accepted(as_written(job, c.tenant, now, published=job.id in published)))
            for c, job in fresh
        ]
        return _Written(answers, fresh, express=len(published) == len(fresh))

    def _tell(self, written: _Written) -> None:
        """It has committed."""
        for case, answer in written.answers:
            case.answer = answer
        self._count(written.fresh)
        if not written.express:
            self._parts.poke()

    def _take_keys(self, tx: Transaction, cases: Sequence[Case]) -> list[tuple[Case, Answer]]:
        """Make the keys stand for their jobs; answers for those that stood for another before."""
        given = {
            case.pair: Remembered(case.repeat.fingerprint, case.job.id)
            for case in cases
            if case.repeat is not None and case.job is not None
        }
        if not given:
            return []
        known = tx.idempotency.remember_each(given, self._parts.idempotency_ttl_ms)
        return [
            (case, _replay(tx, case, known[case.pair]))
            for case in cases
            if case.repeat is not None and case.pair in known
        ]

    def _answer_twins(self, firsts: Sequence[Case], twins: Sequence[Case]) -> None:
        """Requests that came with the key of another in the same write."""
        if not twins:
            return
        by_pair = {case.pair: case for case in firsts if case.repeat is not None}
        again = []
        for twin in twins:
            first = by_pair[twin.pair]
            if isinstance(first.answer, Accepted) and first.repeat == twin.repeat:
                twin.answer = Accepted(first.answer.job, replayed=True)
            else:
                again.append(twin)  # another body, or the first one failed: as if it came later
        self._settle(again, self._look_and_write)

    def _count(self, fresh: Sequence[tuple[Case, NewJob]]) -> None:
        """Tell admission of them, and the callers when they may start."""
        alike: dict[tuple[str, str, int, str], list[Case]] = {}
        for case, job in fresh:
            kind = (job.pool, case.tenant, job.priority, job.version_id)
            alike.setdefault(kind, []).append(case)
        for (pool, tenant, priority, version_id), cases in alike.items():
            self._parts.wrote(tenant, len(cases))
            start_at = self._parts.estimate(pool, tenant, priority, len(cases), version_id)
            for case in cases if start_at is not None else ():
                assert isinstance(case.answer, Accepted)
                case.answer = replace(case.answer, estimated_start_at=start_at)


def _of_kinds(
    rows: Sequence[tuple[str, NewJob]], kinds: Collection[JobKind]
) -> dict[str, list[NewJob]]:
    """Those of some kinds, by tenant: bulk jobs, evaluations and trainings have a record of their
    own besides."""
    found: dict[str, list[NewJob]] = {}
    for tenant, job in rows:
        if job.kind in kinds:
            found.setdefault(tenant, []).append(job)
    return found


def _hold_inputs(tx: Transaction, cases: Sequence[Case]) -> None:
    """A retry points to the input of the job before: it must stay until that is written."""
    packs = {
        case.job.payload.pack_id
        for case in cases
        if case.placed is None and case.job and isinstance(case.job.payload, PackSlice)
    }
    if packs and packs - tx.packs.hold(packs):
        raise input_gone()


def input_gone() -> Gone:
    """The error of a retry that comes too late."""
    return Gone("the job's input was erased; submit it anew", code="input_gone")


def _open(cases: Sequence[Case]) -> list[Case]:
    return [case for case in cases if case.answer is None]


def _said(case: Case) -> Answer:
    assert case.answer is not None
    return case.answer


def _without_twins(cases: Sequence[Case]) -> tuple[list[Case], list[Case]]:
    """The first case of each key and those without one; and the others."""
    seen: set[tuple[str, str]] = set()
    firsts, twins = [], []
    for case in cases:
        if case.repeat is not None and case.pair in seen:
            twins.append(case)
            continue
        if case.repeat is not None:
            seen.add(case.pair)
        firsts.append(case)
    return firsts, twins


def _replay(tx: Transaction, case: Case, known: Remembered) -> Answer:
    """What a repeated request is answered."""
    assert case.repeat is not None
    try:
        return replayed(tx, case.tenant, case.repeat.stands_for(known))
    except (Unprocessable, Gone) as error:
        return error


def replayed(tx: Transaction, tenant: str, job_id: str) -> Accepted:
    """The job of a key that is known already, as it stands now."""
    job = tx.jobs.get(tenant, job_id)
    if job is None:
        raise Gone("this key's job was erased", code="job_gone")
    return Accepted(job, replayed=True)
