"""Fixtures of the contract suites: one suite per seam, run over every implementation."""

from __future__ import annotations

from tests.support.database import (  # noqa: F401
    clock,
    database,
    migrated_postgres_url,
    sqlite_url,
)
