"""Where webhooks may go: the spelling of a URL, and each address that its host resolves to.

A receiver's URL is a caller's word, and the keeper stands inside the operator's network: without
a guard, a webhook is a way to knock at any door in there. So a URL is taken only in a spelling
that no two programs read differently, and every address is judged by name, as ``ipaddress`` calls
several "global" that lead inside (NAT64, 6to4, multicast). The operator's allow-list opens what
it names, and nothing beside it.

Nothing is resolved here: the guard is asked before a look-up (``target``) and after it
(``refusal``), and who connects does so to an address that it let through.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import TypeAlias

from storage.records.errors import InvalidInput

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

MAX_URL_CHARS = 2_000
USUAL_PORTS = frozenset({80, 443, 8080, 8443})
ANY_PORT = 0

_URL = re.compile(r"(?i:(https?))://([^/?]*)((?:[/?].*)?)", re.DOTALL)
_REST = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # a last label like this means an address to somebody
_PORT = re.compile(r"[1-9][0-9]{0,4}")

_CLOSED_4: Sequence[tuple[str, str]] = (
    ("169.254.169.254/32", "cloud metadata"),
    ("168.63.129.16/32", "cloud metadata"),
    ("192.0.0.192/32", "cloud metadata"),
    ("100.100.100.200/32", "cloud metadata"),
    ("0.0.0.0/8", "unspecified"),
    ("127.0.0.0/8", "loopback"),
    ("10.0.0.0/8", "private"),
    ("172.16.0.0/12", "private"),
    ("192.168.0.0/16", "private"),
    ("169.254.0.0/16", "link-local"),
    ("100.64.0.0/10", "shared (carrier-grade NAT)"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "documentation"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("192.88.99.0/24", "6to4 relay"),
    ("198.18.0.0/15", "benchmark"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
)
_CLOSED_6: Sequence[tuple[str, str]] = (
    ("fd00:ec2::254/128", "cloud metadata"),
    ("fd20:ce::254/128", "cloud metadata"),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("::ffff:0:0/96", "IPv4-mapped"),
    ("::ffff:0:0:0/96", "IPv4-translated"),
    ("::/96", "IPv4-compatible"),
    ("64:ff9b::/96", "NAT64"),
    ("64:ff9b:1::/48", "local NAT64"),
    ("100::/64", "discard"),
    ("2001::/32", "Teredo"),
    ("2001:2::/48", "benchmark"),
    ("2001:db8::/32", "documentation"),
    ("3fff::/20", "documentation"),
    ("2001::/23", "reserved"),
    ("2002::/16", "6to4"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
)
_CLOSED: Sequence[tuple[Network, str]] = tuple(
    (ip_network(text), why) for text, why in (*_CLOSED_4, *_CLOSED_6)
)
_GLOBAL_6 = IPv6Network("2000::/3")  # what is handed out; the rest is reserved
_LAST_32 = (  # networks whose addresses end in one of IPv4, which a translator connects to
    IPv6Network("::ffff:0:0/96"),
    IPv6Network("::ffff:0:0:0/96"),
    IPv6Network("::/96"),
    IPv6Network("64:ff9b::/96"),
)
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)


@dataclass(frozen=True, slots=True)
class Target:
    """A URL whose spelling has been found to be good."""

    url: str
    scheme: str  # http or https
    host: str  # in ASCII and lower case; an address of version 6 without its brackets
    port: int
    path: str  # with the query, as it goes over the wire
    address: Address | None  # when the host is one

    @property
    def authority(self) -> str:
        """What the header ``Host`` says: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        own = {"http": 80, "https": 443}[self.scheme]
        return host if self.port == own else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Opening:
    """One entry of the allow-list: a name or a network, and a port."""

    name: str | None
    network: Network | None
    port: int | None  # none: the usual ones; ``ANY_PORT``: any

    def opens_port(self, port: int) -> bool:
        if self.port is None:
            return port in USUAL_PORTS
        return self.port in (ANY_PORT, port)


