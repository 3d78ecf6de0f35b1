"""An HTTP forwarder that spoils chosen requests: lost answers, invented statuses, torn bodies.

Where ``proxy`` knows only bytes, this knows requests: it can let a request reach the server and
lose the answer, which is what a client cannot tell from a request that never arrived.
"""

from __future__ import annotations

import http.client
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from tests.support.ports import free_port

LOSE_ANSWER, LOSE_REQUEST, TEAR_BODY = "lose_answer", "lose_request", "tear_body"


class Meddler:
    """``plan`` lists what happens to the coming requests of a method; afterwards all is well.

    An entry is one of the words above, or a status to answer without asking the server.
    """

    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.plans: dict[str, deque[str | int]] = {}
        self.seen: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []  # of what was seen, names in lower case
        self.port = free_port()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler_of(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def plan(self, method: str, *steps: str | int) -> None:
        self.plans[method] = deque(steps)

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


def _handler_of(meddler: Meddler) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            meddler.seen.append((self.command, self.path))
            meddler.headers.append({name.lower(): text for name, text in self.headers.items()})
            plan = meddler.plans.get(self.command)
            step = plan.popleft() if plan else None
            self.close_connection = step is not None
            if step == LOSE_REQUEST:
                return
            if isinstance(step, int):
                self._answer(step, [("Content-Length", "0")], b"")
                return
            upstream = http.client.HTTPConnection("127.0.0.1", meddler.upstream_port, timeout=20)
            try:
                headers = dict(self.headers.items())
                upstream.request(self.command, self.path, body or None, headers)
                answer = upstream.getresponse()
                data = answer.read()
                if step == LOSE_ANSWER:
                    return
                if step == TEAR_BODY:
                    data = data[: len(data) // 2]
                self._answer(answer.status, answer.getheaders(), data)
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
