"""The files of a training: found, pinned to what was found, compared with the spec's digests."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeVar, cast

from storage.objects import Objects
from storage.records.bulk import BulkFormat
from storage.records.errors import InvalidInput, NotFound, Unavailable
from storage.records.training import DataFormat
from workers.bulk.kit import Stopped
from workers.bulk.places import Found, Places
from workers.bulk.reading.opening import format_of
from workers.bulk.reading.unchanged import pinned
from workers.training.data.trouble import data_changed

T = TypeVar("T")

MAX_FILES = 1_000_000
MAX_NOTED = 1_000
BLOCK_BYTES = 4 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_IDX = re.compile(r"(?:[-.]idx\d?(?:[-.]ubyte)?|-ubyte)(?:\.gz)?$")
_PICTURES = re.compile(r"\.(?:png|jpe?g|webp|gif|bmp)$")
_FORMATS = {
    BulkFormat.CSV: DataFormat.CSV,
    BulkFormat.PARQUET: DataFormat.PARQUET,
    BulkFormat.JSONL: DataFormat.JSONL,
    BulkFormat.NPZ: DataFormat.NPZ,
    BulkFormat.NPY: DataFormat.NPZ,
}
_TROUBLE = (Unavailable, OSError)
_PAUSES_S = (0.1, 0.5, 2.0, 5.0)
_LOOK_EVERY_S = 0.1


@dataclass(slots=True)
class DataFile:
    """One file as it was found. ``sha256`` where it was read whole."""

    found: Found
    sha256: str | None = None
    named: int = 1  # so often by the addresses; its rows are there once

    @property
    def uri(self) -> str:
        return self.found.place.uri


class Patient:
    """A store of which a read is tried a few times before its trouble is everybody's."""

    def __init__(self, objects: Objects, still: Callable[[], bool]) -> None:
        self._objects, self._still = objects, still

    def get_range(
        self, key: str, offset_bytes: int, length_bytes: int, *, etag: str | None = None
    ) -> bytes:
        return self._try(
            lambda: self._objects.get_range(key, offset_bytes, length_bytes, etag=etag)
        )

    def _try(self, call: Callable[[], T]) -> T:
        for pause_s in _PAUSES_S:
            try:
                return call()
            except _TROUBLE:
                self._wait(pause_s)
        return call()

    def _wait(self, pause_s: float) -> None:
        ends_s = time.monotonic() + pause_s
        while (left_s := ends_s - time.monotonic()) > 0:
            if not self._still():
                raise Stopped
            time.sleep(min(left_s, _LOOK_EVERY_S))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)


def find_files(
    places: Places,
    tenant: str,
    uris: Sequence[str],
    still: Callable[[], bool],
    field: str = "data.uri",
) -> list[DataFile]:
    """All files that the addresses name, in the addresses' order and by name; up to a million, as
    pictures are many. A file that several name is there once: its rows would be trained on and
    tested on. ``NotFound`` (``input_not_found``), ``InvalidInput`` (``input_empty``,
    ``too_many_files``, ``ref_not_allowed``)."""
    files: dict[str, DataFile] = {}
    for uri in uris:
        with _about(field):
            each = list(islice(places.each(tenant, uri), MAX_FILES + 1))
        for one in sorted(each, key=lambda one: one.place.uri):
            if (known := files.get(one.place.uri)) is not None:
                known.named += 1
            else:
                files[one.place.uri] = DataFile(_patient(one, still))
        if len(files) > MAX_FILES:
            raise InvalidInput(f"the data are more than {MAX_FILES} files", code="too_many_files")
    return list(files.values())


@contextmanager
def _about(field: str) -> Iterator[None]:
    """What is wrong with an address is said of the spec's field."""
    try:
        yield
    except (InvalidInput, NotFound) as error:
        raise type(error)(error.message, code=error.stable_code, field=field) from error


def _patient(found: Found, still: Callable[[], bool]) -> Found:
    objects = cast(Objects, Patient(found.place.objects, still))
    return replace(found, place=replace(found.place, objects=objects))


