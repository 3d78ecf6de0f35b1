"""An HTTP forwarder that spoils chosen requests: lost answers, invented statuses, torn bodies,
changed bytes.

Where ``proxy`` knows only bytes, this knows requests: it can let a request reach the server and
lose the answer, which is what a client cannot tell from a request that never arrived.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from tests.support.ports import free_port

LOSE_ANSWER, LOSE_REQUEST, TEAR_BODY = "lose_answer", "lose_request", "tear_body"
TEAR_REQUEST = "tear_request"  # half of its body reaches the server
SPOIL_REQUEST = "spoil_request"  # its body reaches the server with one bit changed
SPOIL_BODY = "spoil_body"  # the answer's body has one bit changed
WRONG_ETAG = "wrong_etag"


@dataclass(frozen=True, slots=True)
class Slow:
    """The answer comes so much later."""

    seconds: float


Step = str | int | Slow
Rule = Callable[[str, str], Step | None]


class Meddler:
    """``plan`` lists what happens to the coming requests of a method; afterwards all is well.

    An entry is one of the words above, a ``Slow``, or a status to answer without asking the
    server. ``rule(method, path)`` may say so of every request that no plan speaks of; ``done``
    counts what was done to whom.
    """

    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.plans: dict[str, deque[Step]] = {}
        self.rule: Rule | None = None
        self.done: Counter[tuple[str, Step]] = Counter()  # by method and step
        self.under_way = 0  # requests that have come and not yet gone
        self.lock = threading.Lock()
        self.seen: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []  # of what was seen, names in lower case
        self.port = free_port()
        self._server = _Server(("127.0.0.1", self.port), _handler_of(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def plan(self, method: str, *steps: Step) -> None:
        self.plans[method] = deque(steps)

    def step(self, method: str, path: str) -> Step | None:
        """What happens to this request."""
        plan, step = self.plans.get(method), None
        if plan:
            step = plan.popleft()
        elif self.rule is not None:
            step = self.rule(method, path)
        if step is not None:
            self.done[method, step] += 1
        return step

    def count(self, method: str) -> int:
        return sum(1 for seen, _ in self.seen if seen == method)

    def __enter__(self) -> Meddler:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A server that is not there is part of the game."""


def _spoilt(data: bytes) -> bytes:
    """One bit in the middle is changed."""
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :] if data else data


def _handler_of(meddler: Meddler) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def _serve(self) -> None:
            with meddler.lock:
                meddler.under_way += 1
            try:
                self._serve_one()
            finally:
                with meddler.lock:
                    meddler.under_way -= 1

        def _serve_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            meddler.seen.append((self.command, self.path))
            meddler.headers.append({name.lower(): text for name, text in self.headers.items()})
            step = meddler.step(self.command, self.path)
            self.close_connection = step is not None
            if step == LOSE_REQUEST:
                return
            if isinstance(step, int):
                self._answer(step, [("Content-Length", "0")], b"")
                return
            if isinstance(step, Slow):
                time.sleep(step.seconds)
            if step == SPOIL_REQUEST:
                body = _spoilt(body)
            upstream = http.client.HTTPConnection("127.0.0.1", meddler.upstream_port, timeout=20)
            try:
                headers = dict(self.headers.items())
                if step == TEAR_REQUEST:
                    headers["Content-Length"] = str(len(body))
                    upstream.request(self.command, self.path, body[: len(body) // 2], headers)
                    return
                upstream.request(self.command, self.path, body or None, headers)
                answer = upstream.getresponse()
                data, said = answer.read(), answer.getheaders()
                if step == LOSE_ANSWER:
                    return
                if step == TEAR_BODY:
                    data = data[: len(data) // 2]
                if step == SPOIL_BODY:
                    data = _spoilt(data)
                if step == WRONG_ETAG:
                    said = [(n, v) for n, v in said if n.lower() != "etag"]
                    said.append(("ETag", '"0123456789abcdef0123456789abcdef"'))
                self._answer(answer.status, said, data)
            finally:
                upstream.close()

        def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in ("connection", "transfer-encoding"):
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _serve

        def log_message(self, *args: object) -> None:
            """Silent."""

    return Handler
