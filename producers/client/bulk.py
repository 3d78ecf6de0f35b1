"""Bulk jobs: from files here or elsewhere to a request, and from a job's parts to files here."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import httpx

from producers.client.errors import BadArgument, ForebayError
from producers.client.files import Files, StoredFile
from producers.client.transport import Transport

Source: TypeAlias = str | PathLike[str] | StoredFile
Upload = Callable[[Path], StoredFile]

ERRORS, MANIFEST = "errors.jsonl", "manifest.json"
FILE_EXISTS = "file_exists"
IMAGES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp"})
_WILD = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a bulk job's output that is committed: it never changes."""

    document: Mapping[str, Any]

    @property
    def name(self) -> str | None:
        """What its file is called; None where no row of it has a prediction."""
        name = self.document.get("name")
        return None if name is None else str(name)

    @property
    def rows(self) -> int:
        """How many predictions it holds."""
        return int(self.document["rows"])

    @property
    def failed(self) -> int:
        """How many of its rows have an error instead."""
        return int(self.document["failed"])

    @property
    def size_bytes(self) -> int:
        """Its file's length."""
        return int(self.document["size_bytes"])

    @property
    def sha256(self) -> str | None:
        """Its file's digest, in hex."""
        digest = self.document.get("sha256")
        return None if digest is None else str(digest)


def is_address(text: object) -> bool:
    """Whether it is reached by the service, rather than a path of this machine."""
    return isinstance(text, str) and "://" in text


def local_folder(output: str | PathLike[str] | None, *, overwrite: bool) -> Path | None:
    """The folder of this machine that an output names, if it is no address."""
    if output is None or is_address(output):
        return None
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise BadArgument(f"{folder} is not a folder")
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise BadArgument(
            f"{folder} is not empty; say overwrite to write into it all the same", code=FILE_EXISTS
        )
    return folder


def bulk_input(
    sources: Source | Sequence[Source], form: str | None, upload: Upload
) -> dict[str, Any]:
    """``{uri, format?}`` of what was given: files of this machine are uploaded first."""
    several = isinstance(sources, Sequence) and not isinstance(sources, (str, bytes))
    given: Sequence[Any] = sources if several else [sources]  # type: ignore[assignment]
    found = [entry for source in given for entry in _expand(source)]
    if not found:
        raise BadArgument("there is nothing to score: no input was given", code="no_input")
    paths = [entry for entry in found if isinstance(entry, Path)]
    if paths and (form == "images" or (form is None and _are_images(paths))):
        if len(paths) < len(found):
            raise BadArgument("images of this machine and addresses do not go together")
        return {"uri": _listed(paths, upload), "format": "uris"}
    uris = [upload(entry).uri if isinstance(entry, Path) else entry for entry in found]
    told: dict[str, Any] = {"uri": uris[0] if len(uris) == 1 else uris}
    return told if form is None else told | {"format": form}


def _expand(source: Any) -> list[Path | str]:
    """A file of this machine, those that a pattern fits, or an address as it is."""
    if isinstance(source, StoredFile):
        return [source.uri]
    if not isinstance(source, (str, PathLike)):
        raise BadArgument(f"an input is a path, an address or a file, not {type(source).__name__}")
    if is_address(source):
        return [str(source)]
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        raise BadArgument(f"{path} is a folder: name its files by a pattern, as in {path}/*.csv")
    text = os.fspath(source)
    fitting = sorted(glob.glob(text, recursive=True)) if _WILD & set(text) else []  # noqa: PTH207
    files: list[Path | str] = [Path(name) for name in fitting if Path(name).is_file()]
    if not files:
        raise BadArgument(f"there is no file {text}", code="no_such_file")
    return files


def _are_images(paths: Sequence[Path]) -> bool:
    return all(path.suffix.lower() in IMAGES for path in paths)


def _listed(paths: Sequence[Path], upload: Upload) -> str:
    """The address of an uploaded file that lists these files, uploaded."""
    lines = "".join(f"{upload(path).uri}\n" for path in paths)
    with tempfile.TemporaryDirectory(prefix="forebay-") as folder:
        listing = Path(folder) / "images.txt"
        listing.write_text(lines, encoding="utf-8")
        return upload(listing).uri


