"""The proxy does to a connection what it says."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from tests.support.proxy import Proxy
from tests.support.waiting import wait_until


@pytest.fixture
def echo_port():
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                threading.Thread(target=echo, args=(peer,), daemon=True).start()

    def echo(peer):
        with peer, contextlib.suppress(OSError):
            while data := peer.recv(4096):
                peer.sendall(data)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


@pytest.fixture
def proxy(echo_port):
    with Proxy(echo_port) as running:
        yield running


@pytest.fixture
def client(proxy):
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as sock:
        yield sock


def test_it_forwards_both_ways(client, proxy):
    client.sendall(b"hello")
    assert client.recv(10) == b"hello"
    # Counted once given, so the echo may be back a moment earlier.
    wait_until(lambda: proxy.bytes_up == 5, what="five bytes counted")
    assert proxy.connections == 1


def test_a_black_hole_says_nothing_and_heals(client, proxy):
    proxy.black_hole()
    client.sendall(b"lost?")
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(10)
    proxy.heal()
    client.settimeout(5)
    assert client.recv(10) == b"lost?"


def test_a_cut_ends_the_connection_and_a_new_one_works(client, proxy):
    client.sendall(b"x")
    assert client.recv(1) == b"x"
    proxy.cut()
    assert client.recv(1) == b""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as again:
        again.sendall(b"y")
        assert again.recv(1) == b"y"


def test_a_reset_is_a_reset(client, proxy):
    client.sendall(b"x")
    assert client.recv(1) == b"x"
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_refusing_closes_the_door(client, proxy):
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
    proxy.heal()
    socket.create_connection(("127.0.0.1", proxy.port), timeout=5).close()


def test_it_cuts_after_a_number_of_bytes(client, proxy):
    proxy.cut_after(3)
    client.sendall(b"abcdef")
    wait_until(lambda: proxy.bytes_up == 3, 5)
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(10):
            received += data
    assert b"abc".startswith(received)


def test_latency_delays(client, proxy):
    proxy.latency_s = 0.15
    start = time.monotonic()
    client.sendall(b"x")
    client.recv(1)
    assert time.monotonic() - start >= 0.29
