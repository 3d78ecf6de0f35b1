"""One trainer process: started, listened to, asked to end and made to.

It has a session of its own, so that a terminal's Ctrl-C reaches it only through its owner; it ends
with the thread that started it (``workers.parent``); and what it writes to its standard streams is
kept as far as its last lines.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Mapping, Sequence

from storage.clock import Clock
from workers.settings import PREFIX

LAST_LINES = 40
LINE_CHARACTERS = 500
NICENESS = 10  # it gives way to the passes that somebody waits for
NOISE = (b"WARNING: All log messages before absl::InitializeLog()", b"I0000 ")  # TensorFlow's own
_LISTEN_S = 1.0  # a process of its own may hold the stream open


class TrainerChild:
    """Built running. Belongs to the thread that built it."""

    def __init__(self, argv: Sequence[str], environ: Mapping[str, str], clock: Clock) -> None:
        self._clock = clock
        self._kill_at_s: float | None = None
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._process = subprocess.Popen(
            list(argv),
            env={**environ, PREFIX + "PARENT_PID": str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        with contextlib.suppress(OSError):  # it is a courtesy
            nice = max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0))
            os.setpriority(os.PRIO_PROCESS, self._process.pid, nice)
        self._listener = threading.Thread(
            target=self._listen, name="forebay-trainer-lines", daemon=True
        )
        self._listener.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self, timeout_s: float) -> int | None:
        """Its exit code, negative for a signal; None while it runs. Kills what was asked to end
        and did not."""
        if self._kill_at_s is not None and self._clock.monotonic_s() >= self._kill_at_s:
            self.kill()
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, grace_s: float) -> None:
        """Ask it to end, once; it is killed when it has not after so long."""
        if self._kill_at_s is None:
            self._kill_at_s = self._clock.monotonic_s() + grace_s
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._process.kill()

    def last_lines(self) -> list[str]:
        """What it said last, once it has ended."""
        self._listener.join(_LISTEN_S)
        return list(self._lines)

    def close(self) -> None:
        """It does not outlive this."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _listen(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        with stream, contextlib.suppress(OSError, ValueError):
            begins = True  # a very long line comes in pieces, of which the first is kept
            while piece := stream.readline(4 * LINE_CHARACTERS):
                if begins and not piece.startswith(NOISE):
                    self._keep(piece.decode(errors="replace").rstrip())
                begins = piece.endswith(b"\n")

    def _keep(self, line: str) -> None:
        if line:
            self._lines.append(line[:LINE_CHARACTERS])


def how(code: int) -> str:
    """What an exit code says, in words."""
    if code >= 0:
        return f"it ended with exit code {code}"
    if code == -signal.SIGKILL:
        return "it was killed (SIGKILL), perhaps for want of memory"
    try:
        return f"it was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was ended by signal {-code}"
