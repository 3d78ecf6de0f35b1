"""A ``forebay up`` of the demo's own, in a folder that is gone afterwards."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from producers.cli.exits import Exit, Failure


class Service:
    """A running one. A thread of its own reads what it tells, from its start to its end."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process, self._log = process, log
        self._events: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, name="demo-reader", daemon=True)
        self._reader.start()

    def ready(self, timeout_s: float) -> str:
        """Its address, once it can work."""
        deadline = time.monotonic() + timeout_s
        with contextlib.suppress(queue.Empty):
            while line := self._events.get(timeout=max(0.0, deadline - time.monotonic())):
                event = json.loads(line)
                if event.get("event") == "ready":
                    return str(event["url"])
        raise failed("the service did not get ready", self._log.read_text(errors="replace"))

    def stop(self) -> None:
        """Ask it to end; make it end."""
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(5)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                self._events.put(line)
        self._events.put("")


@contextmanager
def serving(home: Path, environ: Mapping[str, str], *, reads: Path) -> Iterator[Service]:
    """Start it, and end it whatever happens. Jobs may read the files of the folder ``reads``."""
    log = home / "up.log"
    command = [sys.executable, "-P", "-m", "forebay", "up", "--port", "0", "--json"]
    with log.open("w") as errors:
        process = subprocess.Popen(
            command,
            env=clean(environ)
            | {
                "FOREBAY_HOME": str(home),
                "FOREBAY_REF_PREFIXES": f"{reads.as_uri()}/",
                # A second, so that nobody waits for the worker's figures at the end.
                "FOREBAY_RENEW_EVERY_S": "1",
                "FOREBAY_WEBHOOK_ALLOW": "127.0.0.1:*",  # the demo's own receiver
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    service = Service(process, log)
    try:
        yield service
    finally:
        service.stop()


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without anyone's Forebay settings: the demo has its own."""
    kept = {name: value for name, value in environ.items() if not name.startswith("FOREBAY_")}
    return {"TF_CPP_MIN_LOG_LEVEL": "2"} | kept


def failed(why: str, log: str) -> Failure:
    """The demo cannot go on; the end of the log says more than we can."""
    tail = "\n".join(log.strip().splitlines()[-15:])
    message = f"the demo stopped: {why}" + (f"\n{tail}" if tail else "")
    return Failure(message, exit_code=Exit.FAILED, code="demo_failed")
