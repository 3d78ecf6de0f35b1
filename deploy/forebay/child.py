"""The worker of ``forebay up`` as its parent sees it: started, poked, watched, stopped.

Together or not at all: when the worker is killed or cannot start, the service ends. The one
exception keeps a poison item from taking everything down with it: a worker that dies *while jobs
are on the device*, or while it loads a model, is replaced, and those jobs or that model are blamed,
as the supervisor of the full mode does.
SIGKILL is somebody's decision (or the kernel's, for want of memory) and ends both.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from forebay.news_pipe import NewsPipe
from storage.database import Database
from workers.devices import DeviceChoice
from workers.inference.ledger import read
from workers.keeper.recovery import recover_alone
from workers.settings import PREFIX
from workers.supervisor import LoadingDeaths, settle_death

log = logging.getLogger(__name__)

WATCHDOG_EXIT = 70  # the worker found itself useless and asks for a new one
NOISE = (b"WARNING: All log messages before absl::InitializeLog()", b"I0000 ")
FIRST_PAUSE_S, LAST_PAUSE_S = 0.2, 5.0


@dataclass(frozen=True, slots=True)
class ChildParts:
    """What a child is started with."""

    database: Database
    device: DeviceChoice
    environ: Mapping[str, str]
    ledger: Path
    lock_fd: int  # inherited, so that the home stays locked until both are gone
    on_ready: Callable[[], None]
    on_death: Callable[[str], None]  # it is gone for good, and why
    stop_grace_s: float = 45.0  # its drain, and what it takes to end after it
    argv: Sequence[str] = (sys.executable, "-P", "-m", "forebay.embedded")


class Child:
    """One worker process at a time. ``run`` belongs to a thread that lives as long as the API:
    the kernel counts the thread that started a process as its parent."""

    def __init__(self, parts: ChildParts) -> None:
        self._parts = parts
        self._poke_read, self._poke_write = os.pipe()
        os.set_blocking(self._poke_write, False)
        self.news = NewsPipe()  # what the workers commit, one after the other
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._deaths = LoadingDeaths()
        self.ready = threading.Event()

    def poke(self) -> None:
        """There is new work. A full pipe says so already."""
        with contextlib.suppress(OSError):
            os.write(self._poke_write, b"\0")

    def trouble(self) -> str | None:
        """Why nothing is worked on at the moment."""
        return None if self.ready.is_set() else "the worker process is starting"

    def run(self) -> None:
        """Start, watch and, after a crash on the device, start again."""
        pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set():
            began = time.monotonic()
            code = self._live()
            if self._stopping.is_set():
                return
            on_device = read(self._parts.ledger)
            busy = on_device is not None and on_device.at_work
            while not settle_death(self._parts.database, self._parts.ledger, self._deaths):
                self._stopping.wait(LAST_PAUSE_S)
            if code == -signal.SIGKILL or not (busy or code == WATCHDOG_EXIT):
                self._parts.on_death(_how(code))
                return
            log.warning("the worker died at its work (%s); a new one starts", _how(code))
            recover_alone(self._parts.database)
            calm = time.monotonic() - began > 60
            pause_s = FIRST_PAUSE_S if calm else min(2 * pause_s, LAST_PAUSE_S)
            self._stopping.wait(pause_s)

    def _live(self) -> int:
        """One process from start to end; its exit code."""
        ready_read, ready_write = os.pipe()
        parts = self._parts
        command = [*parts.argv, "--parent-pid", str(os.getpid()), "--ledger", str(parts.ledger)]
        command += ["--poke-fd", str(self._poke_read), "--ready-fd", str(ready_write)]
        command += ["--news-fd", str(self.news.write_fd)]
        environ = {
            **parts.environ,
            **self._deaths.environment(time.monotonic()),
            "CUDA_VISIBLE_DEVICES": parts.device.cuda_visible_devices,
            PREFIX + "DEVICE": parts.device.name,
        }
        try:
            self._process = subprocess.Popen(
                command,
                env=environ,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(self._poke_read, ready_write, self.news.write_fd, parts.lock_fd),
                start_new_session=True,  # a terminal's Ctrl-C is for the parent, which passes it on
            )
        finally:
            os.close(ready_write)
        threading.Thread(target=_pass_on, args=(self._process.stderr,), daemon=True).start()
        if self._stopping.is_set():  # asked between two of them
            self._process.terminate()
        with contextlib.closing(os.fdopen(ready_read, "rb", buffering=0)) as ready:
            select.select([ready], [], [])
            if ready.read(1):
                self.ready.set()
                self._parts.on_ready()
            code = self._process.wait()
        self.ready.clear()
        return code

    def stop(self) -> int:
        """End it gracefully; kill it when it does not. Its exit code."""
        self._stopping.set()
        process = self._process
        if process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            return process.wait(self._parts.stop_grace_s)
        except subprocess.TimeoutExpired:
            log.error("the worker did not end in time and is killed")
            process.kill()
            return process.wait()

    def close(self) -> None:
        """Let go of the pipes, once ``run`` has returned."""
        for fd in (self._poke_read, self._poke_write):
            os.close(fd)
        self.news.let_go()


def _pass_on(stream: IO[bytes] | None) -> None:
    """The worker's standard error is ours, without what TensorFlow says at every start."""
    assert stream is not None
    with stream, contextlib.suppress(OSError):
        for line in stream:
            if not line.startswith(NOISE):
                sys.stderr.buffer.write(line)
                sys.stderr.buffer.flush()


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
