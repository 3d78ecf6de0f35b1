"""One stage for each module: its servers, and a stack that its faults share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.fault import Fault
from tests.faults.runner import play
from tests.faults.stage import Stage
from tests.support.postgres import Postgres
from tests.support.rabbitmq import RabbitMQ
from tests.support.s3 import S3
from tests.support.stack import Servers

# Shorter than an operator would have it: what is lost comes back soon. The bound stays.
SOON = {
    "FOREBAY_LEASE_TTL_S": "4",
    "FOREBAY_RENEW_EVERY_S": "1",
    "FOREBAY_SWEEP_EVERY_S": "1",
    "FOREBAY_PUBLISH_TTL_S": "4",
}
Survives = Callable[[Fault], None]


def name_of(fault: Fault) -> str:
    """As a test's parameter."""
    return fault.name.replace(",", "").replace(" ", "-")


@pytest.fixture(scope="module")
def stage(
    rabbitmq: RabbitMQ,
    postgres: Postgres,
    s3: S3,
    s3_bucket: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    made = Stage(tmp_path_factory.mktemp("stage"), Servers(rabbitmq, postgres, s3, s3_bucket), SOON)
    yield made
    made.drop()


@pytest.fixture
def survives(stage: Stage, tmp_path: Path) -> Survives:
    """Plays a fault once and wants nothing lost, doubled, crossed or stuck."""

    def check(fault: Fault) -> None:
        run = play(stage, fault, tmp_path / "run", stops=3)
        print(f"{fault.name}: recovered in {run.recovery_s:.1f} s; {run.evidence}")
        logs = tmp_path / "run" / "logs.txt"
        said = logs.read_text()[-8000:] if run.trouble and logs.exists() else ""
        assert run.good, "\n".join([*run.trouble, said])
        assert run.accepted >= fault.jobs

    return check
