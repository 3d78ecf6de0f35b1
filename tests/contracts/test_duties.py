"""Every background duty keeps one shape: frozen settings with a word on each, one bounded run,
counts, and nothing to do where nothing is due. On both databases."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.database import Database
from storage.objects import Objects, open_objects
from workers.keeper.duty import Duty, as_fields
from workers.keeper.loop import standard_duties

DUTIES = {duty.name: duty for duty in standard_duties()}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = (
        f"sqlite:///{tmp_path}/forebay.db"
        if request.param == "sqlite"
        else request.getfixturevalue("postgres_database_url")
    )
    database = Database.open(url)
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return open_objects(f"file://{tmp_path}/objects")


@pytest.mark.parametrize("name", DUTIES)
def test_where_nothing_is_due_nothing_is_done(
    name: str, database: Database, objects: Objects
) -> None:
    counts = DUTIES[name].run_once(database, objects)
    assert set(as_fields(counts).values()) == {0}
    assert not counts.more


@pytest.mark.parametrize("name", DUTIES)
def test_settings_are_frozen_and_each_has_a_word_on_it(name: str) -> None:
    config = DUTIES[name].config
    assert dataclasses.is_dataclass(config)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.every_s = 1.0  # type: ignore[misc]
    source = inspect.getsource(type(config))
    for one in dataclasses.fields(config):
        (line,) = (text for text in source.splitlines() if text.strip().startswith(f"{one.name}:"))
        assert "#" in line and len(line.partition("#")[2].strip()) > 10


@pytest.mark.parametrize("name", DUTIES)
def test_each_has_a_file_of_its_own_that_says_what_it_is_for(name: str) -> None:
    module = inspect.getmodule(type(DUTIES[name]))
    assert module is not None and module.__name__ == f"workers.keeper.{name}"
    assert module.__doc__ and len(module.__doc__.splitlines()) > 2


def test_names_are_unique() -> None:
    duties: list[Duty] = list(standard_duties())
    assert len({duty.name for duty in duties}) == len(duties)
