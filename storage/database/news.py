"""News: which jobs just changed, told by one process's commit to whoever listens.

Only a hint. A notification travels with the transaction that made it true (PostgreSQL sends it
after the commit, or never), but whoever does not hear it finds out by looking, as before: on
SQLite there is none at all, and behind a pooler that shares connections it may not arrive.

A notification is a text of less than 8,000 bytes on a channel that any user of the database may
write to. Ids that were counted up in one request take two bytes each, unrelated ones of the same
moment eleven: they are sorted and told as differences, without the six bits that say "UUID
version 7".
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import select
import socket
import threading
from collections.abc import Iterable, Iterator

import psycopg
from sqlalchemy import URL

from storage.database.trouble import translated
from storage.records.ids import uuid7

CHANNEL = "forebay_jobs"
MAX_PAYLOAD_BYTES = 7_999

# Told with the commit. When listeners are so slow that PostgreSQL's queue (8 GiB) is half full,
# nothing is told any more: a full queue would make the commit itself fail.
TELL = f"""
    SELECT count(*) FROM (
        SELECT pg_notify('{CHANNEL}', news) FROM unnest(CAST(:told AS text[])) AS news
        WHERE pg_notification_queue_usage() < 0.5
    ) AS told
"""

_FORMAT = b"1"
_RAW_BYTES = (MAX_PAYLOAD_BYTES - len(_FORMAT)) // 4 * 3
_WORD_BYTES = 16  # of a difference: an id has 122 bits of its own
_LOW = (1 << 62) - 1
_FIXED, _VERSION_7 = 0xF << 76 | 0b11 << 62, 0x7 << 76 | 0b10 << 62


def payloads_of(ids: Iterable[str]) -> list[str]:
    """As few notifications as will carry ``ids``; what is not one of our ids is left out."""
    found, raw, last = [], bytearray(), 0
    for number in _numbers_of(set(ids)):
        word = _word_of(number - last)
        if len(raw) + len(word) > _RAW_BYTES:
            found.append(_FORMAT + base64.b64encode(raw))
            raw, word = bytearray(), _word_of(number)
        raw += word
        last = number
    if raw:
        found.append(_FORMAT + base64.b64encode(raw))
    return [payload.decode() for payload in found]


def ids_of(payload: bytes) -> list[str]:
    """The ids a notification tells; none when it was not made by ``payloads_of``."""
    if not payload.startswith(_FORMAT):
        return []
    try:
        raw = base64.b64decode(payload[len(_FORMAT) :], validate=True)
        return [uuid7(number >> 74, number) for number in _numbers(raw)]
    except (binascii.Error, ValueError):
        return []


def _numbers(raw: bytes) -> Iterator[int]:
    at, number = 0, 0
    while at < len(raw):
        length = raw[at]
        word = raw[at + 1 : at + 1 + length]
        if not 0 < length <= _WORD_BYTES or len(word) < length:
            raise ValueError("a word is cut off")
        number += int.from_bytes(word)
        if number >> 122:
            raise ValueError("no id is as long as that")
        yield number
        at += 1 + length


def _word_of(difference: int) -> bytes:
    length = (difference.bit_length() + 7) // 8
    return bytes((length,)) + difference.to_bytes(length)


def _numbers_of(ids: Iterable[str]) -> list[int]:
    """The 122 bits of each id that are its own, ascending."""
    found = []
    for one in ids:
        try:
            value = int(one.replace("-", ""), 16)
        except ValueError:
            continue
        if value & _FIXED == _VERSION_7 and not value >> 128:
            found.append(value >> 80 << 74 | (value >> 64 & 0xFFF) << 62 | value & _LOW)
    found.sort()
    return found


class News:
    """One listening connection. One thread waits; any thread may close."""

    def __init__(self, url: URL, connection: psycopg.Connection) -> None:
        """``connection`` commits by itself, and is this object's own from now on."""
        self._url = url
        self._connection = connection
        self._lock = threading.Lock()
        self._closed = False
        with translated(url):
            connection.execute(f"LISTEN {CHANNEL}")

    def wait(self, timeout_s: float) -> list[str]:
        """Ids of jobs that changed, as soon as there are any; none when the time is over.

        ``DatabaseUnavailable`` when the connection died: listen again, and look at everything
        that is waited for, as news may have been missed.
        """
        with translated(self._url):
            told = self._told()
            if not told and not self._closed:
                self._until_something_comes(timeout_s)
                told = self._told()
        return list(dict.fromkeys(one for payload in told for one in ids_of(payload)))

    def close(self) -> None:
        """Stop listening; a wait that is under way ends at once, without news."""
        with self._lock:
            if not self._closed:
                self._closed = True
                if not self._connection.closed:
                    # Closing a socket does not wake whoever waits for it; this does.
                    with contextlib.suppress(OSError), socket.socket(fileno=self._copy()) as own:
                        own.shutdown(socket.SHUT_RDWR)
                self._connection.close()

    def _copy(self) -> int:
        return os.dup(self._connection.pgconn.socket)

    def _until_something_comes(self, timeout_s: float) -> None:
        waiting = select.poll()
        waiting.register(self._connection.pgconn.socket, select.POLLIN)
        waiting.poll(max(0.0, timeout_s) * 1000)

    def _told(self) -> list[bytes]:
        with self._lock:
            if self._closed:
                return []
            line, told = self._connection.pgconn, []
            line.consume_input()
            while (one := line.notifies()) is not None:
                told.append(one.extra)
            return told
