"""HTTP/1.1 on one connection, one request at a time, as S3 clients speak it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Asked:
    """A request has begun to go out."""

    verb: str
    path: str


@dataclass(frozen=True)
class Answered:
    """The server has answered; the client does not know it yet."""

    verb: str
    path: str
    status: int


class HttpWire:
    """Takes the first bytes after an answer for the next request."""

    def __init__(self) -> None:
        self._head: bytes | None = b""  # of the request; None while its answer is awaited
        self._verb, self._path = "", ""
        self._waiting = False

    def feed(self, up: bool, data: bytes) -> list[object]:
        """What the bytes complete, in order."""
        if up:
            if self._waiting:
                return []  # its body
            self._head = (self._head or b"") + data
            line, found, _ = self._head.partition(b"\r\n")
            if not found:
                return []
            words = line.decode("latin-1").split(" ")
            self._verb, self._path = words[0], words[1] if len(words) > 1 else ""
            self._head, self._waiting = b"", True
            return [Asked(self._verb, self._path)]
        if not self._waiting or not data.startswith(b"HTTP/1.1 ") or data[9:12] == b"100":
            return []
        self._waiting = False
        return [Answered(self._verb, self._path, int(data[9:12]))]
