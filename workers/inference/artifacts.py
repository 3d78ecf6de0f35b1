"""Artifacts on this machine's disk, by digest. Nothing is loaded that does not match its digest.

The cache may be shared by several processes: a file appears whole, by rename, and is hashed at
every load, so a torn, stale or altered one is never used.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from storage.objects import Objects
from storage.records.models import ModelVersion
from workers.inference.ports import ModelBroken

_SUFFIX = {"keras": ".keras", "h5": ".h5", "saved_model": ".zip"}


class Artifacts:
    """Fetches by need."""

    def __init__(self, objects: Objects, cache_dir: Path) -> None:
        self._objects, self._dir = objects, cache_dir.expanduser()

    def fetch(self, version: ModelVersion) -> Path:
        """The artifact's checked file; ``ModelBroken`` when what is stored is not what was pushed.

        Keras chooses its reader by the file's suffix, so the suffix is part of the name.
        """
        path = self._dir / (version.digest + _SUFFIX[version.format.value])
        if path.is_file():
            if sha256(path) == version.digest:
                return path
            path.unlink(missing_ok=True)
        self._dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = self._download(version, path)
        if found != version.digest and self._download(version, path) != version.digest:
            raise ModelBroken(
                f"the stored artifact has SHA-256 {found}, but {version.digest} was pushed",
                code="digest_mismatch",
            )
        return path

    def _download(self, version: ModelVersion, path: Path) -> str:
        """The SHA-256 of what is stored; only what was pushed is kept. Twice wrong is no accident
        on the way: the version is done for, for everybody."""
        partial = self._dir / f".{version.digest}.{os.getpid()}.{secrets.token_hex(4)}"
        try:
            self._objects.get_to_file(version.object_key, partial)
            found = sha256(partial)
            if found == version.digest:
                partial.replace(path)
            return found
        finally:
            partial.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The file's SHA-256, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
