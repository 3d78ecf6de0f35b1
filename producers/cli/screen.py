"""What ``forebay top`` shows, worked out of pages of figures: a plain document, drawn elsewhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from producers.cli.exposition import Page
from producers.cli.rates import Rates

CLASSES = ("online", "bulk")
STAGES = ("claim", "decode", "device", "store", "commit")
LAGS_AFTER_S = 30.0
DONE = ("succeeded", "failed", "cancelled", "expired")

Row = dict[str, Any]


def screen(page: Page, rates: Rates) -> dict[str, Any]:
    """Everything, with nulls where nothing is known yet."""
    return {
        "backlog_jobs": total(page, "forebay_backlog_jobs"),
        "backlog_s": max(by(page, "forebay_backlog_seconds", "pool").values(), default=0.0),
        "oldest_s": _most(page, "forebay_backlog_oldest_seconds"),
        "jobs_per_s": _done_per_s(rates, "forebay_jobs_settled_total"),
        "measured": bool(rates.before),
        "workers": _workers(page, rates),
        "models": _models(page, rates),
        "tenants": _tenants(page, rates),
        "classes": [_class(page, rates, kind) for kind in CLASSES],
        "stages": [_stage(rates, stage) for stage in STAGES],
        "lagging": _lagging(page),
        "webhooks_due": total(page, "forebay_webhooks_due"),
        "webhook_oldest_due_s": _most(page, "forebay_webhook_oldest_due_seconds"),
        "trouble": {
            name: rates.per_s(f"forebay_{name}_total")
            for name in ("jobs_expired", "bisections", "out_of_memory", "model_evictions")
        },
    }


def _lagging(page: Page) -> dict[str, float]:
    """Seconds by duty, of those that are further behind than a busy moment explains."""
    lags: dict[str, float] = by(page, "forebay_duty_lag_seconds", "duty")
    return {duty: lag_s for duty, lag_s in sorted(lags.items()) if lag_s > LAGS_AFTER_S}


def _workers(page: Page, rates: Rates) -> list[Row]:
    busy = by(page, "forebay_device_busy_ratio", "worker")
    lately = by(page, "forebay_worker_jobs_per_second", "worker")
    loaded = by(page, "forebay_models_loaded", "worker")
    memory = by(page, "forebay_model_memory_bytes", "worker")
    rows = []
    for sample in page.get("forebay_worker_info", ()):
        id_ = sample.labels["worker"]
        jobs_per_s = _done_per_s(rates, "forebay_jobs_settled_total", worker=id_)
        rows.append(
            {
                "worker": sample.labels.get("node", id_),
                "device": sample.labels.get("device"),
                "pool": sample.labels.get("pool"),
                "busy": busy.get(id_),
                "jobs_per_s": lately.get(id_) if jobs_per_s is None else jobs_per_s,
                **_passes(rates, worker=id_),
                "models": loaded.get(id_),
                "memory_bytes": memory.get(id_),
            }
        )
    return sorted(rows, key=lambda row: str(row["worker"]))


def _models(page: Page, rates: Rates) -> list[Row]:
    queued = by(page, "forebay_backlog_jobs", "model", "tenant")
    seconds = by(page, "forebay_backlog_seconds", "model", "tenant")
    known = {*queued, *by(page, "forebay_batch_rows_count", "model", "tenant")}
    rows = []
    for model, tenant in known:
        if not model:
            continue
        where = {"model": model, "tenant": tenant}
        p50_s, p95_s = rates.quantiles("forebay_queue_age_seconds", (0.5, 0.95), **where)
        rows.append(
            {
                **where,
                "queued": queued.get((model, tenant), 0.0),
                "backlog_s": seconds.get((model, tenant), 0.0),
                "age_p50_s": p50_s,
                "age_p95_s": p95_s,
                "rows_per_s": rates.per_s("forebay_batch_rows_sum", **where),
                **_passes(rates, **where),
            }
        )
    return _heaviest(rows, "backlog_s", "rows_per_s", "model")


def _tenants(page: Page, rates: Rates) -> list[Row]:
    queued = by(page, "forebay_backlog_jobs", "tenant")
    oldest: defaultdict[str, float] = defaultdict(float)
    for sample in page.get("forebay_backlog_oldest_seconds", ()):
        name = sample.labels.get("tenant", "")
        oldest[name] = max(oldest[name], sample.value)
    known = {*queued, *by(page, "forebay_tenant_jobs_settled_total", "tenant")}
    rows = [
        {
            "tenant": tenant,
            "queued": queued.get(tenant, 0.0),
            "oldest_s": oldest[tenant],
            "jobs_per_s": _done_per_s(rates, "forebay_tenant_jobs_settled_total", tenant=tenant),
        }
        for tenant in known
        if tenant
    ]
    return _heaviest(rows, "queued", "jobs_per_s", "tenant")


def _class(page: Page, rates: Rates, kind: str) -> Row:
    where = {"class": kind}
    p50_s, p95_s = rates.quantiles("forebay_queue_age_seconds", (0.5, 0.95), **where)
    return {
        "class": kind,
        "queued": total(page, "forebay_backlog_jobs", **where),
        "backlog_s": total(page, "forebay_backlog_seconds", **where),
        "age_p50_s": p50_s,
        "age_p95_s": p95_s,
        "rows_per_s": rates.per_s("forebay_batch_rows_sum", **where),
        **_passes(rates, **where),
    }


def _stage(rates: Rates, stage: str) -> Row:
    seconds = "forebay_stage_seconds_sum"
    return {
        "stage": stage,
        "mean_s": rates.ratio(seconds, "forebay_stage_seconds_count", stage=stage),
        "per_job_s": rates.ratio(seconds, "forebay_stage_jobs_total", stage=stage),
    }


def _passes(rates: Rates, **where: str) -> Row:
    return {
        "batch_mean": rates.ratio("forebay_batch_rows_sum", "forebay_batch_rows_count", **where),
        "fill": rates.ratio("forebay_batch_rows_sum", "forebay_batch_slots_total", **where),
    }


def _done_per_s(rates: Rates, name: str, **where: str) -> float | None:
    found = [rates.per_s(name, state=state, **where) for state in DONE]
    return None if found[0] is None else sum(one or 0.0 for one in found)


def total(page: Page, name: str, **where: str) -> float:
    """The sum over all series that match."""
    samples = page.get(name, ())
    return sum(one.value for one in samples if where.items() <= one.labels.items())


def by(page: Page, name: str, *labels: str) -> dict[Any, float]:
    """Sums by one label's value, or by several labels' values."""
    found: defaultdict[Any, float] = defaultdict(float)
    for sample in page.get(name, ()):
        key = tuple(sample.labels.get(label, "") for label in labels)
        found[key if len(key) > 1 else key[0]] += sample.value
    return found


def _most(page: Page, name: str) -> float:
    return max((sample.value for sample in page.get(name, ())), default=0.0)


def _heaviest(rows: Iterable[Row], *keys: str) -> list[Row]:
    *numbers, name = keys
    return sorted(rows, key=lambda row: (*(-(row[key] or 0.0) for key in numbers), row[name]))


def hidden_names(page: Page) -> bool:
    """Whether workers are there, but the service shows this caller no names."""
    infos: Iterable[Mapping[str, str]] = (one.labels for one in page.get("forebay_worker_info", ()))
    return any("node" not in labels for labels in infos)
