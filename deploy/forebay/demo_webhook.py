"""The demo is told of a job: a receiver of a few lines, as a caller would write it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from forebay.demo_service import failed

if TYPE_CHECKING:
    from producers.client import Forebay

COMES_WITHIN_S = 60.0
Arrivals = queue.Queue[tuple[Message, bytes]]


@dataclass(frozen=True, slots=True)
class Delivered:
    """An event that came and was verified."""

    type: str
    job: str
    within_s: float  # from submit to arrival

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)

    def line(self) -> str:
        """For people."""
        ms = self.within_s * 1000
        return f"{self.type} delivered {ms:,.0f} ms after the submit, signature verified"


def ask_to_be_told(client: Forebay, model: str, picture: Any) -> Delivered:
    """Submit a job with a webhook, and wait until it has come."""
    from producers.client import WebhookVerificationError, verify

    secret = client.webhooks.secret().secret
    with _receiving() as (url, arrivals):
        began = time.monotonic()
        job = client.submit(model, image=picture, webhook=url)
        try:
            headers, body = arrivals.get(timeout=COMES_WITHIN_S)
            within_s = time.monotonic() - began
            event = verify(headers, body, secret)
        except queue.Empty:
            raise failed("no webhook came", "") from None
        except WebhookVerificationError as error:
            raise failed(f"a webhook came that is not ours: {error.message}", "") from None
    if event["data"]["id"] != job.id:
        raise failed("the webhook is another job's", "")
    return Delivered(event["type"], job.id, round(within_s, 3))


@contextmanager
def _receiving() -> Iterator[tuple[str, Arrivals]]:
    arrivals: Arrivals = queue.Queue()

    class Receiver(BaseHTTPRequestHandler):
        """Takes a webhook, and says at once that it has it."""

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(204)
            self.end_headers()
            arrivals.put((self.headers, body))

        def log_message(self, *_: object) -> None:
            """The demo has its own lines."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever, name="demo-webhooks")
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/", arrivals
        finally:
            server.shutdown()
            thread.join()
