"""Registering model versions: inspect, store by digest, write the row.

Shared by the REST route and by the operator's command. Only the latter may say ``trusted``, which
takes formats that can run code when they are loaded (HDF5, SavedModel).

Pushing is idempotent in the way people repeat it: if the version that the bare name means has the
same bytes and the same signature, that version is the answer and nothing is written, neither its
licence nor its notes. Bytes of an *older* version make a new one: that is how somebody rolls back
by pushing. So do those of a deprecated or deleted one.
"""

from __future__ import annotations

import contextlib
import hashlib
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from producers.shapes import Text, Wrong
from storage.clock import random_bits
from storage.database import Database
from storage.objects import Objects, artifact_key
from storage.records.errors import Conflict, InvalidInput
from storage.records.ids import uuid7
from storage.records.keras_archive import ArchiveLimits, inspect_archive
from storage.records.models import ModelFormat, ModelVersion, NewVersion, VersionState, check_name
from storage.records.push_options import ScoreKind, parse_push_options
from storage.records.signatures import Signature, build_signature

OPERATOR = "operator"  # as who pushed it, past the API
LICENCE = Text(0, 200)
NOTES = Text(
    0,
    4000,
    r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]*$",
    "text without control characters but line breaks and tabs",
)
_HDF5 = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Pushed:
    """The version, and whether this push made it."""

    version: ModelVersion
    is_new: bool


def push_version(
    database: Database,
    objects: Objects,
    tenant: str,
    name: str,
    file: Path,
    options: object = None,
    *,
    trusted: bool = False,
    digest: str | None = None,
    uploader: str = OPERATOR,
    licence: str | None = None,
    notes: str | None = None,
    limits: ArchiveLimits | None = None,
    chance: Callable[[int], int] = random_bits,
) -> Pushed:
    """Blocking. ``options`` is parsed JSON; ``digest`` spares reading the file once more."""
    check_name(name, field="name")
    check_said(licence, notes)
    kind, signature = _inspect(file, options, trusted=trusted, limits=limits)
    digest = digest or digest_of(file)
    described = signature.to_json()
    with database.read() as tx:
        known = _latest_usable(tx.models.versions(tenant, name))
    if known and known.digest == digest and _same_signature(known, signature):
        return Pushed(known, is_new=False)
    key = artifact_key(tenant, digest)
    while True:
        # The key is the digest: whatever lies there already was put by somebody with these bytes.
        with contextlib.suppress(Conflict):
            objects.put_file(key, file)
        with database.begin() as tx:
            # What lay there may have been a deleted version's, and collected since.
            if tx.lifecycle.hold_deleted(tenant, key) and not objects.exists(key):
                continue
            version = tx.models.push(
                tenant,
                NewVersion(
                    id=uuid7(tx.now(), chance(80)),
                    name=name,
                    format=kind,
                    digest=digest,
                    size_bytes=file.stat().st_size,
                    object_key=key,
                    signature=described,
                    trusted=trusted and kind is not ModelFormat.KERAS,
                    uploader=uploader,
                    licence=licence or None,
                    notes=notes or None,
                ),
            )
        return Pushed(version, is_new=True)


def check_said(licence: str | None, notes: str | None) -> None:
    """Whether this may be said of a version, or ``InvalidInput`` with the field."""
    for field, shape, text in (("licence", LICENCE, licence), ("notes", NOTES, notes)):
        if text is None:
            continue
        try:
            shape.check(text)
        except Wrong as wrong:
            raise wrong.under(field).error() from None


def digest_of(file: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _inspect(
    file: Path, options: object, *, trusted: bool, limits: ArchiveLimits | None
) -> tuple[ModelFormat, Signature]:
    parsed = parse_push_options(options)
    kind = _format_of(file)
    if kind is ModelFormat.KERAS:
        with file.open("rb") as opened:
            report = inspect_archive(opened, limits)
        return kind, build_signature(report.inputs, parsed, rescales_itself=report.rescales_itself)
    if not trusted:
        raise InvalidInput(
            f"{kind.value} files can run code when they are loaded; save the model as .keras, or"
            " let the operator push it with 'forebay models push --trusted'",
            code="untrusted_format",
            field="file",
        )
    return kind, build_signature(None, parsed)


def _format_of(file: Path) -> ModelFormat:
    """By content. What is neither HDF5 nor a zipped SavedModel has to be a good ``.keras``."""
    with file.open("rb") as opened:
        if opened.read(len(_HDF5)) == _HDF5:
            return ModelFormat.H5
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return ModelFormat.KERAS
    saved = any(entry.rpartition("/")[2] == "saved_model.pb" for entry in names)
    return ModelFormat.SAVED_MODEL if saved and "config.json" not in names else ModelFormat.KERAS


def _latest_usable(versions: Sequence[ModelVersion]) -> ModelVersion | None:
    meant = (VersionState.PENDING, VersionState.READY)
    usable = [version for version in versions if version.state in meant]
    return max(usable, key=lambda version: version.version, default=None)


def _same_signature(known: ModelVersion, pushed: Signature) -> bool:
    """Whether pushing this again would say what ``known`` says.

    A load completes a signature: outputs, and what was left for it to find out.
    """
    if pushed.deferred is not None or known.trusted:
        return False  # what the options come to is only known after a load
    theirs = Signature.from_json(known.signature)
    completed = replace(
        pushed,
        outputs=theirs.outputs,
        scores=theirs.scores if pushed.scores is ScoreKind.AUTO else pushed.scores,
        label_output=pushed.label_output or theirs.label_output,
    )
    return completed == theirs
