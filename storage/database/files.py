"""Uploaded files: what a reference by id leads to."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from storage.database.statements import Statement
from storage.database.store import Store
from storage.database.texts import refuse_nul
from storage.records.ids import FIRST_ID, LAST_ID, is_id
from storage.records.tenants import StoredFile

ADD = Statement(
    "A file whose object was put.",
    """
    INSERT INTO files (id, tenant, filename, content_type, object_key, size_bytes, digest,
        created_at)
    VALUES (:id, :tenant, :filename, :content_type, :object_key, :size_bytes, :digest, :now)
    """,
)

GET = Statement(
    "A tenant's file.",
    """
    SELECT id, tenant, filename, content_type, object_key, size_bytes, digest, created_at
    FROM files WHERE id = :id AND tenant = :tenant
    """,
)

_PAGE = """
    SELECT f.id, f.tenant, f.filename, f.content_type, f.object_key, f.size_bytes, f.digest,
        f.created_at
    FROM files AS f WHERE f.tenant = :tenant AND f.id
"""
NEWEST = Statement(
    "A page of a tenant's files, newest first.",
    _PAGE + "< :after ORDER BY f.id DESC LIMIT :limit",
)
OLDEST = Statement(
    "A page of a tenant's files, oldest first.",
    _PAGE + "> :after ORDER BY f.id LIMIT :limit",
)


class Files(Store):
    """The files of one transaction."""

    def add(
        self,
        tenant: str,
        *,
        id: str,
        filename: str,
        content_type: str,
        object_key: str,
        size_bytes: int,
        digest: str,
    ) -> StoredFile:
        """Write the row of a file whose object is there."""
        stored = StoredFile(
            id=id,
            tenant=tenant,
            filename=refuse_nul(filename, field="filename"),
            content_type=refuse_nul(content_type, field="content_type"),
            object_key=object_key,
            size_bytes=size_bytes,
            digest=digest,
            created_at=self._work.now(),
        )
        self._work.count(
            ADD,
            id=id,
            tenant=tenant,
            filename=stored.filename,
            content_type=stored.content_type,
            object_key=object_key,
            size_bytes=size_bytes,
            digest=digest,
            now=stored.created_at,
        )
        return stored

    def get(self, tenant: str, file_id: str) -> StoredFile | None:
        """The file, if it is this tenant's."""
        row = self._work.row(GET, id=file_id, tenant=tenant) if is_id(file_id) else None
        return None if row is None else stored_file(row)

    def list(
        self, tenant: str, limit: int, after: str | None = None, *, oldest_first: bool = False
    ) -> list[StoredFile]:
        """A page of the tenant's files, beyond the file ``after``."""
        statement, end = (OLDEST, FIRST_ID) if oldest_first else (NEWEST, LAST_ID)
        last = after if after and is_id(after) else end
        rows = self._work.rows(statement, tenant=tenant, after=last, limit=limit)
        return [stored_file(row) for row in rows]


def stored_file(row: Row[Any]) -> StoredFile:
    """The record of a file's row."""
    return StoredFile(
        row.id,
        row.tenant,
        row.filename,
        row.content_type,
        row.object_key,
        row.size_bytes,
        row.digest,
        row.created_at,
    )
