"""PostgreSQL's protocol 3, as far as statements and the ends of transactions go."""

from __future__ import annotations

from dataclasses import dataclass

_READY, _COMPLETE = b"Z", b"C"
_QUERY, _PARSE, _BIND = b"Q", b"P", b"B"
_IDLE = b"I"


@dataclass(frozen=True)
class Settled:
    """The server has ended a transaction, and its client does not know it yet."""

    statements: tuple[str, ...]  # all of it, spaces made one
    tags: tuple[str, ...]  # what each was answered with; ROLLBACK last when it came to nothing

    def did(self, *words: str) -> bool:
        """Whether it was committed and one of its statements holds all the words."""
        return bool(self.tags) and "ROLLBACK" not in self.tags and self.holds(*words)

    def holds(self, *words: str) -> bool:
        """Whether one of its statements holds all the words."""
        return any(all(word in one for word in words) for one in self.statements)


@dataclass(frozen=True)
class Done:
    """The server has run a statement; its transaction may still be open."""

    statement: str
    tag: str


class PostgresWire:
    """One connection without TLS."""

    def __init__(self) -> None:
        self._up, self._down = bytearray(), bytearray()
        self._started = False
        self._prepared: dict[bytes, str] = {}
        self._now = ""
        self._statements: list[str] = []
        self._tags: list[str] = []

    def feed(self, up: bool, data: bytes) -> list[object]:
        """What the bytes complete, in order."""
        if up:
            self._up += data
            self._sent()
            return []
        self._down += data
        return self._answered()

    def _sent(self) -> None:
        if not self._started:
            size = int.from_bytes(self._up[:4], "big")
            if len(self._up) < max(size, 8):
                return
            self._started = self._up[4:8] == b"\x00\x03\x00\x00"  # protocol 3, not a request
            del self._up[:size]
        for kind, body in _messages(self._up):
            if kind == _QUERY:
                self._runs(_text(body))
            elif kind == _PARSE:
                name, _, rest = body.partition(b"\0")
                self._prepared[name] = _text(rest)
            elif kind == _BIND:
                _, _, rest = body.partition(b"\0")
                self._runs(self._prepared.get(rest.partition(b"\0")[0], ""))

    def _runs(self, statement: str) -> None:
        self._now = statement
        self._statements.append(statement)

    def _answered(self) -> list[object]:
        events: list[object] = []
        for kind, body in _messages(self._down):
            if kind == _COMPLETE:
                tag = body.rstrip(b"\0").decode()
                self._tags.append(tag)
                events.append(Done(self._now, tag))
            elif kind == _READY and body == _IDLE:
                if self._statements:
                    events.append(Settled(tuple(self._statements), tuple(self._tags)))
                self._statements, self._tags = [], []
        return events


def _messages(buffer: bytearray) -> list[tuple[bytes, bytes]]:
    """Whole messages, taken out of the buffer."""
    found, at = [], 0
    while len(buffer) - at >= 5:
        end = at + 1 + int.from_bytes(buffer[at + 1 : at + 5], "big")
        if len(buffer) < end:
            break
        found.append((bytes(buffer[at : at + 1]), bytes(buffer[at + 5 : end])))
        at = end
    del buffer[:at]
    return found


def _text(body: bytes) -> str:
    return " ".join(body.partition(b"\0")[0].decode(errors="replace").split())
