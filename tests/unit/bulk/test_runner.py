"""A runner never keeps a shard that it does not work on: else nobody would, as long as it lives."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from storage.records.bulk import ClaimedShard
from storage.records.errors import InvalidInput, Unavailable
from workers.bulk.kit import Failed, Kit
from workers.bulk.runner import Runner

SESSION = "session"
SHARD = ClaimedShard("job", "ayla", 3, 0, 0, 10, 1, 0, "version", 2, 0)


class Household:
    """A database with one open shard, and a session; stops the runner when it has let go."""

    def __init__(self) -> None:
        self.commits_fail: set[str] = set()  # verbs, after which the answer is lost
        self.verbs: list[str] = []
        self.retired: list[str] = []
        self.given_back: list[tuple[str, int, int]] = []
        self.tripped: list[BaseException] = []
        sessions = SimpleNamespace(
            wait_current=lambda _: SESSION,
            is_live=lambda _: True,
            retire=self.retired.append,
        )
        gate = SimpleNamespace(wait_open=lambda _: True, trip=self.tripped.append)
        self.kit = cast(
            Kit,
            SimpleNamespace(
                database=self,
                parts=SimpleNamespace(gate=gate, sessions=sessions),
                pool="default",
                hurry=threading.Event(),
                stopping=lambda: bool(self.retired or self.given_back or len(self.verbs) > 20),
            ),
        )

    @contextlib.contextmanager
    def read(self) -> Iterator[Any]:
        yield SimpleNamespace(bulk=self)

    @contextlib.contextmanager
    def begin(self, *, lasting: bool = True) -> Iterator[Any]:
        before = len(self.verbs)
        yield SimpleNamespace(bulk=self)
        if self.commits_fail & set(self.verbs[before:]):
            raise Unavailable("nobody answers", code="database_unavailable")

    def work_waits(self, pool: str) -> bool:
        return True

    def claim(self, session_id: str, pool: str) -> ClaimedShard | None:
        self.verbs.append("claim")
        return SHARD

    def fail(self, job_id: str, error: object) -> bool:
        self.verbs.append("fail")
        return True

    def release(self, session_id: str, keys: list[tuple[str, int, int]]) -> int:
        self.verbs.append("release")
        if "release" not in self.commits_fail:
            self.given_back += keys
        return len(keys)


@pytest.fixture
def house() -> Household:
    return Household()


def run(house: Household, trouble: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """One turn, of a shard that cannot be scored for this reason."""

    def refuse(self: Runner, shard: ClaimedShard) -> None:
        raise trouble

    monkeypatch.setattr(Runner, "_of", refuse)
    house.kit.hurry.set()  # no pauses
    Runner(house.kit).run(0)


FAILED = Failed(InvalidInput("no such column", code="unknown_column"))


def test_a_claim_whose_answer_is_lost_ends_the_session(house, monkeypatch):
    house.commits_fail = {"claim"}
    run(house, FAILED, monkeypatch)
    assert house.retired == [SESSION]
    assert house.tripped


@pytest.mark.parametrize("trouble", [FAILED, RuntimeError("a fault of ours"), OSError("no disk")])
def test_what_cannot_be_scored_is_given_back(house, monkeypatch, trouble):
    run(house, trouble, monkeypatch)
    assert house.given_back == [SHARD.key]
    assert not house.retired


def test_it_is_given_back_also_when_the_reason_cannot_be_told(house, monkeypatch):
    house.commits_fail = {"fail"}
    run(house, FAILED, monkeypatch)
    assert house.given_back == [SHARD.key]


def test_the_session_ends_when_it_cannot_be_given_back(house, monkeypatch):
    house.commits_fail = {"fail", "release"}
    run(house, FAILED, monkeypatch)
    assert house.retired == [SESSION]
