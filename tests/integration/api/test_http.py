"""HTTP itself: the fast parser and the slow one end what has no end, and serve the rest alike."""

from __future__ import annotations

import importlib.util
import socket

import pytest

from producers.api import protocol

pytestmark = pytest.mark.parametrize("quiet_house", ["embedded"], indirect=True)  # all the same

HEAD = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
JOB = b'{"model":"vectors","input":{"tensor":[1,2,3,4]}}'


@pytest.fixture(params=["httptools", "h11"])
def house_on(request, quiet_house, monkeypatch):
    if request.param == "h11":
        usual = importlib.util.find_spec
        monkeypatch.setattr(
            protocol.importlib.util,
            "find_spec",
            lambda name, *more: None if name == "httptools" else usual(name, *more),
        )
    assert (protocol.http_protocol().__mro__[1].__module__.split(".")[-1][:3]) == request.param[:3]
    quiet_house.push()
    quiet_house.start()
    yield quiet_house
    quiet_house.stop()


def connect(house) -> socket.socket:
    host, port = house.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def endless(caller: socket.socket, piece: bytes) -> None:
    """Send until the other side ends it; many times what it should take."""
    with pytest.raises(ConnectionError):
        for _ in range(1000):
            caller.sendall(piece * (65_536 // len(piece)))


def test_headers_without_end_are_cut_off(house_on):
    for start, piece in (
        (b"GET /" + b"a" * 100, b"a"),
        (b"GET / HTTP/1.1\r\nX: ", b"a"),
        (b"GET / HTTP/1.1\r\n", b"X: y\r\n"),
    ):
        with connect(house_on) as caller:
            caller.sendall(start)
            endless(caller, piece)
    assert house_on.submit()["state"] == "queued"


def test_a_body_in_pieces_and_requests_in_one_piece(house_on):
    request = HEAD + b"Content-Length: %d\r\n\r\n" % len(JOB) + JOB
    with connect(house_on) as caller:
        for byte in request[:-10], request[-10:-3], request[-3:]:
            caller.sendall(byte)
        assert b" 202 " in caller.recv(65536)
        caller.sendall(request * 3)  # pipelined
        answers = b""
        while answers.count(b" 202 ") < 3:
            piece = caller.recv(65536)
            assert piece, answers
            answers += piece
    assert len(house_on.http.get("/v1/jobs").json()["data"]) == 4


def test_chunked_bodies_are_taken_and_their_trailers_have_an_end(house_on):
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n" % len(JOB) + JOB + b"\r\n"
    with connect(house_on) as caller:
        caller.sendall(head + chunk + b"0\r\n\r\n")
        assert b" 202 " in caller.recv(65536)
        caller.sendall(head + chunk + b"0\r\n")
        endless(caller, b"X-Trailer: more\r\n")
    assert house_on.submit()["state"] == "queued"
