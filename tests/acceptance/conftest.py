"""The promises, kept in two modes by the same tests.

One stack per mode serves every test of the mode: TensorFlow takes seconds to import. A test that
kills a part starts it again; the next test finds everything running or says so.
"""

from __future__ import annotations

import random
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import zoo as _zoo
from tests.support.bulk_desk import Desk, Shelves, shelves
from tests.support.bulk_files import parquet, vectors
from tests.support.caller import Caller, tensor
from tests.support.s3 import SEALED, Buckets
from tests.support.stack import EmbeddedStack, FullStack, Services, Stack
from tests.support.zoo import Zoo

MAX_MODELS = 8  # fewer than there are in all: versions take turns
# Shorter than an operator would have it, so that a killed worker's jobs come back soon.
ENVIRONMENT = {
    "FOREBAY_WORKER_MAX_MODELS": str(MAX_MODELS),
    "FOREBAY_WORKER_LEASE_TTL_S": "6",
    "FOREBAY_WORKER_RENEW_EVERY_S": "1.5",
    "FOREBAY_SWEEP_EVERY_S": "1",
    "FOREBAY_WEBHOOK_ALLOW": "127.0.0.1:*",  # where the tests' receivers are
}
GREY = ("dark", "bright")


@pytest.fixture(scope="session")
def zoo() -> Zoo:
    return _zoo.make()


@pytest.fixture(scope="package", params=["embedded", "full"])
def stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A running Forebay; ``@pytest.mark.parametrize("stack", ["full"], indirect=True)`` for one."""
    folder = tmp_path_factory.mktemp(request.param)
    built: Stack
    if request.param == "embedded":
        sealed = request.getfixturevalue("sealed_folder")
        built = EmbeddedStack(folder, {**ENVIRONMENT, **_folders(folder, sealed)})
    else:
        vhosts, databases, buckets = (
            request.getfixturevalue(name) for name in ("vhosts", "databases", "buckets")
        )
        services = Services(vhosts, databases, buckets)
        built = FullStack(folder, services, {**ENVIRONMENT, **_buckets(buckets)})
    try:
        built.prepare()
        built.start()
        yield built
    finally:
        built.close()


@pytest.fixture(scope="package")
def sealed_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | None]:
    """A folder in which nobody can write, root neither; None where none can be had."""
    folder = tmp_path_factory.mktemp("sealed")
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "sealed", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


def _folders(folder: Path, sealed: Path | None) -> dict[str, str]:
    """Where bulk jobs may read and write."""
    for name in ("in", "both", "out"):
        (folder / "bulk" / name).mkdir(parents=True)
    base = f"file://{folder}/bulk"
    writes = [f"{base}/out", f"{base}/both", *([f"file://{sealed}"] if sealed else [])]
    return _prefixes([f"{base}/in", f"{base}/both"], writes)


def _buckets(buckets: Buckets) -> dict[str, str]:
    """The same in a bucket; the service's own keys do not let it write everywhere."""
    base = f"s3://{buckets.create()}"
    writes = [f"{base}/out", f"{base}/both"]
    if buckets.guest is not None:
        writes.append(f"s3://{buckets.create(SEALED)}")
    return {**buckets.guest_env(), **_prefixes([f"{base}/in", f"{base}/both"], writes)}


def _prefixes(reads: Sequence[str], writes: Sequence[str]) -> dict[str, str]:
    return {
        "FOREBAY_REF_PREFIXES": ",".join(reads),
        "FOREBAY_OUTPUT_PREFIXES": ",".join(writes),
    }


@pytest.fixture(scope="package")
def bulk_shelves(stack: Stack, request: pytest.FixtureRequest) -> Shelves:
    """What is listed for bulk jobs, by keys that may do everything."""
    seen_by: dict[str, str] = {}
    if stack.mode == "full":
        seen_by = request.getfixturevalue("buckets").env()
    return shelves(stack.environment, seen_by)


@pytest.fixture
def desk(caller: Caller, bulk_shelves: Shelves, request: pytest.FixtureRequest) -> Iterator[Desk]:
    """The default tenant's bulk jobs, with files of this test alone."""
    desk = Desk(caller, bulk_shelves, f"{request.node.originalname}-{uuid.uuid4().hex[:8]}")
    yield desk
    desk.clear()


@pytest.fixture(scope="package")
def models(stack: Stack, zoo: Zoo) -> None:
    """The zoo, pushed for the default tenant and loaded by a worker."""
    with stack.caller() as caller:
        push_zoo(caller, zoo)


@dataclass(frozen=True)
class Tenants:
    """Two tenants with keys; each has an ``echo`` and a ``slow_echo`` of its own."""

    a: Caller
    b: Caller
    a_key: str
    b_key: str


@pytest.fixture(scope="package")
def tenants(stack: Stack, zoo: Zoo) -> Iterator[Tenants]:
    a_key, b_key = stack.new_key("ayla"), stack.new_key("bora")
    with stack.caller(a_key) as a, stack.caller(b_key) as b:
        for caller in (a, b):
            for name, archive in (("echo", zoo.echo), ("slow_echo", zoo.slow_echo)):
                serve(caller, caller.push(name, archive), tensor(1, 1))
        yield Tenants(a, b, a_key, b_key)


@pytest.fixture
def caller(stack: Stack, models: None) -> Iterator[Caller]:
    """A caller without a key, on loopback: tenant ``default``, to whom the zoo belongs."""
    with stack.caller() as caller:
        yield caller


@pytest.fixture
def rng() -> random.Random:
    """Chance with a printed seed."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed: {seed}")
    return random.Random(seed)


@pytest.fixture(autouse=True)
def everything_runs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test leaves all parts of its stack running and ready."""
    yield
    if "stack" in request.fixturenames:
        request.getfixturevalue("stack").wait_ready()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A failure shows the end of the stack's logs."""
    report = yield
    stack = getattr(item, "funcargs", {}).get("stack")
    if report.failed and isinstance(stack, Stack):
        report.sections.append((f"logs of the {stack.mode} stack", stack.logs()))
    return report


def serve(caller: Caller, version: dict[str, Any], question: dict[str, Any]) -> None:
    """Have a version loaded at once: one that is only pushed lets recently used ones stay."""
    caller.ask(f"{version['name']}:{version['version']}", question)
    assert caller.version(version["name"], version["version"])["state"] == "ready"


def push_zoo(caller: Caller, zoo: Zoo) -> None:
    """Every model under its own name."""
    pushed = [
        caller.push("echo", zoo.echo),
        caller.push("slow_echo", zoo.slow_echo),
        caller.push("pair", zoo.pair),
        caller.push("picture", zoo.picture, {"input": "image", "labels": list(GREY)}),
        caller.push("text", zoo.text, {"input": "text"}),
    ]
    for version in pushed:
        settled = caller.settle_version(version["name"], version["version"])
        assert settled["state"] == "ready", settled


def slow_files(desk: Desk, files: int, rows: int, folder: str = "slow") -> dict[str, Any]:
    """A bulk input for ``slow_echo``: so many shards, as each file is one; columns are the model's
    ``question`` and ``id``, which counts all rows."""
    for file in range(files):
        numbers = range(file * rows, (file + 1) * rows)
        data = parquet({"id": list(numbers), "question": vectors(numbers)})
        desk.input.write(f"{folder}/{file:02}.parquet", data)
    return {"uri": desk.input.uri(f"{folder}/*.parquet")}
