"""The services as fixtures: started once a session on first use, stopped whatever happens.

Existing services are used instead when these are set (a service that tests kill must be ours,
so such tests ask for ``rabbitmq``, ``postgres`` or ``s3`` and fail with a clear message then):

- ``FOREBAY_TEST_BROKER_URL`` with ``FOREBAY_TEST_BROKER_MANAGEMENT_URL`` (for vhosts)
- ``FOREBAY_TEST_DATABASE_URL`` (its user may create databases)
- ``FOREBAY_TEST_S3_ENDPOINT_URL``, ``FOREBAY_TEST_S3_ACCESS_KEY``, ``FOREBAY_TEST_S3_SECRET_KEY``

A missing service fails the suite; ``FOREBAY_TEST_ALLOW_MISSING=1`` turns that into skips, except
in CI.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

import pytest

from tests.support import postgres as _postgres
from tests.support import rabbitmq as _rabbitmq
from tests.support import s3 as _s3
from tests.support.loopback import LoopbackGuard, host_of

GIVEN = {
    name: os.environ.get(f"FOREBAY_TEST_{name}", "")
    for name in (
        "BROKER_URL",
        "BROKER_MANAGEMENT_URL",
        "DATABASE_URL",
        "S3_ENDPOINT_URL",
        "S3_ACCESS_KEY",
        "S3_SECRET_KEY",
    )
}


class Service(Protocol):
    def start(self) -> None: ...
    def close(self) -> None: ...


S = TypeVar("S", bound=Service)


def missing(why: str) -> NoReturn:
    """Fail, or skip where a developer said that this is fine."""
    in_ci = os.environ.get("CI", "").lower() in ("1", "true", "yes")
    if os.environ.get("FOREBAY_TEST_ALLOW_MISSING") == "1" and not in_ci:
        pytest.skip(why)
    pytest.fail(f"{why}. FOREBAY_TEST_ALLOW_MISSING=1 skips these tests outside CI.", pytrace=False)


def _private(kind: Callable[[Path], S], folder: Path) -> Iterator[S]:
    folder.mkdir()
    try:
        service = kind(folder)
    except FileNotFoundError as error:
        missing(str(error))
    try:
        service.start()
        yield service
    finally:
        service.close()


def _refuse_if_given(*names: str) -> None:
    for name in names:
        if GIVEN[name]:
            missing(f"this test stops or kills its service; unset FOREBAY_TEST_{name}")


@pytest.fixture(scope="session")
def services_folder() -> Iterator[Path]:
    """A folder for the services' data; those of runs that were killed are removed first."""
    base = Path(tempfile.gettempdir())
    for old in base.glob("forebay-services-*"):
        with contextlib.suppress(OSError):
            lock = os.open(old / "lock", os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old, ignore_errors=True)
            finally:
                os.close(lock)
    folder = Path(tempfile.mkdtemp(prefix="forebay-services-"))
    folder.chmod(0o711)  # PostgreSQL runs as nobody when we are root, and must walk through
    # Locked before it has its name: another process that starts now would take the folder for old.
    lock = os.open(folder / "unlocked", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX)
    (folder / "unlocked").rename(folder / "lock")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


@pytest.fixture(scope="session")
def rabbitmq(services_folder: Path) -> Iterator[_rabbitmq.RabbitMQ]:
    """Our own node. A test that stops it starts it again before it ends."""
    _refuse_if_given("BROKER_URL")
    yield from _private(_rabbitmq.RabbitMQ, services_folder / "rabbitmq")


@pytest.fixture(scope="session")
def postgres(services_folder: Path) -> Iterator[_postgres.Postgres]:
    """Our own server. A test that stops it starts it again before it ends."""
    _refuse_if_given("DATABASE_URL")
    yield from _private(_postgres.Postgres, services_folder / "postgres")


@pytest.fixture(scope="session")
def s3(services_folder: Path) -> Iterator[_s3.S3]:
    """Our own server. A test that stops it starts it again before it ends."""
    _refuse_if_given("S3_ENDPOINT_URL")
    yield from _private(_s3.S3, services_folder / "s3")


@pytest.fixture(scope="session")
def vhosts(request: pytest.FixtureRequest) -> Iterator[_rabbitmq.Vhosts]:
    """Vhosts on the given broker or on our own."""
    if not GIVEN["BROKER_URL"]:
        yield request.getfixturevalue("rabbitmq").vhosts
        return
    if not GIVEN["BROKER_MANAGEMENT_URL"]:
        missing("FOREBAY_TEST_BROKER_URL needs FOREBAY_TEST_BROKER_MANAGEMENT_URL beside it")
    given = _rabbitmq.Vhosts(GIVEN["BROKER_URL"], GIVEN["BROKER_MANAGEMENT_URL"])
    yield given
    given.close()


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest) -> _postgres.Databases:
    """Databases on the given server or on our own."""
    if GIVEN["DATABASE_URL"]:
        return _postgres.Databases(GIVEN["DATABASE_URL"])
    return request.getfixturevalue("postgres").databases


@pytest.fixture(scope="session")
def buckets(request: pytest.FixtureRequest) -> _s3.Buckets:
    """Buckets on the given server or on our own."""
    if GIVEN["S3_ENDPOINT_URL"]:
        return _s3.Buckets(GIVEN["S3_ENDPOINT_URL"], GIVEN["S3_ACCESS_KEY"], GIVEN["S3_SECRET_KEY"])
    return request.getfixturevalue("s3").buckets


@pytest.fixture
def broker_url(vhosts: _rabbitmq.Vhosts) -> Iterator[str]:
    """A RabbitMQ vhost of this test's own, without queues."""
    vhost = vhosts.create()
    yield vhosts.url(vhost)
    vhosts.drop(vhost)


@pytest.fixture
def postgres_database_url(databases: _postgres.Databases) -> Iterator[str]:
    """A PostgreSQL database of this test's own, empty."""
    name = databases.create()
    yield databases.url(name)
    with contextlib.suppress(Exception):  # the test may have left the server dead
        databases.drop(name)


@pytest.fixture(scope="session")
def s3_bucket(buckets: _s3.Buckets) -> str:
    """One bucket for the session: making one costs the server a volume."""
    return buckets.create()


@pytest.fixture
def s3_env(buckets: _s3.Buckets, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """boto3's variables, set in this process while the test runs; pass them to subprocesses."""
    env = buckets.env()
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env


@pytest.fixture
def s3_objects_url(s3_bucket: str, s3_env: dict[str, str], request: pytest.FixtureRequest) -> str:
    """``s3://bucket/prefix`` under a prefix of this test's own, with AWS_* set to reach it."""
    return f"s3://{s3_bucket}/{os.urandom(8).hex()}"


@pytest.fixture(scope="session", autouse=True)
def loopback_guard() -> Iterator[LoopbackGuard]:
    """No test reaches outside loopback (services you pointed at excepted)."""
    hosts = (host_of(GIVEN[name]) for name in GIVEN if name.endswith("_URL"))
    guard = LoopbackGuard(allowed=[host for host in hosts if host])
    guard.install()
    try:
        yield guard
    finally:
        guard.uninstall()


@pytest.fixture(autouse=True)
def stays_on_loopback(loopback_guard: LoopbackGuard) -> Iterator[None]:
    """Fails the test that tried to leave, even if the code under test swallowed the refusal."""
    loopback_guard.take_refused()
    yield
    refused = loopback_guard.take_refused()
    assert not refused, f"this test tried to leave the machine: {refused}"
