"""What an operator may set on the producing side: a name, a default and one sentence each.

Only composition roots call ``from_environment``; everything else receives the frozen values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from storage.queue.lanes import check_pool
from storage.records.errors import InvalidInput

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
T = TypeVar("T")


def _setting(
    default: Any, env: str, says: str, *, least: float | None = None, most: float | None = None
) -> Any:
    return field(default=default, metadata={"env": env, "says": says, "least": least, "most": most})


def _secret(env: str, says: str) -> Any:
    metadata = {"env": env, "says": says, "least": None, "most": None}
    return field(default="", repr=False, metadata=metadata)


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """The REST service."""

    pool: str = _setting("default", "FOREBAY_POOL", "Pool of workers that new jobs are for.")
    max_body_bytes: int = _setting(
        16 * MIB, "FOREBAY_MAX_BODY_BYTES", "Largest JSON body; larger ones get 413.", least=1024
    )
    max_file_bytes: int = _setting(
        GIB, "FOREBAY_MAX_FILE_BYTES", "Largest file taken by POST /v1/files.", least=1
    )
    max_model_bytes: int = _setting(
        2 * GIB, "FOREBAY_MAX_MODEL_BYTES", "Largest model archive taken over REST.", least=1
    )
    inline_input_bytes: int = _setting(
        32 * KIB, "FOREBAY_INLINE_INPUT_BYTES", "Inputs up to this size are kept in SQL.", least=0
    )
    max_jobs_per_request: int = _setting(
        10_000, "FOREBAY_MAX_JOBS_PER_REQUEST", "Most jobs in one POST /v1/jobs/many.", least=1
    )
    max_backlog_jobs: int = _setting(
        1_000_000,
        "FOREBAY_MAX_BACKLOG_JOBS",
        "A tenant with about this many waiting jobs gets 429 until some are done.",
        least=1,
    )
    idempotency_ttl_s: int = _setting(
        86_400, "FOREBAY_IDEMPOTENCY_TTL_S", "How long an Idempotency-Key is remembered.", least=1
    )
    retention_days: int = _setting(
        30, "FOREBAY_RETENTION_DAYS", "How long inputs and results are kept.", least=1
    )
    ref_prefixes: tuple[str, ...] = _setting(
        (),
        "FOREBAY_REF_PREFIXES",
        "Comma-separated s3:// or file:/// prefixes that inputs may point into by ref.",
    )
    output_prefixes: tuple[str, ...] = _setting(
        (),
        "FOREBAY_OUTPUT_PREFIXES",
        "Comma-separated s3:// or file:/// prefixes below which bulk jobs may write.",
    )
    webhook_allow: tuple[str, ...] = _setting(
        (),
        "FOREBAY_WEBHOOK_ALLOW",
        "Comma-separated hosts, addresses or networks, each with :port if need be (* is any), that"
        " webhooks may go to although they are private or the port is unusual.",
    )
    max_webhooks: int = _setting(
        100, "FOREBAY_MAX_WEBHOOKS", "Most endpoints that a tenant may register.", least=1
    )
    max_wait_s: float = _setting(60.0, "FOREBAY_MAX_WAIT_S", "Longest ?wait=.", least=0)
    max_watches: int = _setting(
        10_000, "FOREBAY_MAX_WATCHES", "Most waiting callers; more are answered at once.", least=0
    )
    submit_threads: int = _setting(
        4, "FOREBAY_SUBMIT_THREADS", "Threads that write submissions.", least=1
    )
    read_threads: int = _setting(4, "FOREBAY_READ_THREADS", "Threads that answer reads.", least=1)
    upload_threads: int = _setting(2, "FOREBAY_UPLOAD_THREADS", "Threads for uploads.", least=1)
    metrics_token: str = _secret(
        "FOREBAY_METRICS_TOKEN",
        "Bearer token with which /metrics names tenants and models; without one it names them on"
        " loopback alone.",
    )
    shutdown_grace_s: float = _setting(
        10.0, "FOREBAY_API_SHUTDOWN_GRACE_S", "Time open requests get at a stop.", least=0
    )

    def __post_init__(self) -> None:
        check_pool(self.pool, field="FOREBAY_POOL")


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """The relay from the backlog to the ready window."""

    window_s: float = _setting(
        2.0, "FOREBAY_WINDOW_S", "Seconds of work that the ready window holds.", least=0.1
    )
    min_window_jobs: int = _setting(
        256, "FOREBAY_MIN_WINDOW_JOBS", "Smallest ready window of a pool.", least=1
    )
    max_window_jobs: int = _setting(
        8192, "FOREBAY_MAX_WINDOW_JOBS", "Largest ready window of a pool.", least=1
    )
    max_jobs_per_message: int = _setting(
        512,
        "FOREBAY_MAX_JOBS_PER_MESSAGE",
        "Most job ids in one wake-up message; fewer where the window is small.",
        least=1,
        most=512,
    )
    tenants_per_look: int = _setting(
        64,
        "FOREBAY_TENANTS_PER_LOOK",
        "Tenants whose backlog the relay reads at once.",
        least=2,
    )


def from_environment(kind: type[T], environment: Mapping[str, str]) -> T:
    """``kind`` with what the environment sets; ``InvalidInput`` names a wrong variable."""
    values: dict[str, object] = {}
    for item in dataclasses.fields(cast(Any, kind)):
        text = environment.get(item.metadata["env"])
        if text is not None and text.strip():
            values[item.name] = _read(text.strip(), item)
    return kind(**values)


def _read(text: str, item: dataclasses.Field[Any]) -> object:
    name, default = item.metadata["env"], item.default
    least, most = item.metadata["least"], item.metadata["most"]
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if isinstance(default, str):
        return text
    try:
        value = int(text) if isinstance(default, int) else float(text)
    except ValueError:
        raise InvalidInput(f"{name} is not a number: {text!r}", field=name) from None
    if least is not None and not value >= least:
        raise InvalidInput(f"{name} must be at least {least}, not {text}", field=name)
    if most is not None and not value <= most:
        raise InvalidInput(f"{name} must be at most {most}, not {text}", field=name)
    return value
