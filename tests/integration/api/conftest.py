"""The service over both sets of parts; the same tests must pass on either."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from storage.database import Database
from storage.objects import open_objects
from tests.support.api import ApiHouse

MODES = ("embedded", "full")


@pytest.fixture(params=MODES)
def quiet_house(request, tmp_path) -> Iterator[ApiHouse]:
    """The parts, the service not yet started."""
    if request.param == "embedded":
        database = Database.open(f"sqlite:///{tmp_path}/forebay.db")
        objects = open_objects(f"file://{tmp_path}/objects")
    else:
        database = Database.open(request.getfixturevalue("postgres_database_url"))
        objects = open_objects(request.getfixturevalue("s3_objects_url"))
    database.migrate()
    with database.begin() as tx:
        tx.tenants.ensure("default")
    house = ApiHouse(request.param, database, objects, tmp_path)
    yield house
    database.close()
    objects.close()


@pytest.fixture
def house(quiet_house) -> Iterator[ApiHouse]:
    """The service, listening, with one model ``vectors`` (four numbers)."""
    quiet_house.push()
    quiet_house.start()
    yield quiet_house
    quiet_house.stop()
