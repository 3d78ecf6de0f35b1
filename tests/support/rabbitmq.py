"""A private RabbitMQ node: its own directories, ports, name, cookie and epmd.

Debian's ``/usr/sbin/rabbitmq-server`` insists on the system's own directories and user, so the
scripts behind it are called directly. The management plugin is on, because a fresh vhost per
test costs 20 ms over HTTP and 700 ms through ``rabbitmqctl``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import uuid
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx

from tests.support.ports import free_port, is_open
from tests.support.process import ChildProcess
from tests.support.waiting import wait_until

_SCRIPT_DIRS = (Path("/usr/lib/rabbitmq/bin"),)
START_DEADLINE_S = 60.0


def scripts_dir() -> Path | None:
    """Where rabbitmq-server's own scripts lie, or None when it is not installed."""
    on_path = shutil.which("rabbitmq-server")
    candidates = [*_SCRIPT_DIRS, *([Path(on_path).resolve().parent] if on_path else [])]
    for folder in candidates:
        if (folder / "rabbitmq-server").exists() and (folder / "rabbitmqctl").exists():
            return folder
    return None


class Vhosts:
    """Vhosts made and dropped over the management API of any node, private or not."""

    def __init__(self, broker_url: str, management_url: str) -> None:
        """``broker_url`` names user, password, host and port; its path is replaced."""
        self._broker = urlsplit(broker_url)
        at = urlsplit(management_url)
        auth = httpx.BasicAuth(
            at.username or self._broker.username or "guest",
            at.password or self._broker.password or "guest",
        )
        base = f"{at.scheme}://{at.hostname}:{at.port}"
        # One connection a call: the node may be killed and started between two of them.
        limits = httpx.Limits(max_keepalive_connections=0)
        self.api = httpx.Client(
            base_url=base, auth=auth, timeout=20, trust_env=False, limits=limits
        )

    def url(self, vhost: str) -> str:
        return self._broker._replace(path=f"/{quote(vhost, safe='')}").geturl()

    def create(self, name: str | None = None) -> str:
        """Makes a vhost; returns its name."""
        vhost = name or f"test-{uuid.uuid4().hex[:12]}"
        user = self._broker.username or "guest"
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self.api.put(f"/api/vhosts/{quote(vhost, safe='')}").raise_for_status()
        self.api.put(
            f"/api/permissions/{quote(vhost, safe='')}/{user}", json=everything
        ).raise_for_status()
        return vhost

    def drop(self, vhost: str) -> None:
        with contextlib.suppress(httpx.HTTPError):
            self.api.delete(f"/api/vhosts/{quote(vhost, safe='')}")

    def close(self) -> None:
        self.api.close()


class RabbitMQ:
    """One node. ``start``, ``stop``, ``kill`` and ``restart`` keep ports, data and password."""

    user = "forebay"

    def __init__(self, folder: Path) -> None:
        self._scripts = scripts_dir()
        if self._scripts is None:
            raise FileNotFoundError("rabbitmq-server is not installed (apt-get install it)")
        self.folder = folder
        self.port, self.management_port = free_port(), free_port()
        self._dist_port, self._epmd_port = free_port(), free_port()
        self.node = f"forebay-{self.port}@localhost"
        self.password = f"rabbit-{secrets.token_hex(8)}"
        self._epmd: ChildProcess | None = None
        self._node: ChildProcess | None = None
        self._write_config()
        self.vhosts = Vhosts(self.url, f"http://127.0.0.1:{self.management_port}")

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    def url_at(self, port: int, vhost: str = "/") -> str:
        """The URL through another port: a proxy in front of the node."""
        return f"amqp://{self.user}:{self.password}@127.0.0.1:{port}/{quote(vhost, safe='')}"

    @property
    def pid(self) -> int:
        assert self._node is not None
        return self._node.pid

    def start(self) -> None:
        assert self._scripts is not None
        if self._epmd is None:
            self._start_epmd()
        self._node = ChildProcess(
            [str(self._scripts / "rabbitmq-server")],
            log=self.folder / "node.out",
            env=self._env(),
            cwd=self.folder,
        )
        wait_until(
            self._ready,
            START_DEADLINE_S,
            what=f"RabbitMQ on port {self.port} (log in {self.folder})",
            every_s=0.1,
            ignoring=(httpx.HTTPError,),
        )

    def stop(self) -> None:
        if self._node is not None:
            self._node.stop()

    def kill(self) -> None:
        if self._node is not None:
            self._node.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def settle(self) -> None:
        """Make the node write down its tables, queues declared just now among them.

        RabbitMQ 3.10 keeps the registration of a new quorum queue in memory for half a second.
        Killed in that time it starts with a queue that exists, takes messages, and never
        answers. Call this between declaring and ``kill()``.
        """
        self.ctl("eval", "[dets:sync(Table) || Table <- dets:all()].")

    def close(self) -> None:
        """Ends the node and its epmd without ceremony: its data goes with the run."""
        self.vhosts.close()
        for child in (self._node, self._epmd):
            if child is not None:
                child.kill()

    def ctl(self, *arguments: str) -> str:
        """``rabbitmqctl`` against this node."""
        assert self._scripts is not None
        done = subprocess.run(
            [str(self._scripts / "rabbitmqctl"), "-q", *arguments],
            env=self._env(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    def _ready(self) -> bool:
        assert self._node is not None
        self._node.require_alive()
        return is_open(self.port) and self.vhosts.api.get("/api/overview").status_code == 200

    def _start_epmd(self) -> None:
        epmd = shutil.which("epmd") or "/usr/bin/epmd"
        # Our own epmd in the foreground: the one that Erlang would start outlives every node.
        self._epmd = ChildProcess(
            [epmd, "-port", str(self._epmd_port), "-address", "127.0.0.1"],
            log=self.folder / "epmd.out",
            env=self._env(),
        )
        wait_until(
            lambda: self._epmd and self._epmd.require_alive() and is_open(self._epmd_port),
            10,
            what="epmd",
        )

    def _write_config(self) -> None:
        for name in ("home", "log", "mnesia"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        cookie = self.folder / "home" / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        (self.folder / "enabled_plugins").write_text("[rabbitmq_management].\n")
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            "management.tcp.ip = 127.0.0.1\n"
            f"management.tcp.port = {self.management_port}\n"
            "management_agent.disable_metrics_collector = true\n"
            f"default_user = {self.user}\n"
            f"default_pass = {self.password}\n"
            "raft.wal_max_size_bytes = 33554432\n"
            "log.file = node.log\n"
        )

    def _env(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RABBITMQ_")}
        here = str(self.folder)
        return inherited | {
            "HOME": f"{here}/home",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_CONFIG_FILE": f"{here}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{here}/advanced.config",
            "RABBITMQ_CONF_ENV_FILE": f"{here}/no-such-env.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{here}/enabled_plugins",
            "RABBITMQ_MNESIA_BASE": f"{here}/mnesia",
            "RABBITMQ_LOG_BASE": f"{here}/log",
            "RABBITMQ_PID_FILE": f"{here}/node.pid",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "+S 2:2 -kernel inet_dist_use_interface {127,0,0,1}"
            ),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            # The script then becomes the Erlang VM instead of staying its parent: signals and
            # the parent-death signal reach the node itself.
            "RUNNING_UNDER_SYSTEMD": "true",
        }