def format_of_files(uris: Sequence[str], files: Sequence[DataFile]) -> DataFormat:
    """What the files hold by their names. ``InvalidInput`` (``unknown_format``,
    ``mixed_formats``)."""
    forms = {_format_of(one.found.place.filename) for one in files[:MAX_NOTED]}
    if len(forms) > 1:
        names = " and ".join(sorted(forms))
        raise InvalidInput(
            f"the data are {names} files: name the files of one kind, or say data.format",
            code="mixed_formats",
            field="data.format",
        )
    return forms.pop()


def _format_of(name: str) -> DataFormat:
    plain = name.lower()
    if _IDX.search(plain):
        return DataFormat.IDX
    if _PICTURES.search(plain):
        return DataFormat.IMAGES
    try:
        form = _FORMATS.get(format_of(name)[0])
    except InvalidInput:  # it says what of bulk jobs
        form = None
    if form is None:
        raise InvalidInput(
            f"the name of {name[-200:]!r} does not tell what it holds: say data.format, one of"
            f" {', '.join(DataFormat)}",
            code="unknown_format",
            field="data.format",
        )
    return form


def bulk_format(file: DataFile, form: DataFormat) -> BulkFormat:
    """What the bulk readers call it; an NPY file is read where NPZ is asked for."""
    if form is DataFormat.NPZ and file.found.place.filename.lower().endswith(".npy"):
        return BulkFormat.NPY
    return BulkFormat(form.value)


@contextmanager
def unchanged(uri: str) -> Iterator[None]:
    """A file that turns out to be another one while it is read is told so."""
    try:
        yield
    except InvalidInput as error:
        if error.stable_code == "file_changed":
            raise data_changed(uri, None, None) from error
        raise


def blocks_of(file: DataFile, still: Callable[[], bool] = lambda: True) -> Iterator[bytes]:
    """The whole file by ranges of what was found; its ``sha256`` is known at the end."""
    found, digest = pinned(file.found), hashlib.sha256()
    with unchanged(file.uri):
        for start in range(0, found.size_bytes, BLOCK_BYTES):
            if not still():
                raise Stopped
            length = min(BLOCK_BYTES, found.size_bytes - start)
            block = found.place.objects.get_range(found.place.key, start, length)
            digest.update(block)
            yield block
    file.sha256 = digest.hexdigest()


def check_digests(
    files: Sequence[DataFile], digests: Mapping[str, str], still: Callable[[], bool]
) -> None:
    """``InvalidInput`` (``data_changed``) where a file is not the one that the spec names. It is
    read through only where the spec has a SHA-256 of it that is not its ETag."""
    by_uri = {one.uri: one for one in files}
    for uri, wanted in digests.items():
        file = by_uri.get(uri)
        if file is None:
            raise data_changed(uri, wanted, None)
        is_sha256 = _SHA256.fullmatch(wanted.lower()) is not None
        if file.found.etag == wanted:
            continue
        if is_sha256:
            for _ in blocks_of(file, still):
                pass
        if file.sha256 != wanted.lower():
            raise data_changed(
                uri, wanted, (file.sha256 if is_sha256 else None) or str(file.found.etag)
            )


def note_of(files: Sequence[DataFile]) -> dict[str, Any]:
    """What is kept of the files: the first thousand of them, how many were named more than once,
    and a digest over all."""
    every = hashlib.sha256()
    for one in files:
        known = one.sha256 or one.found.etag or ""
        every.update(f"{one.uri}\0{one.found.size_bytes}\0{known}\n".encode())
    listed = [
        {
            "uri": one.uri,
            "size_bytes": one.found.size_bytes,
            "etag": one.found.etag,
            **({"sha256": one.sha256} if one.sha256 else {}),
        }
        for one in files[:MAX_NOTED]
    ]
    again = sum(one.named > 1 for one in files)
    return {
        "files": listed,
        "file_count": len(files),
        **({"named_more_than_once": again} if again else {}),
        "files_digest": every.hexdigest(),
    }