@dataclass(frozen=True, slots=True)
class Guard:
    """The policy. ``allow`` is the operator's list, each entry ``host``, ``host:port``,
    ``address``, ``network``, either with ``:port``, or ``[address or network]:port`` for version
    6; the port ``*`` is any. ``InvalidInput`` (``bad_webhook_allow``) when one is none of these.
    """

    allow: tuple[str, ...] = ()
    _openings: tuple[Opening, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_openings", tuple(read_opening(one) for one in self.allow))

    def target(self, url: str, *, field: str = "webhook") -> Target:
        """Where ``url`` leads, or ``InvalidInput`` (``bad_webhook_url``), which says what to do.

        A host that is an address, or means this machine whoever resolves it, is judged at once.
        """
        try:
            target = _read(url)
            if not self._may_open(target):
                ports = ", ".join(map(str, sorted(USUAL_PORTS)))
                raise _Wrong(f"must use one of the ports {ports}, not {target.port}")
            if target.address and (why := self.refusal(target, target.address)):
                raise _Wrong(why)
            if target.host == "localhost" or target.host.endswith(".localhost"):
                here = [self.refusal(target, ip_address(one)) for one in ("127.0.0.1", "::1")]
                if all(here):
                    raise _Wrong(str(here[0]))
        except _Wrong as wrong:
            raise InvalidInput(
                f"{field} {wrong}. Give an http:// or https:// URL that the internet reaches; the"
                " operator can open others with FOREBAY_WEBHOOK_ALLOW",
                code="bad_webhook_url",
                field=field,
            ) from None
        return target

    def refusal(self, target: Target, address: Address) -> str | None:
        """Why nothing may be sent to this address of the target's host; ``None``: it may.

        Where an address of IPv4 is wrapped in it, that one is judged as well: opening a
        translator's network does not open what lies behind it inside.
        """
        if any(one.name == target.host and one.opens_port(target.port) for one in self._openings):
            return None
        for judged in (address, _embedded(address)):
            if judged is None or self._opened(judged, target.port):
                continue
            if target.port not in USUAL_PORTS:
                return f"leads to port {target.port} of an address where it is not opened"
            if why := closed(judged):  # not which: that would tell of names only known inside
                return f"leads to {_article(why)} address"
        return None

    def _opened(self, address: Address, port: int) -> bool:
        return any(
            one.network is not None
            and one.network.version == address.version
            and address in one.network
            and one.opens_port(port)
            for one in self._openings
        )

    def _may_open(self, target: Target) -> bool:
        """Whether the port is one that could be used; a network's entry counts when resolved."""
        return target.port in USUAL_PORTS or any(
            one.opens_port(target.port) and one.name in (None, target.host)
            for one in self._openings
        )


def closed(address: Address) -> str | None:
    """What kind of address it is, if it is one that webhooks do not go to by themselves."""
    for network, why in _CLOSED:
        if network.version == address.version and address in network:
            return why
    if isinstance(address, IPv6Address) and address not in _GLOBAL_6:
        return "reserved"
    inner = _embedded(address)
    return None if inner is None else closed(inner)


def read_opening(text: str) -> Opening:
    """One entry of the allow-list; ``InvalidInput`` (``bad_webhook_allow``) says what it may be."""
    given = text.strip().lower()
    if given.startswith("["):
        host, closing, rest = given[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else None
        bad = not closing or ":" not in host or (bool(rest) and port is None)
    elif given.count(":") > 1:  # version 6, and no port
        host, port, bad = given, None, False
    else:
        host, colon, rest = given.partition(":")
        port, bad = (rest if colon else None), False
    number = _port_of(port)
    network = _network(host)
    if bad or number is None or (network is None and not _is_name(host)):
        raise InvalidInput(
            f"{text.strip()[:200]!r} opens nothing: write host, address or network (10.0.0.0/8),"
            " :port behind it if need be ([fd00::/8]:port for version 6), and * for any port",
            code="bad_webhook_allow",
        )
    taken = None if port is None else number
    return Opening(None if network else host, network, taken)


class _Wrong(Exception):
    """Why a URL is not taken."""


def _read(url: str) -> Target:
    if len(url) > MAX_URL_CHARS:
        raise _Wrong(f"is longer than {MAX_URL_CHARS:,} characters")
    if any(sign.isspace() or not sign.isprintable() or sign == "\\" for sign in url):
        raise _Wrong("holds a blank, a control character or a backslash")
    found = _URL.fullmatch(url)
    if found is None:
        raise _Wrong("is not an http:// or https:// URL")
    scheme, authority, rest = found[1].lower(), found[2], found[3]
    if "#" in url:
        raise _Wrong("holds a fragment (#…), which is never sent")
    if "@" in authority:
        raise _Wrong("holds a user name or password; a receiver knows us by the signature")
    if not _REST.fullmatch(rest):
        raise _Wrong("holds characters behind the host that must be percent-encoded")
    text, port = _split(authority, 443 if scheme == "https" else 80)
    host, address = _host(text)
    path = rest if rest.startswith("/") else "/" + rest
    return Target(url, scheme, host, port, path, address)


def _split(authority: str, usual: int) -> tuple[str, int]:
    """Host and port."""
    if authority.startswith("["):
        inner, closing, rest = authority.partition("]")
        host = inner + closing
    else:
        host, colon, rest = authority.partition(":")
        rest = colon + rest
    if not rest:
        return host, usual
    if not rest.startswith(":") or not _PORT.fullmatch(rest[1:]) or int(rest[1:]) > 65_535:
        raise _Wrong("has no port from 1 to 65535 behind its host")
    return host, int(rest[1:])


def _host(text: str) -> tuple[str, Address | None]:
    if text.startswith("["):
        try:
            if not text.endswith("]") or "%" in text:
                raise ValueError
            six = IPv6Address(text[1:-1])
        except ValueError:
            raise _Wrong("holds no IPv6 address between its brackets") from None
        return str(six), six
    host = _ascii(text)
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        try:
            four = IPv4Address(host)
        except ValueError:
            raise _Wrong("spells an address in an odd way; write it as 192.0.2.1") from None
        return host, four
    if not _is_name(host):
        raise _Wrong("has no host name that could be resolved")
    return host, None


def _ascii(text: str) -> str:
    """The name in lower case, IDNA where it needs to be: only if that changes nothing else.

    What is mapped to other letters on the way (``①``, ``ß``, ``。``) is read by every library in
    its own way.
    """
    if text.isascii():
        return text.lower()
    try:
        name = text.encode("idna").decode("ascii").lower()
        if name.encode("ascii").decode("idna") != text.lower():
            raise UnicodeError
    except UnicodeError:
        raise _Wrong("has a host name that is not spelled plainly; write it as xn--…") from None
    return name


def _is_name(host: str) -> bool:
    labels = host.split(".")
    return (
        len(host) <= 253
        and all(_LABEL.fullmatch(one) for one in labels)
        and not _NUMBER.fullmatch(labels[-1])
    )


def _network(text: str) -> Network | None:
    try:
        return ip_network(text)
    except ValueError:
        return None


def _port_of(text: str | None) -> int | None:
    if text is None or text == "*":
        return ANY_PORT
    return int(text) if _PORT.fullmatch(text) and int(text) <= 65_535 else None


def _embedded(address: Address) -> IPv4Address | None:
    """The address of IPv4 that packets to this one may end at."""
    if isinstance(address, IPv4Address):
        return None
    bits = int(address)
    if bits <= 1:  # unspecified and loopback, which mean themselves
        return None
    if any(address in network for network in _LAST_32) or (bits >> 32) & 0xFFFF_FFFF in _ISATAP:
        return IPv4Address(bits & 0xFFFF_FFFF)
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _LOCAL_NAT64:  # prefixes of 48 to 96 bits are in use; the usual one is 96
        return IPv4Address(bits & 0xFFFF_FFFF)
    return None


def _article(why: str) -> str:
    return ("an " if why[0] in "aeiouIA" else "a ") + why
