"""The whole installation in Prometheus' words: what waits, and what every live worker counted.

Workers' counts come from the documents in their sessions' rows; counters carry the worker's id,
so that one which starts or ends is a series of its own and no rate is wrong. Names of tenants and
models are only there for who may see them; for everybody else the same figures come summed up.
How many series there are is bounded, whatever tenants and models there are.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.metrics_core import Metric

from producers.api.metric_names import FAMILIES, Kind
from producers.estimates import Sample
from storage.records.counts import (
    BULK,
    CLASSES,
    ONLINE,
    ClassCounts,
    Histogram,
    StageCounts,
    VersionCounts,
    WorkerCounts,
)
from storage.records.jobs import Millis, is_bulk
from storage.records.sessions import Session, processes
from storage.records.webhooks import DeliveryLoad

OTHER = "(other)"  # no name of a tenant or a model looks like this
MAX_WORKERS = 256
MAX_NAMED = 256  # pairs of worker and version, and as many of worker and tenant
MAX_WAITING = 256  # kinds of waiting work per pool

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Named:
    """A version, as people call it."""

    tenant: str
    model: str  # name:version


@dataclass(frozen=True, slots=True)
class PoolView:
    """A pool's backlog."""

    pool: str
    sample: Sample
    window: int  # how much of it is in the ready window
    workers: int  # alive now; the sample may be older


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A live worker and what it counted."""

    session: Session
    counts: WorkerCounts

    @property
    def id(self) -> str:
        """Its name on the page: the session's id, shortened; no host's name is in it."""
        return self.session.id.replace("-", "")[-12:]


@dataclass(frozen=True, slots=True)
class KeeperView:
    """How far keepers, wherever they run, are behind."""

    lag_s: Mapping[str, float]  # by duty
    deliveries: DeliveryLoad
    taken_at: Millis


@dataclass(frozen=True, slots=True)
class View:
    """Everything at one moment."""

    pools: Sequence[PoolView]
    workers: Sequence[WorkerView]
    names: Mapping[str, Named] = field(default_factory=dict)  # by version id
    keeping: KeeperView = field(default_factory=lambda: KeeperView({}, DeliveryLoad(0, 0, None), 0))


def workers_of(sessions: Iterable[Session]) -> list[WorkerView]:
    """One view per process."""
    return [
        WorkerView(session, WorkerCounts.from_json(session.stats))
        for session in processes(sessions)[-MAX_WORKERS:]
    ]


def families(view: View, *, named: bool) -> list[Metric]:
    """The page's metrics, with tenants' and models' names if ``named``."""
    page = _Page()
    _keeping(page, view.keeping)
    for pool in view.pools:
        _backlog(page, pool, view, named)
    some = _weightiest(view) if named else frozenset()
    tenants = _weightiest_tenants(view) if named else frozenset()
    for worker in view.workers:
        labels = {"worker": worker.id, "pool": worker.session.pool}
        _worker(page, worker, labels, named)
        if not worker.session.stats:
            continue  # it has said nothing yet
        if named:
            for name, counts in _by_name(worker, view.names, some).items():
                if name == _OTHERS and counts == VersionCounts():
                    continue  # nothing is left over
                model = {"model": name.model, "tenant": name.tenant}
                _versions(page, labels | model, counts)
            _memory(page, worker, labels, view.names)
            _tenants(page, worker, labels, tenants)
        else:
            _versions(page, labels, worker.counts.all_versions())
            page.put("forebay_model_memory_bytes", labels, sum(worker.counts.loaded.values()))
    return page.metrics()


