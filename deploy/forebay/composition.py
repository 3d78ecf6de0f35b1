"""What the processes have in common: settings read once, parts opened from them.

Every function here is called from a composition root; nothing happens at import.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from producers.cli.exits import Exit, Failure
from storage.records.webhook_guard import Guard
from storage.settings import Settings

if TYPE_CHECKING:
    from storage.database import Database
    from workers.keeper.duty import Duty
    from workers.settings import WorkerSettings

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
SWITCH_INTERVAL_S = 0.0005
KILL_AFTER_DRAIN_S = 15.0  # how long a worker process may take to end beyond its drain


def share_the_interpreter() -> None:
    """A thread with something short to do waits this long for the interpreter's lock, not the
    usual 5 ms: an answer has several hops between threads, and beside a thread that reads a large
    request or decodes a batch each of them would wait."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)


def start_logging(level: int = logging.INFO) -> None:
    """To standard error, one line an entry; libraries only when something is wrong."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format=LOG_FORMAT)
    for ours in ("forebay", "storage", "producers", "workers"):
        logging.getLogger(ours).setLevel(level)


def open_database(settings: Settings) -> Database:
    """The database, not yet connected."""
    from storage.database import Database

    return Database.open(settings.database_url, pool_size=settings.database_pool_size)


def require_schema(database: Database) -> None:
    """Every long-running process refuses to start on a schema that it does not know."""
    if not database.schema_is_current():
        raise Failure(
            "the database's schema is not the one that this version needs",
            exit_code=Exit.FAILED,
            code="schema_not_current",
            hint="bring it up to date with: forebay migrate",
        )


def require_services(settings: Settings, verb: str) -> None:
    """The processes of the full mode meet over a broker; the in-process one cannot serve them."""
    if settings.embedded:
        raise Failure(
            f"forebay {verb} needs FOREBAY_DATABASE_URL, FOREBAY_BROKER_URL and"
            " FOREBAY_OBJECTS_URL",
            exit_code=Exit.USAGE,
            code="not_configured",
            hint="set them, or run everything in one place with: forebay up",
        )


def worker_settings(settings: Settings, environ: Mapping[str, str]) -> WorkerSettings:
    """A worker's settings. What the whole installation shares comes from the storage floor's,
    unless the worker's own variable says otherwise."""
    from workers.settings import PREFIX, WorkerSettings

    shared = ("lease_ttl_s", "renew_every_s", "retention_days", "ref_prefixes", "output_prefixes")
    taken = {
        name: getattr(settings, name)
        for name in shared
        if not environ.get(PREFIX + name.upper(), "").strip()
    }
    return dataclasses.replace(WorkerSettings.from_environment(environ), **taken)


def duties(settings: Settings) -> tuple[Duty, ...]:
    """The keeper's duties at the installation's pace."""
    from workers.keeper.expiry import ExpiryConfig
    from workers.keeper.loop import standard_duties
    from workers.keeper.pack_collection import PackCollectionConfig
    from workers.keeper.reaper import ReaperConfig
    from workers.keeper.retention import RetentionConfig
    from workers.keeper.sweep import SweepConfig
    from workers.keeper.webhook_delivery import WebhookDelivery

    every_s, keep_days = settings.sweep_every_s, settings.retention_days
    return standard_duties(
        SweepConfig(every_s=every_s, publish_ttl_s=settings.publish_ttl_s),
        reaper=ReaperConfig(every_s=min(every_s, ReaperConfig().every_s)),
        expiry=ExpiryConfig(every_s=min(every_s, ExpiryConfig().every_s)),
        packs=PackCollectionConfig(keep_days=keep_days),
        retention=RetentionConfig(keep_days=keep_days),
        webhooks=WebhookDelivery(
            guard=Guard(settings.webhook_allow), public_url=settings.public_url
        ),
    )
