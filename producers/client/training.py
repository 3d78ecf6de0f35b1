"""Trainings: from a spec with files of this machine to a request, and what a training tells."""

from __future__ import annotations

import copy
import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    given, labels = data.get("uri"), data.get("labels_uri")
    entries = given if isinstance(given, list) else [given]
    found = [(one, _files(one, base)) for one in entries]
    theirs = _files(labels, base)
    if theirs is not None and len(theirs) != 1:
        says = f"labels_uri is one file, and {labels} names {len(theirs)}"
        raise BadArgument(says, code="several_files")
    put: dict[str, str] = {}
    uris = _uris(found, upload, put)
    if "uri" in data:
        data["uri"] = uris if isinstance(given, list) or len(uris) > 1 else uris[0]
    if theirs is not None:
        (data["labels_uri"],) = _uris([(labels, theirs)], upload, put)
    if isinstance(data.get("digests"), dict):
        data["digests"] = {put.get(uri, uri): tag for uri, tag in data["digests"].items()}
    return told


def _uris(
    entries: Iterable[tuple[Any, Sequence[Path] | None]], upload: Upload, put: dict[str, str]
) -> list[Any]:
    """The addresses of what was given, in its order, those of files each once: a file's rows that
    came twice would be trained on and tested with. ``put``: by what the spec says."""
    uris: list[Any] = []
    named: set[str] = set()
    for given, files in entries:
        if files is None:
            uris.append(given)
            continue
        fresh = [upload(file).uri for file in files]  # the same for the same file
        uris += [uri for uri in dict.fromkeys(fresh) if uri not in named]
        named.update(fresh)
        if len(fresh) == 1:
            put[os.fspath(given)] = fresh[0]
    return uris


def _files(given: Any, base: Path) -> list[Path] | None:
    """A file of this machine, or those that a pattern fits; None for an address."""
    if is_address(given) or not isinstance(given, (str, PathLike)):
        return None
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
    return files


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
