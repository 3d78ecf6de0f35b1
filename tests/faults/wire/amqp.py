"""AMQP 0-9-1's frames, as far as publishing, delivering and acknowledging go."""

from __future__ import annotations

from dataclasses import dataclass

_METHOD_FRAME = 1
_NAMES = {
    (60, 40): "publish",
    (60, 60): "deliver",
    (60, 80): "ack",
    (60, 90): "reject",
    (60, 120): "nack",
    (60, 50): "return",
    (60, 20): "consume",
    (10, 50): "close",
    (10, 60): "blocked",
    (20, 40): "channel-close",
}


@dataclass(frozen=True)
class Method:
    """A method of interest. ``ack`` from the broker confirms; from the client it acknowledges."""

    name: str
    from_client: bool


class AmqpWire:
    """One connection without TLS."""

    def __init__(self) -> None:
        self._buffers = (bytearray(), bytearray())
        self._greeted = False

    def feed(self, up: bool, data: bytes) -> list[object]:
        """What the bytes complete, in order."""
        buffer = self._buffers[up]
        buffer += data
        if up and not self._greeted:
            if len(buffer) < 8:
                return []
            self._greeted = True
            del buffer[:8]  # AMQP and its version
        events: list[object] = []
        at = 0
        while len(buffer) - at >= 8:
            end = at + 8 + int.from_bytes(buffer[at + 3 : at + 7], "big")
            if len(buffer) < end:
                break
            if buffer[at] == _METHOD_FRAME:
                cls = int.from_bytes(buffer[at + 7 : at + 9], "big")
                method = int.from_bytes(buffer[at + 9 : at + 11], "big")
                if name := _NAMES.get((cls, method)):
                    events.append(Method(name, up))
            at = end
        del buffer[:at]
        return events
