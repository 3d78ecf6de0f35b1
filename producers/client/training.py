"""Trainings: from a spec with files of this machine to a request, and what a training tells."""

from __future__ import annotations

import copy
import glob
import os
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from producers.client.bulk import IMAGES, Upload, is_address
from producers.client.errors import BadArgument
from producers.client.transport import Transport

LINES_AT_ONCE = 1000
_WILD = frozenset("*?[")


def with_uploads(
    spec: Mapping[str, Any], folder: str | PathLike[str] | None, upload: Upload
) -> dict[str, Any]:
    """The spec as the service takes it: the files of this machine that its data names (relative to
    ``folder``) are uploaded first. What is no spec at all is for the service to refuse."""
    told = copy.deepcopy(dict(spec))
    data = told.get("data")
    if not isinstance(data, dict):
        return told
    base = Path(folder) if folder is not None else Path()
    put: dict[str, str] = {}
    given = data.get("uri")
    if isinstance(given, list):
        data["uri"] = [uri for one in given for uri in _uris(one, base, upload, put)]
    elif isinstance(given, (str, PathLike)):
        found = _uris(given, base, upload, put)
        data["uri"] = found[0] if len(found) == 1 else found
    labels = data.get("labels_uri")
    if isinstance(labels, (str, PathLike)):
        (data["labels_uri"],) = _uris(labels, base, upload, put)
    if isinstance(data.get("digests"), dict):
        data["digests"] = {put.get(uri, uri): tag for uri, tag in data["digests"].items()}
    return told


def _uris(given: Any, base: Path, upload: Upload, put: dict[str, str]) -> list[Any]:
    """An address as it is; a file of this machine, or those that a pattern fits, uploaded."""
    if is_address(given) or not isinstance(given, (str, PathLike)):
        return [given]
    text = os.fspath(given)
    path = base / text
    if path.is_dir():
        raise BadArgument(
            f"{path} is a folder: name its files by a pattern, as in {text.rstrip('/')}/*.csv;"
            " pictures in folders by label have to lie where the service reads them:"
            " s3://… or file:///… below a prefix that its operator lists (FOREBAY_REF_PREFIXES)",
            code="folder",
        )
    files = [path] if path.is_file() else []
    if not files and _WILD & set(text):
        files = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
        files = [file for file in files if file.is_file()]
    if not files:
        raise BadArgument(f"there is no file {path}", code="no_such_file")
    if all(file.suffix.lower() in IMAGES for file in files):
        raise BadArgument(
            f"{text} names pictures, whose label is their folder's name: that is lost when they"
            " are uploaded. Give an address that the service reads, s3://… or file:///…, or put"
            " them into an NPZ file",
            code="folder",
        )
    uris = [upload(file).uri for file in files]
    if len(uris) == 1:
        put[text] = uris[0]
    return uris


def curves_of(transport: Transport, job_id: str, after_step: int) -> Mapping[str, Any]:
    """All that was measured behind a step."""
    params = {"after_step": str(after_step)} if after_step else None
    told: Mapping[str, Any] = transport.json("GET", f"/v1/jobs/{job_id}/curves", params=params)
    return told


def curves_png(transport: Transport, job_id: str, width: int, height: int) -> bytes:
    """The picture."""
    params = {"width": str(width), "height": str(height)}
    return transport.call("GET", f"/v1/jobs/{job_id}/curves.png", params=params).content


def log_of(transport: Transport, job_id: str, after: int) -> Iterator[Mapping[str, Any]]:
    """The lines that there are behind a number."""
    while True:
        params = {"after": str(after), "limit": str(LINES_AT_ONCE)}
        page = transport.json("GET", f"/v1/jobs/{job_id}/log", params=params)
        yield from page["data"]
        if not page["has_more"]:
            return
        after = page["next"]