class _Page:
    """Samples by family. A family without samples still says what it is."""

    def __init__(self) -> None:
        self._numbers: dict[str, list[tuple[Labels, float]]] = defaultdict(list)
        self._histograms: dict[str, list[tuple[Labels, Histogram]]] = defaultdict(list)
        self._summaries: dict[str, list[tuple[Labels, StageCounts]]] = defaultdict(list)

    def put(self, name: str, labels: Labels, value: float) -> None:
        self._numbers[name].append((labels, value))

    def spread(self, name: str, labels: Labels, histogram: Histogram) -> None:
        self._histograms[name].append((labels, histogram))

    def stage(self, name: str, labels: Labels, stage: StageCounts) -> None:
        self._summaries[name].append((labels, stage))

    def metrics(self) -> list[Metric]:
        return [self._metric(name) for name in FAMILIES]

    def _metric(self, name: str) -> Metric:
        says = FAMILIES[name].says
        match FAMILIES[name].kind:
            case Kind.HISTOGRAM:
                spread = self._histograms[name]
                histogram = HistogramMetricFamily(name, says, labels=_names(spread))
                for labels, one in spread:
                    histogram.add_metric(list(labels.values()), _buckets(one), one.total)
                return histogram
            case Kind.SUMMARY:
                stages = self._summaries[name]
                summary = SummaryMetricFamily(name, says, labels=_names(stages))
                for labels, stage in stages:
                    summary.add_metric(list(labels.values()), stage.batches, stage.seconds)
                return summary
            case kind:
                make = CounterMetricFamily if kind is Kind.COUNTER else GaugeMetricFamily
                numbers = self._numbers[name]
                metric = make(name, says, labels=_names(numbers))
                for labels, value in numbers:
                    metric.add_metric(list(labels.values()), value)
                return metric


def _names(rows: Sequence[tuple[Labels, object]]) -> list[str]:
    return list(rows[0][0]) if rows else []


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    seen, found = 0, []
    for bound, count in zip((*histogram.bounds, math.inf), histogram.counts, strict=True):
        seen += count
        found.append(("+Inf" if bound == math.inf else str(float(bound)), float(seen)))
    return found


def _backlog(page: _Page, pool: PoolView, view: View, named: bool) -> None:
    here = {"pool": pool.pool}
    sample = pool.sample
    page.put("forebay_window_jobs", here, pool.window)
    page.put("forebay_worker_sessions", here, pool.workers)
    found: dict[tuple[str, ...], list[float]] = {}
    by_jobs = sorted(sample.loads, key=lambda load: -load.jobs)
    for place, load in enumerate(by_jobs):
        kind = BULK if is_bulk(load.priority) else ONLINE
        key: tuple[str, ...] = (kind,)
        if named:
            model = f"{load.model_name}:{load.version}"
            key += (model, load.tenant) if place < MAX_WAITING else (OTHER, OTHER)
        row = found.setdefault(key, [0.0, 0.0, 0.0])
        row[0] += load.jobs
        row[1] += sample.seconds_of(load) / max(1, pool.workers)
        row[2] = max(row[2], (sample.taken_at - load.oldest_at) / 1000)
    for kind in CLASSES:  # an empty backlog is a zero, not a gap
        if not any(key[0] == kind for key in found):
            found[(kind, "", "") if named else (kind,)] = [0.0, 0.0, 0.0]
    for key, (jobs, seconds, oldest_s) in found.items():
        labels = here | dict(zip(("class", "model", "tenant"), key, strict=False))
        page.put("forebay_backlog_jobs", labels, jobs)
        page.put("forebay_backlog_seconds", labels, seconds)
        page.put("forebay_backlog_oldest_seconds", labels, max(0.0, oldest_s))


def _keeping(page: _Page, keeping: KeeperView) -> None:
    for duty, lag_s in sorted(keeping.lag_s.items()):
        page.put("forebay_duty_lag_seconds", {"duty": duty}, lag_s)
    load = keeping.deliveries
    oldest_at = keeping.taken_at if load.oldest_due_at is None else load.oldest_due_at
    page.put("forebay_webhooks_pending", {}, load.pending)
    page.put("forebay_webhooks_due", {}, load.due)
    oldest_s = max(0, keeping.taken_at - oldest_at) / 1000
    page.put("forebay_webhook_oldest_due_seconds", {}, oldest_s)


def _worker(page: _Page, worker: WorkerView, labels: Labels, named: bool) -> None:
    session, counts = worker.session, worker.counts
    about = {**labels, "device": session.device}
    if named:
        about |= {"node": session.node, "host": session.host}
    page.put("forebay_worker_info", about, 1)
    page.put("forebay_worker_jobs_per_second", labels, session.jobs_per_s)
    if not session.stats:
        return
    page.put("forebay_worker_uptime_seconds", labels, counts.uptime_s)
    page.put("forebay_device_busy_seconds", labels, counts.busy_s)
    page.put("forebay_device_busy_ratio", labels, counts.busy_ratio)
    page.put("forebay_models_loaded", labels, len(counts.loaded))


