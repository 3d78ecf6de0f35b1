"""Every figure of the installation that ``/metrics`` shows: its name, kind, labels and meaning.

A test holds the README to this list. Counters are named without the ``_total`` that the page adds.
``model`` and ``tenant``, and ``node`` and ``host`` of a worker, are only on a page for who may see
them. A figure of one process (requests and the like) is declared where it is counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """Prometheus' types."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    SUMMARY = "summary"  # sum and count


@dataclass(frozen=True, slots=True)
class Family:
    """One figure."""

    kind: Kind
    says: str
    labels: str = ""


_POOL = "pool, class, model, tenant"
_MODEL = "worker, pool, model, tenant"
_CLASS = f"{_MODEL}, class"
_WORKER = "worker, pool"

FAMILIES: Mapping[str, Family] = {
    "forebay_backlog_jobs": Family(
        Kind.GAUGE, "Jobs queued: accepted and not yet claimed, counted up to a million.", _POOL
    ),
    "forebay_backlog_seconds": Family(
        Kind.GAUGE,
        "Seconds that the live workers need for what is queued (one worker, if none lives).",
        _POOL,
    ),
    "forebay_backlog_oldest_seconds": Family(
        Kind.GAUGE, "Age of the job that has been queued longest.", _POOL
    ),
    "forebay_window_jobs": Family(Kind.GAUGE, "Queued jobs that are in the ready window.", "pool"),
    "forebay_duty_lag_seconds": Family(
        Kind.GAUGE,
        "How long a background duty has had something left to do, or has not run, beyond its pace.",
        "duty",
    ),
    "forebay_webhooks_pending": Family(Kind.GAUGE, "Webhook deliveries that are not over."),
    "forebay_webhooks_due": Family(Kind.GAUGE, "Webhook deliveries that could be attempted now."),
    "forebay_webhook_oldest_due_seconds": Family(
        Kind.GAUGE, "How long the longest of these has been due."
    ),
    "forebay_worker_sessions": Family(Kind.GAUGE, "Live worker processes.", "pool"),
    "forebay_worker_info": Family(
        Kind.GAUGE, "1 for each live worker process.", f"{_WORKER}, device, node, host"
    ),
    "forebay_worker_uptime_seconds": Family(
        Kind.GAUGE, "Age of the process when it last told its figures.", _WORKER
    ),
    "forebay_worker_jobs_per_second": Family(Kind.GAUGE, "Jobs that it finished lately.", _WORKER),
    "forebay_device_busy_seconds": Family(Kind.COUNTER, "Time that the device computed.", _WORKER),
    "forebay_device_busy_ratio": Family(
        Kind.GAUGE, "Share of the last few seconds in which the device computed.", _WORKER
    ),
    "forebay_device_seconds": Family(Kind.COUNTER, "Device time of passes.", _CLASS),
    "forebay_batch_rows": Family(Kind.HISTOGRAM, "Rows of a pass, padding left out.", _CLASS),
    "forebay_batch_fill_ratio": Family(
        Kind.HISTOGRAM, "Rows of a pass ÷ rows that it had room for.", _CLASS
    ),
    "forebay_batch_slots": Family(Kind.COUNTER, "Rows that passes had room for.", _CLASS),
    "forebay_queue_age_seconds": Family(
        Kind.HISTOGRAM, "Time from a job's creation to its entering the device.", _CLASS
    ),
    "forebay_stage_seconds": Family(
        Kind.SUMMARY,
        "Time that batches spent in claim, decode, device, store or commit.",
        f"{_MODEL}, stage",
    ),
    "forebay_stage_jobs": Family(Kind.COUNTER, "Jobs in these batches.", f"{_MODEL}, stage"),
    "forebay_jobs_settled": Family(
        Kind.COUNTER,
        "Jobs brought into a state by a commit (`queued`: to be tried again).",
        f"{_MODEL}, state",
    ),
    "forebay_tenant_jobs_settled": Family(
        Kind.COUNTER, "The same by tenant.", f"{_WORKER}, tenant, state"
    ),
    "forebay_jobs_expired": Family(
        Kind.COUNTER, "Claimed jobs that could not enter the device in time.", _MODEL
    ),
    "forebay_bisections": Family(Kind.COUNTER, "Passes that failed and were split.", _MODEL),
    "forebay_out_of_memory": Family(Kind.COUNTER, "Passes that did not fit the device.", _MODEL),
    "forebay_models_loaded": Family(Kind.GAUGE, "Versions on the device.", _WORKER),
    "forebay_model_memory_bytes": Family(Kind.GAUGE, "Device memory that versions hold.", _MODEL),
    "forebay_model_loads": Family(Kind.COUNTER, "Versions loaded.", _MODEL),
    "forebay_model_load_seconds": Family(
        Kind.COUNTER, "Time that loading took, warming included.", _MODEL
    ),
    "forebay_model_evictions": Family(
        Kind.COUNTER, "Versions that left the device to make room.", _MODEL
    ),
}
