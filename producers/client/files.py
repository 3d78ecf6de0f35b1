"""Files: larger inputs, uploaded once and referred to by ``forebay://files/<id>``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import httpx

from producers.client.errors import BadArgument
from producers.client.transport import Transport

UPLOAD_TIMEOUT_S = 600.0
SCHEME = "forebay://files/"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An uploaded file. Pass it to ``submit(ref=…)``."""

    document: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The file's id."""
        return str(self.document["id"])

    @property
    def uri(self) -> str:
        """How a ``ref`` names it."""
        return str(self.document["uri"])

    @property
    def size_bytes(self) -> int:
        """Its size."""
        return int(self.document["size_bytes"])


class Files:
    """Upload and download: ``Forebay().files``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def upload(
        self,
        content: str | PathLike[str] | bytes,
        *,
        filename: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> StoredFile:
        """Store a file (a path) or bytes; the service keeps it for this key's tenant alone."""
        path = None if isinstance(content, bytes) else Path(content)
        if path is not None and not path.is_file():
            raise BadArgument(f"{path} is not a file")
        name = filename or (path.name if path is not None else "upload.bin")
        with ExitStack() as opened:

            def body() -> dict[str, Any]:
                data = opened.enter_context(path.open("rb")) if path is not None else content
                return {"files": {"file": (name, data, content_type)}}

            document = self._transport.json(
                "POST", "/v1/files", make=body, extra_s=UPLOAD_TIMEOUT_S
            )
        return StoredFile(document)

    def show(self, file: StoredFile | str) -> StoredFile:
        """What is known of a file, by id or uri."""
        return StoredFile(self._transport.json("GET", f"/v1/files/{_id(file)}"))

    def download(
        self, file: StoredFile | str, to: str | PathLike[str] | None = None
    ) -> bytes | Path:
        """The content: as bytes, or written to the path ``to``."""
        path = f"/v1/files/{_id(file)}/content"
        response = self._transport.call("GET", path, stream=True)
        try:
            if to is None:
                return response.read()
            target = Path(to)
            with target.open("wb") as out:
                for piece in response.iter_bytes():
                    out.write(piece)
            return target
        except httpx.TransportError as error:
            raise self._transport.unreachable(error) from error
        finally:
            response.close()


def _id(file: StoredFile | str) -> str:
    text = file.id if isinstance(file, StoredFile) else file
    return text.removeprefix(SCHEME)
