"""One AMQP connection on which nothing can wait for ever.

kombu's own connections retry by themselves and leave reads without a limit; whoever must know
what became of each message can use neither. Here the socket keeps a timeout from the first byte,
so every read and write is bounded, a half-arrived frame included.
"""

from __future__ import annotations

import struct
from typing import Any

import amqp
import kombu
from amqp.exceptions import AMQPError

# What a broken, dead, silent or unwilling broker raises, and nothing else.
TROUBLE: tuple[type[Exception], ...] = (AMQPError, OSError, struct.error)


def is_in_process(broker_url: str) -> bool:
    """Whether the broker lives in this very process."""
    return broker_url.startswith("memory://")


def alternatives(broker_url: str) -> list[str]:
    """The brokers of a URL that names several, as kombu writes them: ``amqp://a;amqp://b``."""
    return [url for url in broker_url.split(";") if url]


def connect(broker_url: str, timeout_s: float) -> Any:
    """An open ``amqp.Connection`` to the first broker of the URL that answers; raises TROUBLE."""
    *others, last = alternatives(broker_url)
    for url in others:
        try:
            return _connect_one(url, timeout_s)
        except TROUBLE:
            continue
    return _connect_one(last, timeout_s)


def _connect_one(url: str, timeout_s: float) -> Any:
    place = kombu.Connection(url)
    port = place.port or (5671 if place.ssl else 5672)
    # The machine's IPv4 loopback, as kombu does: brokers often do not listen on ::1.
    host = "127.0.0.1" if place.hostname in (None, "", "localhost") else place.hostname
    connection = amqp.Connection(
        host=f"{host}:{port}",
        userid=place.userid or "guest",
        password=place.password or "guest",
        virtual_host=place.virtual_host or "/",
        login_method=place.login_method or "PLAIN",
        ssl=place.ssl,
        connect_timeout=timeout_s,
        read_timeout=timeout_s,
        write_timeout=timeout_s,
        heartbeat=0,  # nobody would be there to send it between two publishes
    )
    try:
        connection.connect()
        connection.transport.sock.settimeout(timeout_s)
    except BaseException:
        connection.collect()
        raise
    return connection


def describe(error: Exception) -> str:
    """What happened, for people; it never holds the URL."""
    if isinstance(error, TimeoutError):
        return str(error) or "no answer in time"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
