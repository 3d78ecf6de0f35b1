"""``forebay models push --trusted``: the operator's own word, past the API.

Takes what can run code when it is loaded (HDF5, SavedModel). A SavedModel is a folder; it is
stored as a zip of it.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forebay.composition import open_database, require_schema
from producers.cli.exits import usage
from producers.registry import push_version
from storage.objects import open_objects
from storage.records.tenants import DEFAULT_TENANT
from storage.settings import Settings


def push(
    name: str,
    source: Path,
    options: Mapping[str, Any],
    tenant: str | None,
    said: Mapping[str, str | None],
    environ: Mapping[str, str],
) -> Mapping[str, Any]:
    """Push ``source`` as the next version of ``name``; the version as the API would show it.
    ``said``: its licence and notes."""
    settings = Settings.from_environment(environ)
    database = open_database(settings)
    require_schema(database)
    owner = tenant or DEFAULT_TENANT
    with database.begin() as tx:
        tx.tenants.ensure(owner)
    with _as_file(source) as file:
        pushed = push_version(
            database,
            open_objects(settings.objects_url),
            owner,
            name,
            file,
            dict(options),
            trusted=True,
            licence=said.get("licence"),
            notes=said.get("notes"),
        )
    version = pushed.version
    database.close()
    return {
        "id": version.id,
        "tenant": version.tenant,
        "name": version.name,
        "version": version.version,
        "state": version.state.value,
        "format": version.format.value,
        "digest": version.digest,
        "size_bytes": version.size_bytes,
        "signature": version.signature,
        "error": version.error,
        "uploader": version.uploader,
        "licence": version.licence,
        "notes": version.notes,
    }


@contextmanager
def _as_file(source: Path) -> Iterator[Path]:
    """The file itself, or a zip of the folder with the same bytes whenever it is made."""
    if source.is_file():
        yield source
        return
    if not (source / "saved_model.pb").is_file():
        raise usage(f"{source} is a folder without saved_model.pb: that is no SavedModel")
    with tempfile.TemporaryDirectory(prefix="forebay-push-") as folder:
        packed = Path(folder) / "saved_model.zip"
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
            for path in sorted(source.rglob("*")):
                if path.is_file():
                    inside = os.fspath(path.relative_to(source))
                    # A fixed date: the same folder is the same version.
                    archive.writestr(zipfile.ZipInfo(inside), path.read_bytes())
        yield packed