def uploader(files: Files, tell: Callable[[Path], object] | None) -> Upload:
    """Uploads each file once, however often it is named; ``tell`` is told before."""
    done: dict[Path, StoredFile] = {}

    def upload(path: Path) -> StoredFile:
        key = path.resolve()
        if key not in done:
            if tell is not None:
                tell(path)
            done[key] = files.upload(path)
        return done[key]

    return upload


def output_body(**given: Any) -> dict[str, Any] | None:
    """The output as the service takes it; what was not said is left out."""
    if isinstance(given.get("keep"), str):
        raise BadArgument("keep= takes a list of columns")
    told = {name: value for name, value in given.items() if value not in (None, False)}
    if "keep" in told:
        told["keep"] = list(told["keep"])
    return told or None


def parts_of(transport: Transport, job_id: str) -> list[Part]:
    """The committed parts, in the order of the input."""
    answer = transport.json("GET", f"/v1/jobs/{job_id}/parts")
    return [Part(document) for document in answer["data"]]


def errors_of(transport: Transport, job_id: str) -> Iterator[Mapping[str, Any]]:
    """The rows that failed so far, as they are streamed."""
    response = transport.call("GET", f"/v1/jobs/{job_id}/errors", stream=True)
    try:
        for line in response.iter_lines():
            if line:
                yield json.loads(line)
    except httpx.TransportError as error:
        raise transport.unreachable(error) from error
    finally:
        response.close()


def download(
    transport: Transport, job_id: str, folder: str | PathLike[str], *, overwrite: bool
) -> list[Path]:
    """Parts, errors and manifest as files of ``folder``: each whole and as it was written, or not
    there. A part that is there already as it should be is left alone."""
    target = Path(folder)
    here = f"/v1/jobs/{job_id}"
    parts = parts_of(transport, job_id)
    named = [(part, target / _plain(part.name)) for part in parts if part.name is not None]
    wanted = [(part, path) for part, path in named if not _is(path, part)]
    others = [target / MANIFEST] + ([target / ERRORS] if any(p.failed for p in parts) else [])
    in_the_way = [path for path in (*(path for _, path in wanted), *others) if path.exists()]
    if in_the_way and not overwrite:
        more = f" and {len(in_the_way) - 1} more" if len(in_the_way) > 1 else ""
        raise BadArgument(
            f"{in_the_way[0]}{more} is there already; say overwrite to replace it",
            code=FILE_EXISTS,
        )
    target.mkdir(parents=True, exist_ok=True)
    for part, path in wanted:
        _fetch(transport, f"{here}/parts/{path.name}", path, part.sha256)
    if target / ERRORS in others:
        _fetch(transport, f"{here}/errors", target / ERRORS, None)
    _fetch(transport, f"{here}/manifest", target / MANIFEST, None)
    return [*(path for _, path in named), *reversed(others)]


def _plain(name: str) -> str:
    """A name that stays in its folder, whoever thought of it."""
    if name in ("", ERRORS, MANIFEST) or name.startswith(".") or set(name) & set("/\\:\0"):
        raise ForebayError(f"a part is called {name[:80]!r}: refused as a file's name")
    return name


def _is(path: Path, part: Part) -> bool:
    if not path.is_file() or path.stat().st_size != part.size_bytes:
        return False
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest() == part.sha256


def _fetch(transport: Transport, address: str, path: Path, sha256: str | None) -> None:
    """Write beside it, compare, and only then give it its name."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        digest = hashlib.sha256()
        with beside.open("xb") as file:
            for piece in _pieces(transport, address):
                digest.update(piece)
                file.write(piece)
        if sha256 is not None and digest.hexdigest() != sha256:
            raise ForebayError(
                f"{path.name} came with other bytes than were written; download it again",
                code="digest_mismatch",
            )
        beside.replace(path)
    finally:
        with suppress(FileNotFoundError):
            beside.unlink()


def _pieces(transport: Transport, address: str) -> Iterable[bytes]:
    response = transport.call("GET", address, stream=True)
    try:
        yield from response.iter_bytes()
    except httpx.TransportError as error:
        raise transport.unreachable(error) from error
    finally:
        response.close()
