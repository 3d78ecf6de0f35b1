"""The decoders that tell a fault its moment."""

from __future__ import annotations

import struct

from tests.faults.wire.amqp import AmqpWire, Method
from tests.faults.wire.http import Answered, Asked, HttpWire
from tests.faults.wire.line import Trip
from tests.faults.wire.postgres import Done, PostgresWire, Settled

STARTUP = struct.pack(">II", 8, 196608)


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack(">I", 4 + len(body)) + body


def frame(class_id: int, method_id: int, rest: bytes = b"") -> bytes:
    payload = struct.pack(">HH", class_id, method_id) + rest
    return struct.pack(">BHI", 1, 1, len(payload)) + payload + b"\xce"


def started() -> PostgresWire:
    wire = PostgresWire()
    wire.feed(True, STARTUP)
    wire.feed(False, message(b"R", bytes(4)) + message(b"Z", b"I"))
    return wire


def test_a_transaction_is_settled_when_the_server_is_idle_again() -> None:
    wire = started()
    wire.feed(True, message(b"Q", b"BEGIN\0"))
    done = wire.feed(False, message(b"C", b"BEGIN\0") + message(b"Z", b"T"))
    assert done == [Done("BEGIN", "BEGIN")]
    wire.feed(True, message(b"P", b"s1\0UPDATE  live\n SET x\0" + bytes(2)))
    wire.feed(True, message(b"B", b"\0s1\0" + bytes(6)) + message(b"S", b""))
    done = wire.feed(False, message(b"C", b"UPDATE 3\0") + message(b"Z", b"T"))
    assert done == [Done("UPDATE live SET x", "UPDATE 3")]
    wire.feed(True, message(b"Q", b"COMMIT\0"))
    end = wire.feed(False, message(b"C", b"COMMIT\0") + message(b"Z", b"I"))
    settled = end[-1]
    assert isinstance(settled, Settled)
    assert settled.did("UPDATE live", "SET x") and not settled.did("INSERT")


def test_what_was_rolled_back_was_not_done() -> None:
    wire, events = started(), []
    for statement, tag, status in (
        (b"BEGIN", b"BEGIN", b"T"),
        (b"DELETE", b"DELETE 1", b"T"),
        (b"COMMIT", b"ROLLBACK", b"I"),  # as the server answers when the transaction had failed
    ):
        wire.feed(True, message(b"Q", statement + b"\0"))
        events = wire.feed(False, message(b"C", tag + b"\0") + message(b"Z", status))
    settled = events[-1]
    assert isinstance(settled, Settled)
    assert settled.holds("DELETE") and not settled.did("DELETE")


def test_bytes_may_come_in_any_pieces() -> None:
    wire, events = PostgresWire(), []
    for byte in STARTUP + message(b"Q", b"SELECT 1\0"):
        wire.feed(True, bytes([byte]))
    for byte in message(b"C", b"SELECT 1\0") + message(b"Z", b"I"):
        events += wire.feed(False, bytes([byte]))
    assert events == [Done("SELECT 1", "SELECT 1"), Settled(("SELECT 1",), ("SELECT 1",))]
    amqp, seen = AmqpWire(), []
    for byte in b"AMQP\0\0\x09\x01" + frame(60, 40, b"rest") + frame(10, 31):
        seen += amqp.feed(True, bytes([byte]))
    assert seen == [Method("publish", True)]


def test_a_confirm_is_an_ack_of_the_brokers() -> None:
    wire = AmqpWire()
    wire.feed(True, b"AMQP\0\0\x09\x01")
    assert wire.feed(False, frame(60, 80, bytes(9))) == [Method("ack", False)]
    assert wire.feed(True, frame(60, 80, bytes(9))) == [Method("ack", True)]


def test_a_request_and_its_answer() -> None:
    wire = HttpWire()
    asked = wire.feed(True, b"PUT /bucket/key HTTP/1.1\r\nexpect: 100-continue\r\n\r\n")
    assert asked == [Asked("PUT", "/bucket/key")]
    assert wire.feed(False, b"HTTP/1.1 100 Continue\r\n\r\n") == []
    assert wire.feed(True, b"GET is no request in a body") == []
    answered = wire.feed(False, b"HTTP/1.1 200 OK\r\n\r\n")
    assert answered == [Answered("PUT", "/bucket/key", 200)]
    assert wire.feed(True, b"GET / HTTP/1.1\r\n") == [Asked("GET", "/")]


def test_a_trap_springs_once() -> None:
    sprung: list[object] = []
    trip = Trip(lambda event: event == "now", lambda: sprung.append(1))
    for event in ("before", "now", "now"):
        trip.look(event)
    trip.wait(1)
    assert sprung == [1] and trip.event == "now"
