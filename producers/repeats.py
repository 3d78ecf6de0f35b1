"""Idempotency keys: a repeated request is recognised by its key and by what it means.

A key is looked up before anything is checked (a replay must succeed though its model has moved on)
and taken inside the transaction that writes (a concurrent twin waits there and then replays).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import orjson

from storage.database import Transaction
from storage.records.errors import Unprocessable
from storage.records.tenants import Remembered


@dataclass(frozen=True, slots=True)
class Repeat:
    """What a request is remembered by. The fingerprint covers the route and the body's meaning."""

    key: str
    fingerprint: str

    def stands_for(self, known: Remembered) -> str:
        """What the key was taken for, if it was by this very request."""
        if known.fingerprint != self.fingerprint:
            raise Unprocessable(
                "this Idempotency-Key was used for another request; take a new key",
                code="idempotency_mismatch",
                field="Idempotency-Key",
            )
        return known.ref


def repeat_of(route: str, key: str | None, parsed: object) -> Repeat | None:
    """Equal JSON has one fingerprint, however it is spaced and its keys are ordered."""
    if key is None:
        return None
    digest = hashlib.sha256(route.encode() + b"\n")
    digest.update(orjson.dumps(parsed, option=orjson.OPT_SORT_KEYS))
    return Repeat(key, digest.hexdigest())


def recall(tx: Transaction, tenant: str, repeat: Repeat | None) -> str | None:
    """What the key stands for, before anything is checked: models may have moved on since."""
    if repeat is None:
        return None
    known = tx.idempotency.recall(tenant, repeat.key)
    return None if known is None else repeat.stands_for(known)


def remember(
    tx: Transaction, tenant: str, repeat: Repeat | None, ref: str, ttl_s: int
) -> str | None:
    """None if the key is ours now; else what a concurrent duplicate stored under it."""
    if repeat is None:
        return None
    ttl_ms = ttl_s * 1000
    known = tx.idempotency.remember(tenant, repeat.key, repeat.fingerprint, ref, ttl_ms)
    return None if known is None else repeat.stands_for(known)
