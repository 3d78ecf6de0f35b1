"""A pushed ``.keras`` file, inspected before Keras sees it. Standard library only.

The file is a zip. Sizes are bounded by what is declared *and* by what is read, names are the few
that Keras writes, and the configuration holds nothing but built-in classes (``keras_config``).
So the API, which has no TensorFlow, can refuse a bad model at once and tell its inputs.
"""

from __future__ import annotations

import re
import stat
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from storage.records.errors import InvalidInput
from storage.records.keras_config import bad, check_objects, inputs_of, parse_config
from storage.records.signatures import InputSpec

_ASSET = re.compile(r"assets/[A-Za-z0-9_.+/ -]{1,400}/vocabulary\.txt")
_DIRECTORY = re.compile(r"assets/(?:[A-Za-z0-9_.+/ -]{1,400}/)?")
_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """How much an archive may hold."""

    max_entries: int = 1_000
    max_config_bytes: int = 16 << 20
    max_total_bytes: int = 8 << 30
    max_expansion: int = 20  # unpacked ÷ stored; Keras stores, weights hardly shrink
    expansion_floor_bytes: int = 16 << 20  # below this, a large ratio does no harm


@dataclass(frozen=True, slots=True)
class ArchiveReport:
    """What the archive declares. ``classes`` are those of the configuration's objects."""

    inputs: tuple[InputSpec, ...]
    classes: frozenset[str]
    unpacked_bytes: int

    @property
    def rescales_itself(self) -> bool:
        """Whether the model brings its numbers into range by a layer of its own."""
        return not self.classes.isdisjoint({"Rescaling", "Normalization"})


def inspect_archive(file: BinaryIO, limits: ArchiveLimits | None = None) -> ArchiveReport:
    """Read it through. Codes: ``not_an_archive``, ``archive_bomb``, ``bad_archive``,
    ``refused_layer``, ``unsupported_model``."""
    limits = limits or ArchiveLimits()
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked = _check_directory(archive, _file_size(file), limits)
            config = _read_entries(archive)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise InvalidInput(
            f"the file is not a readable .keras archive: {str(error)[:200]}",
            code="not_an_archive",
            field="file",
        ) from None
    except (EOFError, ValueError, RuntimeError, OSError, OverflowError, zlib.error) as error:
        raise bad(f"the archive cannot be read: {str(error)[:200]}") from None
    parsed = parse_config(config)
    classes = check_objects(parsed)
    return ArchiveReport(inputs_of(parsed), classes, unpacked)


def _file_size(file: BinaryIO) -> int:
    file.seek(0, 2)
    return file.tell()


def _check_directory(archive: zipfile.ZipFile, size_bytes: int, limits: ArchiveLimits) -> int:
    """The declared sum of sizes, after looking at every entry and reading none."""
    entries = archive.infolist()
    if len(entries) > limits.max_entries:
        raise _bomb(f"the archive has {len(entries)} entries, at most {limits.max_entries}")
    names = [entry.filename for entry in entries]
    if len(set(names)) != len(names):
        raise bad("the archive holds two entries of one name")
    for entry in entries:
        _check_entry(entry)
        if entry.file_size > max(
            limits.expansion_floor_bytes, limits.max_expansion * entry.compress_size
        ):
            raise _bomb(f"{entry.filename} unpacks {entry.compress_size} to {entry.file_size}")
    for name in (_CONFIG, _WEIGHTS):
        if name not in names:
            raise bad(f"the archive holds no {name}: it is not a .keras model")
    # Entries that overlap share their bytes: a small file that unpacks many times over.
    if sum(entry.compress_size for entry in entries) > size_bytes:
        raise _bomb("the archive's entries overlap")
    total = sum(entry.file_size for entry in entries)
    if total > limits.max_total_bytes:
        raise _bomb(f"the archive unpacks to {total} bytes, at most {limits.max_total_bytes}")
    if archive.getinfo(_CONFIG).file_size > limits.max_config_bytes:
        raise _bomb(f"config.json is larger than {limits.max_config_bytes} bytes")
    return total


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    shown = name[:80]
    if ".." in name.split("/") or "//" in name:
        raise bad(f"the archive's entry {shown!r} points outside of it")
    known = name in (_CONFIG, _METADATA, _WEIGHTS)
    if not known and not _ASSET.fullmatch(name) and not _DIRECTORY.fullmatch(name):
        raise bad(f"the archive's entry {shown!r} is none that a .keras model has")
    if entry.flag_bits & 0x1:
        raise bad(f"the archive's entry {shown!r} is encrypted")
    if entry.compress_type not in _METHODS:
        raise bad(f"the archive's entry {shown!r} is packed by an unusual method")
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise bad(f"the archive's entry {shown!r} is a link or a device")


def _read_entries(archive: zipfile.ZipFile) -> bytes:
    """Read every entry once, which checks its CRC and its true size; keep the configuration."""
    config = bytearray()
    for entry in archive.infolist():
        if entry.filename == _CONFIG:
            _drain(archive, entry, config.extend)
        elif entry.filename == _WEIGHTS:
            head = bytearray()
            _drain(archive, entry, head.extend, keep_bytes=len(_HDF5_MAGIC))
            if head != _HDF5_MAGIC:
                raise bad(f"{_WEIGHTS} is not an HDF5 file")
        else:
            _drain(archive, entry, bytearray().extend, keep_bytes=0)
    return bytes(config)


def _drain(
    archive: zipfile.ZipFile,
    entry: zipfile.ZipInfo,
    keep: Callable[[bytes], object],
    *,
    keep_bytes: int | None = None,
) -> None:
    """Feed an entry's first bytes to ``keep``, read it all. zipfile stops at the declared size."""
    seen = 0
    with archive.open(entry) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            keep(chunk if keep_bytes is None else chunk[: max(0, keep_bytes - seen)])
            seen += len(chunk)
    if seen != entry.file_size:
        raise bad(f"{entry.filename} holds {seen} bytes, but declares {entry.file_size}")


def _bomb(message: str) -> InvalidInput:
    return InvalidInput(message, code="archive_bomb", field="file")
