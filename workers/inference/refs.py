"""Reads what an input refers to: the tenant's own files and the prefixes the operator listed.

Producers refused everything else at submit; it is asked again here, because the operator's list
may have got shorter and a symbolic link cannot be seen in a text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from storage.database import Database
from storage.objects import Objects, open_objects
from storage.records.errors import ForebayError, InvalidInput, NotFound, TooLarge, Unavailable
from storage.records.refs import FileRef, ListedRef, check_ref, read_prefix


class RefUnavailable(ForebayError):
    """A listed prefix does not answer. Our own storage may be well: only this job has to wait."""

    code = "ref_unavailable"


class ListedStores:
    """The stores of listed prefixes, each opened when it is first asked for."""

    def __init__(self, open_prefix: Callable[[str], Objects] = open_objects) -> None:
        self._open_prefix = open_prefix
        self._opened: dict[str, Objects] = {}

    def find(self, listed: ListedRef, *, code: str, field: str) -> tuple[Objects, str]:
        """The store and the key in it; ``InvalidInput`` (``code``) where a link leads elsewhere."""
        if listed.prefix.startswith("file://"):
            root = Path(urlsplit(listed.prefix).path).resolve()
            path = Path(urlsplit(listed.uri).path).resolve()
            if not path.is_relative_to(root):
                raise InvalidInput("the link leads elsewhere", code=code, field=field)
        if listed.prefix not in self._opened:
            self._opened[listed.prefix] = self._open_prefix(listed.prefix.rstrip("/"))
        return self._opened[listed.prefix], listed.uri.removeprefix(listed.prefix)


class RefReader:
    """One per process; opened prefixes are kept."""

    def __init__(
        self,
        database: Database,
        objects: Objects,
        prefixes: Sequence[str],
        *,
        max_bytes: int,
        open_prefix: Callable[[str], Objects] = open_objects,
    ) -> None:
        self._database, self._objects = database, objects
        self._prefixes = tuple(read_prefix(prefix) for prefix in prefixes)
        self._max_bytes, self._stores = max_bytes, ListedStores(open_prefix)

    def for_tenant(self, tenant: str) -> Callable[[str], bytes]:
        """The reader that a tenant's inputs may use."""
        return lambda uri: self.read(tenant, uri)

    def read(self, tenant: str, uri: str) -> bytes:
        """The bytes; ``InvalidInput`` and ``NotFound`` blame the item, anything else nobody."""
        match check_ref(uri, self._prefixes):
            case FileRef(file_id):
                with self._database.read() as tx:
                    file = tx.files.get(tenant, file_id)
                if file is None:
                    raise NotFound(f"you have no file {file_id}", code="file_not_found")
                return self._get(self._objects, file.object_key)
            case ListedRef() as listed:
                try:
                    return self._get(
                        *self._stores.find(listed, code="ref_not_allowed", field="ref")
                    )
                except (Unavailable, OSError) as trouble:
                    raise RefUnavailable(type(trouble).__name__) from trouble

    def _get(self, objects: Objects, key: str) -> bytes:
        size_bytes = objects.size(key)
        if size_bytes > self._max_bytes:
            raise TooLarge(f"{size_bytes} bytes, at most {self._max_bytes} are read", field="ref")
        return objects.get(key)
