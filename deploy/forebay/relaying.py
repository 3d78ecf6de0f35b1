"""Puts a relay together: in each API process, in the keeper, and in the embedded worker."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from storage.settings import Settings

if TYPE_CHECKING:
    from producers.relay import Relay
    from storage.database import Database


def make_relay(settings: Settings, environ: Mapping[str, str], database: Database) -> Relay:
    """A relay with a publisher of its own; nothing connects before it runs."""
    from producers.relay import Relay
    from producers.settings import RelaySettings, from_environment
    from storage.clock import SystemClock
    from storage.queue.publisher import open_publisher
    from storage.queue.topology import declare

    publisher = open_publisher(settings.broker_url, settings.confirm_timeout_s)
    return Relay(
        database,
        publisher,
        SystemClock(),
        settings=from_environment(RelaySettings, environ),
        declare=functools.partial(declare, settings.broker_url),
    )
