"""Models: names, references, versions and their states.

A version is immutable and pinned by the SHA-256 of its artifact. It is pushed ``pending``; the
first worker that loads it decides ``ready`` or ``broken``. Jobs may be submitted to a pending one.
A training job has its version before it starts: in ``training``, without an artifact, and nobody
can mean it until the job has filled it in, which makes it ``pending``.

::

    training ──▶ pending ──▶ ready ◀──▶ deprecated
        │           │          │            │
        └──────▶ broken ◀──────┴────────────┘        each of them but training ──▶ deleted
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from storage.records.errors import Conflict, Gone, InvalidInput
from storage.records.jobs import Millis

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class VersionState(StrEnum):
    """Whether a version can be served."""

    TRAINING = "training"  # a number only: a training job is to fill it in
    PENDING = "pending"  # stored, not yet loaded by any worker
    READY = "ready"  # a worker loaded it and ran it
    BROKEN = "broken"  # a worker could not load or run it; ``error`` says why
    DEPRECATED = (
        "deprecated"  # ready, but only for who names it: no bare name, no alias leads to it
    )
    DELETED = "deleted"  # a record only; what was queued for it before is still answered


class ModelFormat(StrEnum):
    """How the artifact is stored. Only ``KERAS`` is taken without the operator's own word."""

    KERAS = "keras"
    H5 = "h5"
    SAVED_MODEL = "saved_model"  # a zip of the SavedModel directory


@dataclass(frozen=True, slots=True)
class ModelRef:
    """``name``, ``name:version`` or ``name@alias``; a bare name means the highest version."""

    name: str
    version: int | None = None
    alias: str | None = None

    def __str__(self) -> str:
        if self.version is not None:
            return f"{self.name}:{self.version}"
        return f"{self.name}@{self.alias}" if self.alias else self.name


def check_name(name: str, *, field: str) -> str:
    """The name, or ``InvalidInput`` that says how names are spelled."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{field} {name[:80]!r} is not a name: use 1 to 63 of a-z 0-9 . _ - and start with"
            " a letter or digit",
            code="invalid_name",
            field=field,
        )
    return name


def parse_model_ref(text: str, *, field: str = "model") -> ModelRef:
    """Read a reference as a caller writes it."""
    if "@" in text:
        name, _, alias = text.partition("@")
        return ModelRef(check_name(name, field=field), alias=check_name(alias, field=field))
    if ":" in text:
        name, _, number = text.partition(":")
        if not re.fullmatch(r"[1-9][0-9]{0,8}", number):
            raise InvalidInput(
                f"{field} {text[:80]!r}: after ':' comes a version number, as in digits:3",
                code="invalid_version",
                field=field,
            )
        return ModelRef(check_name(name, field=field), version=int(number))
    return ModelRef(check_name(text, field=field))


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version about to be written. The store gives it the next number of its name."""

    id: str
    name: str
    format: ModelFormat
    digest: str  # SHA-256 hex of the artifact
    size_bytes: int
    object_key: str
    signature: Mapping[str, object]  # ``storage.records.signatures``, as JSON
    trusted: bool = False
    uploader: str | None = None  # who pushed it: the start of a key, or the operator
    licence: str | None = None
    notes: str | None = None


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version as readers see it."""

    id: str
    tenant: str
    name: str
    version: int
    state: VersionState
    format: ModelFormat
    digest: str
    size_bytes: int
    object_key: str
    signature: Mapping[str, object]
    trusted: bool
    error: str | None
    created_at: Millis
    loaded_at: Millis | None
    origin: Mapping[str, object] | None = None  # what a training made it from
    uploader: str | None = None
    licence: str | None = None
    notes: str | None = None
    deleted_at: Millis | None = None
    collected_at: Millis | None = None  # its artifact is gone


def check_there(version: ModelVersion, *, field: str = "model") -> None:
    """``Gone`` with code ``version_deleted`` of one that is a record only."""
    if version.state is VersionState.DELETED:
        raise Gone(
            f"{version.name}:{version.version} was deleted: name another version",
            code="version_deleted",
            field=field,
        )


_UNSERVED = {
    VersionState.TRAINING: "version_in_training",
    VersionState.BROKEN: "version_broken",
    VersionState.DEPRECATED: "version_deprecated",
    VersionState.DELETED: "version_deleted",
}


def check_pointable(version: ModelVersion) -> None:
    """``Conflict`` unless an alias may be pointed at it: at one that is pending, as callers may
    submit to it, or ready."""
    if version.state in (VersionState.PENDING, VersionState.READY):
        return
    why = f": {version.error}" if version.error else ""
    raise Conflict(
        f"{version.name}:{version.version} is {version.state.value}{why}; an alias leads to a"
        " version that can be served",
        code=_UNSERVED[version.state],
        field="version",
    )


def check_ready(version: ModelVersion, *, field: str) -> None:
    """``Conflict`` with code ``version_not_ready`` unless a worker has loaded it: of one that an
    alias may be pointed at."""
    if version.state is not VersionState.READY:
        raise Conflict(
            f"{version.name}:{version.version} is {version.state.value}: wait until a worker has"
            " loaded it",
            code="version_not_ready",
            field=field,
        )


@dataclass(frozen=True, slots=True)
class Alias:
    """A name for a version that moves atomically. ``generation`` counts its moves."""

    name: str
    alias: str
    version: int
    generation: int
    updated_at: Millis


@dataclass(frozen=True, slots=True)
class Model:
    """A model's name with what hangs on it."""

    tenant: str
    name: str
    latest_version: int
    versions: int
    aliases: Mapping[str, int]
    created_at: Millis
