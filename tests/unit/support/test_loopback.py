"""The guard that keeps tests on the machine can fail."""

from __future__ import annotations

import contextlib
import socket

import pytest

from tests.support.loopback import LoopbackGuard, OutsideLoopback


def test_a_connection_outside_loopback_is_refused_and_remembered(loopback_guard):
    with contextlib.suppress(OSError), socket.socket() as sock:  # swallowed, as code may do
        sock.connect(("192.0.2.1", 80))
    assert loopback_guard.take_refused() == ["connect to 192.0.2.1:80"]


def test_a_lookup_of_a_foreign_name_never_leaves(loopback_guard):
    with pytest.raises(OutsideLoopback):
        socket.getaddrinfo("example.org", 443)
    assert loopback_guard.take_refused() == ["look up example.org"]


def test_a_name_that_cannot_exist_fails_without_blame(loopback_guard):
    with pytest.raises(socket.gaierror):
        socket.create_connection(("nowhere.invalid", 1))
    assert loopback_guard.take_refused() == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", None, b"127.0.0.1"])
def test_loopback_is_allowed(host):
    assert LoopbackGuard().may(host)


@pytest.mark.parametrize(
    "host", ["8.8.8.8", "::ffff:8.8.8.8", "10.0.0.1", "example.org", "fe80::1%eth0"]
)
def test_everything_else_is_not(host):
    assert not LoopbackGuard().may(host)