def _versions(page: _Page, labels: Labels, counts: VersionCounts) -> None:
    for kind in CLASSES:
        passes = counts.classes.get(kind) or ClassCounts()
        of_class = {**labels, "class": kind}
        page.spread("forebay_batch_rows", of_class, passes.rows)
        page.spread("forebay_batch_fill_ratio", of_class, passes.fill)
        page.spread("forebay_queue_age_seconds", of_class, passes.age_s)
        page.put("forebay_batch_slots", of_class, passes.slots)
        page.put("forebay_device_seconds", of_class, passes.device_s)
    for stage, spent in counts.stages.items():
        of_stage = {**labels, "stage": stage}
        page.stage("forebay_stage_seconds", of_stage, spent)
        page.put("forebay_stage_jobs", of_stage, spent.jobs)
    for state, jobs in counts.settled.items():
        page.put("forebay_jobs_settled", {**labels, "state": state}, jobs)
    page.put("forebay_jobs_expired", labels, counts.expired)
    page.put("forebay_bisections", labels, counts.bisections)
    page.put("forebay_out_of_memory", labels, counts.out_of_memory)
    page.put("forebay_model_loads", labels, counts.loads)
    page.put("forebay_model_load_seconds", labels, counts.load_s)
    page.put("forebay_model_evictions", labels, counts.evictions)


def _memory(page: _Page, worker: WorkerView, labels: Labels, names: Mapping[str, Named]) -> None:
    found: dict[Named, int] = defaultdict(int)
    for version_id, size_bytes in worker.counts.loaded.items():
        found[names.get(version_id, _OTHERS)] += size_bytes
    for name, size_bytes in found.items():
        model = {**labels, "model": name.model, "tenant": name.tenant}
        page.put("forebay_model_memory_bytes", model, size_bytes)


def _tenants(
    page: _Page, worker: WorkerView, labels: Labels, some: frozenset[tuple[str, str]]
) -> None:
    found: dict[str, VersionCounts] = defaultdict(VersionCounts)
    found[OTHER].settled.update(worker.counts.other_tenants.settled)
    for tenant, counts in worker.counts.tenants.items():
        shown = tenant if (worker.id, tenant) in some else OTHER
        found[shown].add(VersionCounts(settled=dict(counts.settled)))
    for tenant, whole in found.items():
        for state, jobs in whole.settled.items():
            of_tenant = {**labels, "tenant": tenant, "state": state}
            page.put("forebay_tenant_jobs_settled", of_tenant, jobs)


_OTHERS = Named(OTHER, OTHER)


def _by_name(
    worker: WorkerView, names: Mapping[str, Named], some: frozenset[tuple[str, str]]
) -> dict[Named, VersionCounts]:
    found: dict[Named, VersionCounts] = defaultdict(VersionCounts)
    found[_OTHERS].add(worker.counts.other_versions)
    for version_id, counts in worker.counts.versions.items():
        shown = (worker.id, version_id) in some
        found[names.get(version_id, _OTHERS) if shown else _OTHERS].add(counts)
    return found


def _weightiest(view: View) -> frozenset[tuple[str, str]]:
    rows = {
        (worker.id, version_id): sum(kind.rows.total for kind in counts.classes.values())
        for worker in view.workers
        for version_id, counts in worker.counts.versions.items()
    }
    return frozenset(sorted(rows, key=lambda pair: (-rows[pair], pair))[:MAX_NAMED])


def _weightiest_tenants(view: View) -> frozenset[tuple[str, str]]:
    jobs = {
        (worker.id, tenant): sum(counts.settled.values())
        for worker in view.workers
        for tenant, counts in worker.counts.tenants.items()
    }
    return frozenset(sorted(jobs, key=lambda pair: (-jobs[pair], pair))[:MAX_NAMED])
