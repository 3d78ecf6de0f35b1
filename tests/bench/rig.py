"""What the figures are measured on: private servers and full stacks, gone at the end.

The servers live for the whole run. Every stack has a vhost, a database and a bucket of its own
unless it is given others, so that no figure is measured in what an earlier one left behind.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.bench import digits as _digits
from tests.bench.digits import Digits
from tests.support.caller import Caller
from tests.support.stack import FullStack, Servers, Services, private_servers
from tests.support.waiting import wait_until

MODEL = "digits"
LABELS = [str(digit) for digit in range(10)]
PER_REQUEST = 1_000


class WrongAnswers(AssertionError):
    """Forebay did not do the work it is measured for."""


@dataclass
class Rig:
    """Servers, the model, and stacks that can be started and stopped between measurements."""

    servers: Servers
    digits: Digits
    folder: Path
    quick: bool
    _starts: Iterator[int] = field(default_factory=itertools.count)

    @contextlib.contextmanager
    def stack(
        self,
        services: Services | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        model: bool = True,
    ) -> Iterator[FullStack]:
        """Everything running, the model pushed and loaded, one job through."""
        folder = self.folder / f"stack-{next(self._starts)}"
        stack = FullStack(folder, services or self.servers.services(), environment)
        try:
            stack.prepare()
            stack.start()
            if model:
                with stack.caller() as caller:
                    push(caller, self.digits)
            yield stack
        except BaseException:
            print(stack.logs())
            raise
        finally:
            stack.close()

    def bodies(self, jobs: int, **fields: Any) -> list[bytes]:
        """``jobs`` jobs as bodies of 1,000 each, made before the clock starts. Each body asks
        the same questions in the same order."""
        asked = [self.job(number, **fields) for number in range(min(PER_REQUEST, jobs))]
        body = json.dumps({"jobs": asked}).encode()
        return [body] * -(-jobs // PER_REQUEST)

    def job(self, index: int, **fields: Any) -> dict[str, Any]:
        """The ``index``-th question as a job."""
        return {"model": MODEL, "input": {"image": self.digits.question(index).image}, **fields}

    def check(self, caller: Caller, groups: list[str]) -> None:
        """Every job succeeded and says what the model itself says."""
        for group in groups:
            for index, line in enumerate(caller.results(group)):
                answer = line["result"] or {}
                if answer.get("label") != self.digits.question(index).label:
                    raise WrongAnswers(f"job {index} of group {group}: {line}")


@contextlib.contextmanager
def rig(folder: Path, *, quick: bool) -> Iterator[Rig]:
    """The rig, with everything it started ended afterwards."""
    made = _digits.make(folder / "digits")
    with private_servers() as servers:
        yield Rig(servers, made, folder, quick)


def tensorflow_environment() -> dict[str, str]:
    """For a process of the bench that holds TensorFlow, as the stack's own processes have it."""
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}


def push(
    caller: Caller, made: Digits, name: str = MODEL, options: Mapping[str, Any] | None = None
) -> None:
    """The digits model for this caller's tenant, loaded and warm."""
    push_model(caller, name, made.model, {"input": "image", "labels": LABELS, **(options or {})})
    caller.ask(name, {"image": made.question(0).image})


def push_model(caller: Caller, name: str, archive: Path, options: Mapping[str, Any]) -> None:
    """A version that a worker has found to be good."""
    pushed = caller.push(name, archive, options, expect=None)
    settled = caller.settle_version(name, pushed["version"], deadline_s=180)
    if settled["state"] != "ready":
        raise WrongAnswers(f"the model is {settled}")


def submit(caller: Caller, bodies: list[bytes]) -> list[str]:
    """Send prepared bodies; the groups."""
    groups = []
    for body in bodies:
        headers = {"content-type": "application/json"}
        answer = caller.http.post("/v1/jobs/many", content=body, headers=headers)
        if answer.status_code != 202:
            raise WrongAnswers(f"{answer.status_code}: {answer.text[:500]}")
        groups.append(answer.json()["group"])
    return [group if isinstance(group, str) else group["id"] for group in groups]


def finish(caller: Caller, groups: list[str], deadline_s: float = 300) -> None:
    """Wait for all of them."""
    for group in groups:
        caller.finish_group(group, deadline_s=deadline_s)


def warm_up(rig: Rig, caller: Caller, jobs: int = 8_000) -> None:
    """Work as heavy as what is measured: buckets, plans, connections and learned times settle.

    The second wave meets a worker that has learned from the first.
    """
    for _ in range(2):
        finish(caller, submit(caller, rig.bodies(1_000 if rig.quick else jobs // 2)))


def settle(stack: FullStack) -> None:
    """Until nothing is left to do of what was measured before."""
    wait_until(
        lambda: one(stack.services, "SELECT count(*) FROM live") == 0,
        180,
        what="the end of earlier work",
        every_s=0.2,
    )


def rows(services: Services, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """What the stack's database answers."""
    with psycopg.connect(plain_url(services.database_url)) as database:
        return database.execute(query, values).fetchall()


def one(services: Services, query: str, *values: Any) -> Any:
    """The only value of the only row."""
    return rows(services, query, *values)[0][0]


def plain_url(url: str) -> str:
    """The URL as libpq spells it, without SQLAlchemy's name of the driver."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)
