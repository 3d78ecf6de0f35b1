"""Is the file still the one that was planned? Asked after its bytes were read, so that what is
scored is never a mixture of two files."""

from __future__ import annotations

from storage.records.errors import NotFound
from workers.bulk.places import Found
from workers.bulk.reading.trouble import file_changed


def check_unchanged(found: Found) -> None:
    """``InvalidInput`` (``file_changed``) where other bytes lie there now; ``NotFound``
    (``input_not_found``) where none do."""
    try:
        info = found.place.objects.info(found.place.key)
    except NotFound as error:
        raise NotFound(f"there is no file {found.place.uri}", code="input_not_found") from error
    if info.size_bytes != found.size_bytes or (found.etag and info.etag != found.etag):
        raise file_changed(found.place.uri)
