"""Is the file still the one that was planned? Every read of it asks, so that what is scored is
never a mixture of two files."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from storage.objects import Objects
from storage.records.errors import Conflict, NotFound, ObjectCorrupt
from workers.bulk.places import Found
from workers.bulk.reading.trouble import file_changed


def check_unchanged(found: Found) -> None:
    """``InvalidInput`` (``file_changed``) where other bytes lie there now; ``NotFound``
    (``input_not_found``) where none do."""
    try:
        info = found.place.objects.info(found.place.key)
    except NotFound as error:
        raise _missing(found) from error
    if info.size_bytes != found.size_bytes or (found.etag and info.etag != found.etag):
        raise file_changed(found.place.uri)


def pinned(found: Found) -> Found:
    """The same file; its ranges are read as they were found, or raise as above."""
    objects = cast(Objects, _Pinned(found))
    return replace(found, place=replace(found.place, objects=objects))


class _Pinned:
    """The store of one file; all other verbs are the store's own."""

    def __init__(self, found: Found) -> None:
        self._found, self._objects = found, found.place.objects

    def get_range(self, key: str, offset_bytes: int, length_bytes: int) -> bytes:
        try:
            return self._objects.get_range(key, offset_bytes, length_bytes, etag=self._found.etag)
        except (Conflict, ObjectCorrupt) as error:
            raise file_changed(self._found.place.uri) from error
        except NotFound as error:
            raise _missing(self._found) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)


def _missing(found: Found) -> NotFound:
    return NotFound(f"there is no file {found.place.uri}", code="input_not_found")
