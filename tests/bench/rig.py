"""What the figures are measured on: private services and a full stack, gone at the end."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench import digits as _digits
from tests.bench.digits import Digits
from tests.support.caller import Caller
from tests.support.stack import FullStack, Services, private_services

MODEL = "digits"
LABELS = [str(digit) for digit in range(10)]
PER_REQUEST = 1_000


class WrongAnswers(AssertionError):
    """Forebay did not do the work it is measured for."""


@dataclass
class Rig:
    """Services, the model, and a stack that can be started and stopped between measurements."""

    services: Services
    digits: Digits
    folder: Path
    quick: bool
    _starts: Iterator[int] = field(default_factory=itertools.count)

    @contextlib.contextmanager
    def stack(self) -> Iterator[FullStack]:
        """Everything running, the model pushed and loaded, one job through."""
        stack = FullStack(self.folder / f"stack-{next(self._starts)}", self.services)
        try:
            stack.prepare()
            stack.start()
            with stack.caller() as caller:
                push(caller, self.digits)
            yield stack
        except BaseException:
            print(stack.logs())
            raise
        finally:
            stack.close()

    def bodies(self, jobs: int) -> list[bytes]:
        """``jobs`` jobs as bodies of 1,000 each, made before the clock starts."""
        return [
            json.dumps(
                {"jobs": [self.job(n) for n in range(at, min(at + PER_REQUEST, jobs))]}
            ).encode()
            for at in range(0, jobs, PER_REQUEST)
        ]

    def job(self, index: int) -> dict[str, Any]:
        """The ``index``-th question as a job."""
        return {"model": MODEL, "input": {"image": self.digits.question(index).image}}

    def check(self, caller: Caller, groups: list[str]) -> None:
        """Every job succeeded and says what the model itself says."""
        lines = [line for group in groups for line in caller.results(group)]
        for index, line in enumerate(lines):
            answer = line["result"] or {}
            if answer.get("label") != self.digits.question(index).label:
                raise WrongAnswers(f"job {index}: {line}")


@contextlib.contextmanager
def rig(folder: Path, *, quick: bool) -> Iterator[Rig]:
    """The rig, with everything it started ended afterwards."""
    made = _digits.make(folder / "digits")
    with private_services() as services:
        yield Rig(services, made, folder, quick)


def push(caller: Caller, made: Digits) -> None:
    """The digits model for this caller's tenant, loaded and warm."""
    pushed = caller.push(MODEL, made.model, {"input": "image", "labels": LABELS}, expect=None)
    settled = caller.settle_version(MODEL, pushed["version"], deadline_s=120)
    if settled["state"] != "ready":
        raise WrongAnswers(f"the model is {settled}")
    caller.ask(MODEL, {"image": made.question(0).image})


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
