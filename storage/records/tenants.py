"""Tenants, their keys and their files."""

from __future__ import annotations

from dataclasses import dataclass

from storage.records.jobs import Millis

DEFAULT_TENANT = "default"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as an operator sees it; the key itself was printed once and only its hash is kept."""

    id: str
    tenant: str
    prefix: str
    created_at: Millis
    revoked_at: Millis | None


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An uploaded file."""

    id: str
    tenant: str
    filename: str
    content_type: str
    object_key: str
    size_bytes: int
    digest: str
    created_at: Millis


@dataclass(frozen=True, slots=True)
class Remembered:
    """What an idempotency key stands for: the body it came with, and what came of it."""

    fingerprint: str
    ref: str
