"""Who asks. A key names its tenant; without one only this very machine may ask, as ``default``.

Keyless access is meant for a laptop, so it is fenced from all sides: the service must *listen* on
loopback (a proxy in front would make every peer look local), the peer must be loopback, nothing
may say that the request was forwarded, the ``Host`` must be a loopback name (a hostile page can
point its own name at 127.0.0.1), and what changes something must not come from another origin.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import urlsplit

from fastapi import Request

from producers.keys import hash_key, shown
from storage.records.errors import Forbidden, Unauthenticated
from storage.records.tenants import DEFAULT_TENANT

KNOWN_TTL_S = 5.0  # a revoked key is refused at the latest after this long
UNKNOWN_TTL_S = 1.0
MAX_CACHED = 10_000
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_KEY = re.compile(r"[\x21-\x7e]{1,256}")


class KeyCache:
    """Lately seen key hashes and their tenants, each for a short time."""

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._known: dict[str, tuple[float, str | None]] = {}

    def get(self, key_hash: str) -> tuple[bool, str | None]:
        """Whether it is cached, and the tenant."""
        until_s, tenant = self._known.get(key_hash, (0.0, None))
        return (True, tenant) if self._monotonic_s() < until_s else (False, None)

    def put(self, key_hash: str, tenant: str | None) -> None:
        """Remember one look-up."""
        if len(self._known) >= MAX_CACHED:
            self._known.clear()
        ttl_s = KNOWN_TTL_S if tenant is not None else UNKNOWN_TTL_S
        self._known[key_hash] = (self._monotonic_s() + ttl_s, tenant)


def key_hash_of(request: Request) -> str | None:
    """The hash of the bearer key, or None if the caller shows none."""
    headers = request.headers.getlist("authorization")
    if not headers:
        return None
    scheme, _, key = headers[0].partition(" ")
    if len(headers) > 1 or scheme.lower() != "bearer" or not _KEY.fullmatch(key.strip()):
        raise Unauthenticated("write the key as 'Authorization: Bearer <key>'")
    return hash_key(key.strip())


def asker_of(request: Request) -> str:
    """Who asks, as far as it may be kept and shown: the start of the key, as ``forebay keys list``
    has it, or that this machine did. Of a request whose key is known to be good."""
    header = request.headers.get("authorization")
    return "loopback" if header is None else shown(header.partition(" ")[2].strip())


def keyless_tenant(request: Request, *, listens_on_loopback: bool) -> str:
    """The tenant of a caller without a key, or why there must be one."""
    peer = request.scope.get("client")
    if (
        not listens_on_loopback
        or peer is None
        or not is_loopback(peer[0])
        or any(name in request.headers for name in _FORWARDED)
    ):
        raise Unauthenticated("a key is needed here: 'Authorization: Bearer <key>'")
    host = request.headers.get("host", "")
    if not _is_loopback_host(host):
        raise Forbidden(
            "without a key the Host must be localhost, 127.0.0.1 or [::1]", code="foreign_host"
        )
    if request.method not in _SAFE:
        origin = request.headers.get("origin")
        site = request.headers.get("sec-fetch-site", "same-origin")
        foreign = origin is not None and origin.partition("://")[2] != host
        if foreign or site not in ("same-origin", "none"):
            raise Forbidden("without a key, other origins may change nothing", code="cross_site")
    return DEFAULT_TENANT


@lru_cache(maxsize=1024)
def is_loopback(address: str) -> bool:
    """Whether an address (or the name ``localhost``) is this very machine."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=1024)
def _is_loopback_host(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and is_loopback(name.rstrip("."))
