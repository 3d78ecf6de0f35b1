"""A database whose clock can be moved, a receiver, and the duty between them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.database import Database
from storage.objects import Objects, open_objects
from tests.integration.webhooks.post import MovingClock, Post
from tests.support.database import emptied, migrated_postgres_url, sqlite_url  # noqa: F401
from tests.support.receiver import Receiver, receiving


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, clock: MovingClock) -> Iterator[Database]:
    """An empty database on each engine in turn."""
    if request.param == "sqlite":
        opened = Database.open(request.getfixturevalue("sqlite_url"), clock=clock)
        opened.migrate()
    else:
        url = request.getfixturevalue("migrated_postgres_url")
        opened = emptied(Database.open(url, clock=clock))
    yield opened
    opened.close()


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return open_objects(f"file://{tmp_path}/objects")


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with receiving(log=tmp_path / "received.jsonl") as found:
        yield found


@pytest.fixture
def post(database: Database, objects: Objects) -> Iterator[Post]:
    made = Post(database, objects)
    yield made
    for duty in made.made:
        with contextlib.suppress(Exception):
            duty.close(database)
