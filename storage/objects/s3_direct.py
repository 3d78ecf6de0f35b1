"""The straight way for small puts: what boto3 sends, signed here and sent by its own urllib3.

Around one put boto3 resolves endpoints, walks through hooks and parses documents: 1.7 ms of CPU,
of which signing and sending are 0.4. A worker puts once for each batch, so that is what it saves.

How to send is learned from a request of boto3's that succeeded: its address, region and kind of
signature. Whatever is not a plain success is boto3's to explain or to repeat: the caller asks it
then. A refusal also forgets what was learned, so that the next success of boto3's teaches anew.

Signature Version 4, header form: Amazon S3 API Reference, "Signature Calculations for the
Authorization Header: Transferring Payload in a Single Chunk".
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import quote, urlsplit

from storage.objects import s3_client

_SCOPE = re.compile(r"AWS4-HMAC-SHA256 Credential=[^/]+/\d{8}/([a-z0-9-]+)/s3/aws4_request,")
_CREATED, _TAKEN = 200, 412


class Sent(Enum):
    """What became of a put that went the straight way."""

    CREATED = "created"
    REFUSED = "refused"  # it changed nothing, or was not sent at all
    UNKNOWN = "unknown"  # it may have arrived, now or later


@dataclass(frozen=True, slots=True)
class _Route:
    """Where and how to send."""

    base_url: str  # all of an object's address but its key
    region: str
    pool: Any  # urllib3's


class DirectPuts:
    """One store's. Thread-safe; ``now`` is a seam for tests."""

    def __init__(self, now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)) -> None:
        self._now = now
        self._session: Any = None
        self._route: _Route | None = None
        self._seen = threading.local()

    def attend(self, client: Any, session: Any) -> None:
        """Note what this client of boto3's sends; its session has the keys and knows whom to
        trust."""
        self._session = session
        client.meta.events.register("before-send.s3.PutObject", self._see)

    def _see(self, request: Any, **_: Any) -> None:
        self._seen.request = request.url, dict(request.headers)

    def learn(self, name: str) -> None:
        """The last put of this thread, of the object ``name``, succeeded: go that way from now."""
        url, headers = getattr(self._seen, "request", ("", {}))
        path = quote(name, safe="/-_.~")
        signed = {key.lower(): _text(value) for key, value in headers.items()}
        scope = _SCOPE.match(signed.get("authorization", ""))
        plain = not urlsplit(url).query and url.endswith(f"/{path}")
        if self._route is None and scope and plain and "x-amz-s3session-token" not in signed:
            pool = _pool_for(url, self._session)
            if pool is not None:
                self._route = _Route(url.removesuffix(path), scope[1], pool)

    def put(self, name: str, data: bytes) -> tuple[Sent, str]:
        """Create the object, if the way is known; what became of it, and its ETag."""
        route = self._route
        if route is None:
            return Sent.REFUSED, ""
        from urllib3.exceptions import HTTPError, NewConnectionError

        url = route.base_url + quote(name, safe="/-_.~")
        try:
            keys = self._session.get_credentials().get_frozen_credentials()
        except Exception:  # they ran out and cannot be renewed: boto3 says why
            return Sent.REFUSED, ""
        headers = signed_headers(url, data, keys, route.region, self._now())
        try:
            answer = route.pool.urlopen(
                "PUT", url, body=data, headers=headers, redirect=False, retries=False
            )
        except NewConnectionError:
            return Sent.REFUSED, ""
        except HTTPError:
            return Sent.UNKNOWN, ""
        if answer.status == _CREATED:
            return Sent.CREATED, str(answer.headers.get("etag", ""))
        if answer.status == _TAKEN:
            return Sent.REFUSED, ""
        self._route = None
        return (Sent.REFUSED if 400 <= answer.status < 500 else Sent.UNKNOWN), ""

    def close(self) -> None:
        """Let go of connections."""
        route, self._route = self._route, None
        if route is not None:
            route.pool.clear()


def signed_headers(
    url: str, data: bytes, keys: Any, region: str, now: dt.datetime
) -> dict[str, str]:
    """The headers of a create-only put. ``keys`` are frozen credentials of botocore's."""
    at, digest = urlsplit(url), hashlib.sha256(data).hexdigest()
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    headers = {
        "host": at.netloc,
        "if-none-match": "*",
        "x-amz-content-sha256": digest,
        "x-amz-date": stamp,
    }
    if keys.token:
        headers["x-amz-security-token"] = keys.token
    names = ";".join(headers)  # sorted as they stand
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    request = f"PUT\n{at.path}\n\n{lines}\n{names}\n{digest}"
    scope = (stamp[:8], region, "s3", "aws4_request")
    hashed = hashlib.sha256(request.encode()).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{'/'.join(scope)}\n{hashed}"
    key = f"AWS4{keys.secret_key}".encode()
    for part in (*scope, to_sign):
        key = hmac.digest(key, part.encode(), "sha256")
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{'/'.join(scope)},"
        f" SignedHeaders={names}, Signature={key.hex()}"
    )
    return headers


def _pool_for(url: str, session: Any) -> Any:
    """Connections as boto3 would make them; None where a proxy stands in between."""
    import urllib3
    from botocore.httpsession import get_cert_path
    from botocore.utils import get_environ_proxies

    if get_environ_proxies(url):
        return None
    trusted = session._session.get_config_variable("ca_bundle") or True
    return urllib3.PoolManager(
        maxsize=s3_client.CONNECTIONS,
        retries=False,
        timeout=urllib3.Timeout(connect=s3_client.CONNECT_TIMEOUT_S, read=s3_client.READ_TIMEOUT_S),
        cert_reqs="CERT_REQUIRED",
        ca_certs=get_cert_path(trusted),
    )


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
