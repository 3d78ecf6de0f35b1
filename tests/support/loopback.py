"""The guard behind "no test reaches outside loopback": every connect and lookup is looked at.

A refused call raises an ``OSError``, as a network without a way out would, and is remembered:
the test fails even when the code under test swallows the error. Names under ``.invalid`` fail
to resolve without blame; they are how a test spells "a host that does not exist".
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit


class OutsideLoopback(ConnectionRefusedError):
    """A test tried to leave the machine."""


class LoopbackGuard:
    """Patches ``socket`` while installed; ``allowed`` are further hosts (given services)."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self.refused: list[str] = []
        self._allowed = {"localhost", "", socket.gethostname(), *allowed}
        self._saved: list[tuple[object, str, Any]] = []

    def may(self, host: object) -> bool:
        if isinstance(host, bytes):
            host = host.decode("ascii", "replace")
        if host is None or host in self._allowed:
            return True
        try:
            address = ipaddress.ip_address(str(host).partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback or address.is_unspecified

    def check_address(self, family: int, address: Any) -> None:
        if family in (socket.AF_INET, socket.AF_INET6) and not self.may(address[0]):
            self._refuse(f"connect to {address[0]}:{address[1]}")

    def check_name(self, host: object) -> None:
        text = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
        if text.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        try:
            ipaddress.ip_address(
                text.partition("%")[0]
            )  # a literal: no question leaves the machine
        except ValueError:
            if not self.may(host):
                self._refuse(f"look up {text}")

    def _refuse(self, what: str) -> None:
        self.refused.append(what)
        raise OutsideLoopback(f"a test tried to {what}; only loopback is allowed")

    def install(self) -> None:
        guard = self

        def of_address(name: str) -> None:
            real = getattr(socket.socket, name)

            def method(self: socket.socket, *args: Any) -> Any:
                if isinstance(args[-1], tuple):  # sendto's address comes last, connect's alone
                    guard.check_address(self.family, args[-1])
                return real(self, *args)

            self._patch(socket.socket, name, method)

        def of_name(name: str) -> None:
            real = getattr(socket, name)

            def function(host: object, *args: Any, **kwargs: Any) -> Any:
                guard.check_name(host if host is not None else "")
                return real(host, *args, **kwargs)

            self._patch(socket, name, function)

        for name in ("connect", "connect_ex", "sendto"):
            of_address(name)
        for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
            of_name(name)

    def uninstall(self) -> None:
        for owner, name, real in reversed(self._saved):
            setattr(owner, name, real)
        self._saved.clear()

    def take_refused(self) -> list[str]:
        taken, self.refused = self.refused, []
        return taken

    def _patch(self, owner: object, name: str, replacement: Any) -> None:
        self._saved.append((owner, name, getattr(owner, name)))
        setattr(owner, name, replacement)


def host_of(url: str) -> str:
    """The host a URL names, or the empty string."""
    return urlsplit(url).hostname or ""
