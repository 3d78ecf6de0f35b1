"""Objects in a local folder: one file each, under the key's own path.

An object is written to the staging folder, forced to the disk, and then given its name by a hard
link, which fails if the name is taken: so no reader ever sees half an object, no put replaces
one, and what was reported as stored is there after a loss of power.

Every path is walked from the root one folder at a time without following symbolic links, so a
link that somebody planted inside leads nowhere. (The root itself may be one.)
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from storage.objects.directory_trouble import explained
from storage.objects.keys import check_key, check_prefix, is_key
from storage.objects.protocol import ObjectInfo, exercise
from storage.records.errors import (
    Conflict,
    NotFound,
    ObjectCorrupt,
    ObjectsMisconfigured,
    ObjectsUnavailable,
)

STAGING = ".staging"  # no key can start with a dot
STALE_AFTER_S = 86_400  # what a dead process left in the staging folder goes after a day
_COPY_BYTES = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Non-blocking, so that a named pipe in the folder cannot hold a reader for ever.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class DirectoryObjects:
    """The folder ``root``. Created by the first put if its parent exists."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._where = f"the folder {root}"
        self._durable: set[tuple[str, ...]] = set()  # folders whose own names are on the disk
        self._swept = False

    def put(self, key: str, data: bytes) -> None:
        self._store(key, lambda file: _write_all(file, data))

    def put_file(self, key: str, path: Path) -> None:
        with path.open("rb") as source:
            self._store(key, lambda file: _copy(source, file))

    def get(self, key: str) -> bytes:
        with self._open(key) as (file, size_bytes):
            return self._exactly(key, file, 0, size_bytes)

    def get_range(
        self, key: str, offset_bytes: int, length_bytes: int, *, etag: str | None = None
    ) -> bytes:
        if offset_bytes < 0 or length_bytes < 0:
            raise ValueError(f"a range of {length_bytes} bytes from {offset_bytes}")
        with self._open(key) as (file, size_bytes):
            _require(key, file, etag)
            if offset_bytes + length_bytes > size_bytes:
                raise ObjectCorrupt(
                    f"{key} has {size_bytes} bytes: there are not {length_bytes} from"
                    f" {offset_bytes}"
                )
            data = self._exactly(key, file, offset_bytes, length_bytes)
            _require(key, file, etag)  # again: it may have been written to meanwhile
            return data

    def get_to_file(self, key: str, path: Path) -> None:
        partial = path.with_name(f".{secrets.token_hex(8)}.part")
        with self._open(key) as (file, _):
            source = os.fdopen(os.dup(file), "rb")
            try:
                with source, partial.open("xb") as target:
                    shutil.copyfileobj(source, target, _COPY_BYTES)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)

    def size(self, key: str) -> int:
        with self._open(key) as (_, size_bytes):
            return size_bytes

    def info(self, key: str) -> ObjectInfo:
        with self._open(key) as (file, size_bytes):
            return ObjectInfo(key, size_bytes, _etag_of(os.fstat(file)))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        folders, _, begun = check_prefix(prefix).rpartition("/")
        return self._walk(tuple(folders.split("/")) if folders else (), begun)

    def exists(self, key: str) -> bool:
        try:
            with self._open(key):
                return True
        except NotFound:
            return False

    def delete(self, keys: Sequence[str]) -> None:
        folders: dict[tuple[str, ...], list[str]] = {}
        for key in keys:
            *parents, name = check_key(key).split("/")
            folders.setdefault(tuple(parents), []).append(name)
        for parents_, names in folders.items():
            with (
                contextlib.suppress(NotFound),
                explained(self._where, "/".join(parents_)),
                self._folder(parents_) as folder,
            ):
                for name in names:
                    with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                        os.unlink(name, dir_fd=folder)
                # Once for all: a row that says 'deleted' must not outlive the deletion.
                os.fsync(folder)

    def probe(self) -> None:
        exercise(self, self._where)

    def close(self) -> None:
        """Nothing is kept open."""

    # ---- reading

    @contextlib.contextmanager
    def _open(self, key: str) -> Iterator[tuple[int, int]]:
        """The object's open file and its size."""
        *parents, name = check_key(key).split("/")
        with explained(self._where, key), self._folder(tuple(parents)) as folder:
            file = os.open(name, _READ, dir_fd=folder)
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise NotFound(f"there is no object {key}", code="object_not_found")
            yield file, status.st_size
        finally:
            os.close(file)

    def _walk(self, parents: tuple[str, ...], begun: str) -> Iterator[ObjectInfo]:
        """Nothing stays open between two objects, however slowly they are taken."""
        path = "".join(f"{segment}/" for segment in parents)
        found: Sequence[tuple[str, os.stat_result]] = ()
        with (
            contextlib.suppress(NotFound),
            explained(self._where, path),
            self._folder(parents) as folder,
        ):
            found = _scan(folder, begun)
        for name, status in found:
            if stat.S_ISDIR(status.st_mode):
                yield from self._walk((*parents, name), "")
            elif stat.S_ISREG(status.st_mode) and is_key(path + name):
                yield ObjectInfo(path + name, status.st_size, _etag_of(status))

    def _exactly(self, key: str, file: int, offset_bytes: int, length_bytes: int) -> bytes:
        parts: list[bytes] = []
        with explained(self._where, key):
            while length_bytes:
                part = os.pread(file, length_bytes, offset_bytes)
                if not part:
                    raise ObjectCorrupt(f"{key} got shorter while it was read")
                parts.append(part)
                offset_bytes += len(part)
                length_bytes -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    # ---- writing

    def _store(self, key: str, write: Callable[[int], None]) -> None:
        *parents, name = check_key(key).split("/")
        with explained(self._where, key, creating=True):
            self._make_root()
            with (
                self._folder((STAGING,), create=True) as staging,
                self._folder(tuple(parents), create=True) as folder,
            ):
                self._sweep(staging)
                with _staged(staging, write) as staged:
                    os.link(
                        staged, name, src_dir_fd=staging, dst_dir_fd=folder, follow_symlinks=False
                    )
                try:
                    os.fsync(folder)
                except OSError:
                    # Nobody knows what is on the disk now; nothing was promised, so take it back.
                    os.unlink(name, dir_fd=folder)
                    raise

    def _make_root(self) -> None:
        if self._root.is_dir():
            return
        if not self._root.parent.is_dir():
            # Not made: it may be a disk that is not mounted, and then this is the wrong one.
            raise ObjectsMisconfigured(
                f"{self._where} cannot be made, because {self._root.parent} does not exist;"
                " create it, or mount the disk"
            )
        with contextlib.suppress(FileExistsError):
            self._root.mkdir(mode=0o700)
        parent = os.open(self._root.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)

    @contextlib.contextmanager
    def _folder(self, parents: tuple[str, ...], *, create: bool = False) -> Iterator[int]:
        """The folder of these segments below the root, open; made (and made durable) on demand."""
        try:
            folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            # Not 'no such object': a disk that is away must never look like lost data.
            raise ObjectsUnavailable(
                f"{self._where} does not exist; create it, or mount its disk"
            ) from None
        try:
            for depth, segment in enumerate(parents, start=1):
                if create:
                    self._make_folder(folder, parents[:depth])
                below = os.open(segment, _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = below
            yield folder
        finally:
            os.close(folder)

    def _make_folder(self, parent: int, path: tuple[str, ...]) -> None:
        made = False
        with contextlib.suppress(FileExistsError):
            os.mkdir(path[-1], dir_fd=parent)
            made = True
        # Another process may have made it a moment ago, so its name is forced out here as well.
        if made or path not in self._durable:
            os.fsync(parent)
            if len(self._durable) > 10_000:
                self._durable.clear()
            self._durable.add(path)

    def _sweep(self, staging: int) -> None:
        """Once per process: remove what was left behind by those that died in a put.

        'Now' is the time that the file system gives the staging folder when it is touched: its
        clock is compared with itself, so a file server with another time does no harm.
        """
        if self._swept:
            return
        self._swept = True
        os.utime(staging)
        now_s = os.fstat(staging).st_mtime
        for name in os.listdir(staging):
            with contextlib.suppress(OSError):
                status = os.stat(name, dir_fd=staging, follow_symlinks=False)
                if now_s - status.st_mtime > STALE_AFTER_S:
                    os.unlink(name, dir_fd=staging)


def _scan(folder: int, begun: str) -> list[tuple[str, os.stat_result]]:
    """What is in an open folder under names that can be segments of keys."""
    found: list[tuple[str, os.stat_result]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(begun) or not is_key(entry.name):
                continue
            with contextlib.suppress(FileNotFoundError):  # it was deleted just now
                found.append((entry.name, entry.stat(follow_symlinks=False)))
    return found


def _require(key: str, file: int, etag: str | None) -> None:
    if etag is not None and _etag_of(os.fstat(file)) != etag:
        raise Conflict(f"{key} has another content by now", code="object_changed")


def _etag_of(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns:x}-{status.st_size:x}"


@contextlib.contextmanager
def _staged(staging: int, write: Callable[[int], None]) -> Iterator[str]:
    """A file in the staging folder, written and on the disk; its staging name goes at the end."""
    name = secrets.token_hex(16)
    file = os.open(name, _CREATE, 0o666, dir_fd=staging)
    try:
        try:
            write(file)
            os.fsync(file)
        finally:
            os.close(file)
        yield name
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=staging)


def _write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _copy(source: BinaryIO, file: int) -> None:
    while part := source.read(_COPY_BYTES):
        _write_all(file, part)
