"""One child process that cannot outlive the tests.

The child gets a session of its own (so Ctrl-C reaches pytest first and fixtures can clean up)
and a parent-death signal (so a pytest that is killed takes its services with it).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class ServiceFailed(RuntimeError):
    """A service did not start; the message carries the end of its log."""


class ChildProcess:
    """A process we started, by pid, with its output in a file."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: int | None = None,
        group: int | None = None,
        death_signal: str = "KILL",
    ) -> None:
        self.log = log
        setpriv = shutil.which("setpriv")
        leash = [setpriv, "--pdeathsig", death_signal, "--"] if setpriv else []
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                [*leash, *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(os.environ if env is None else env),
                cwd=cwd,
                user=user,
                group=group,
                extra_groups=None if user is None else [],
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def alive(self) -> bool:
        return self._popen.poll() is None

    def require_alive(self) -> bool:
        """True, or ``ServiceFailed`` with the log: waiting longer would not help."""
        if not self.alive():
            raise ServiceFailed(
                f"{self._popen.args!r} ended with {self._popen.returncode}:\n{self.log_tail()}"
            )
        return True

    def log_tail(self, characters: int = 3000) -> str:
        return self.log.read_text(errors="replace")[-characters:]

    def stop(self, how: signal.Signals = signal.SIGTERM, deadline_s: float = 20.0) -> None:
        """Ask it to end; kill it when it does not within the deadline."""
        if self.alive():
            self._popen.send_signal(how)
            try:
                self._popen.wait(deadline_s)
            except subprocess.TimeoutExpired:
                self.kill()
        self._kill_group()

    def kill(self) -> None:
        """SIGKILL to it and whatever it started in its session's group; returns when it is gone."""
        self._kill_group()
        self._popen.wait(20)

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
