"""HTTP for the SDK: one request with patience, and problems turned into errors.

A call is repeated only when that is safe: when nothing can have reached the service (connection
refused), when the service says so (429, 503), or, for calls that may be repeated (reads, and
submits under an idempotency key), after a connection that broke half-way.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from producers.client.errors import BadArgument, ForebayError, Unreachable, refused

CONNECT_TIMEOUT_S = 5.0
BACKOFF_FIRST_S, BACKOFF_CAP_S = 0.2, 5.0
USER_AGENT = "forebay-python"


@dataclass(frozen=True, slots=True)
class _Trouble:
    """One try that brought no answer, and whether another makes sense."""

    error: ForebayError
    nothing_happened: bool  # the service did not act on the request
    may_pass: bool
    delay_s: float | None = None


class Transport:
    """Speaks to one service. Thread-safe, as httpx's client is."""

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        timeout_s: float,
        patience_s: float,
        http: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.url = _checked(url)
        self.timeout_s = timeout_s
        self.patience_s = patience_s
        self._sleep, self._monotonic, self._chance = sleep, monotonic, chance
        headers = {"User-Agent": USER_AGENT, "Accept": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._client = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)),
            transport=http,
            # A proxy from the environment never stands between a machine and itself.
            trust_env=not _is_loopback(self.url),
        )

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool | None = None,
        extra_s: float = 0.0,
        stream: bool = False,
        make: Callable[[], dict[str, Any]] | None = None,
    ) -> httpx.Response:
        """The service's good answer, or an error of the tree.

        ``repeatable`` defaults to reads and PUTs. ``extra_s`` is time the service was asked to
        wait. ``make`` builds further arguments afresh for each try (an opened file). The caller
        closes an answer it asked to ``stream``.
        """
        safe = method in ("GET", "PUT") if repeatable is None else repeatable
        fixed: dict[str, Any] = {"params": params, "headers": dict(headers or {})}
        if body is not None:
            fixed["content"] = dump(body)
            fixed["headers"]["Content-Type"] = "application/json"
        fixed["timeout"] = httpx.Timeout(
            self.timeout_s + extra_s, connect=min(self.timeout_s, CONNECT_TIMEOUT_S)
        )
        deadline: float | None = None  # counted from the first trouble: a long-poll may be long
        for tries in itertools.count():
            request = self._client.build_request(method, path, **fixed, **(make() if make else {}))
            answer = self._once(request, stream)
            if isinstance(answer, httpx.Response):
                return answer
            delay = self._backoff(tries) if answer.delay_s is None else answer.delay_s
            allowed = answer.nothing_happened or (safe and answer.may_pass)
            now = self._monotonic()
            deadline = now + self.patience_s if deadline is None else deadline
            if not allowed or now + delay > deadline:
                raise answer.error
            self._sleep(delay)
        raise AssertionError("unreachable")

    def _once(self, request: httpx.Request, stream: bool) -> httpx.Response | _Trouble:
        try:
            response = self._client.send(request, stream=stream)
            if response.is_success:
                return response
            response.read()
        except httpx.TransportError as error:
            never_sent = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
            return _Trouble(self.unreachable(error), nothing_happened=never_sent, may_pass=True)
        trouble, delay_s = _problem(response)
        later = response.status_code in (429, 503)
        # A 502 or 504 is a proxy's word: the request may have arrived.
        may_pass = later or response.status_code in (502, 504)
        return _Trouble(trouble, nothing_happened=later, may_pass=may_pass, delay_s=delay_s)

    def json(self, method: str, path: str, **kwargs: Any) -> Any:
        """As ``call``, with the body parsed."""
        return parse(self.call(method, path, **kwargs))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _backoff(self, tries: int) -> float:
        ceiling = min(BACKOFF_CAP_S, BACKOFF_FIRST_S * 2.0**tries)
        return ceiling * (0.5 + 0.5 * self._chance())

    def unreachable(self, error: httpx.TransportError) -> Unreachable:
        what = "no answer in time" if isinstance(error, httpx.TimeoutException) else str(error)
        return Unreachable(f"cannot reach Forebay at {self.url}: {what or type(error).__name__}")


def dump(body: Any) -> bytes:
    """``body`` as JSON; what JSON cannot say is the caller's mistake."""
    try:
        return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, UnicodeEncodeError) as error:
        raise BadArgument(f"this cannot be sent as JSON: {error}") from error


def parse(response: httpx.Response) -> Any:
    """The JSON of an answer."""
    try:
        return response.json()
    except ValueError as error:
        raise ForebayError(
            f"{response.request.url} did not answer in JSON; is that a Forebay service?",
            code="not_forebay",
        ) from error


def _problem(response: httpx.Response) -> tuple[ForebayError, float | None]:
    try:
        document = response.json()
    except ValueError:
        document = {}
    told = _retry_after_s(response.headers.get("Retry-After"))
    problem = document if isinstance(document, Mapping) else {}
    return refused(response.status_code, problem, told), told


def _retry_after_s(header: str | None) -> float | None:
    """Seconds only: the service never sends a date."""
    try:
        return max(0.0, float(header)) if header is not None else None
    except ValueError:
        return None


def _checked(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise BadArgument(f"{url!r} is not an address; write http://host:port") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise BadArgument(f"{url!r} is not an address; write http://host:port")
    if parsed.userinfo:
        raise BadArgument("the address must not hold a user or password; use the key")
    return url.rstrip("/")


def _is_loopback(url: str) -> bool:
    host = httpx.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
