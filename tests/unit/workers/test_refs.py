"""References: the tenant's own files and listed prefixes, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.objects import open_objects
from storage.records.errors import InvalidInput, NotFound, ObjectsUnavailable, TooLarge
from tests.support.household import Household, new_id
from workers.inference.refs import RefReader, RefUnavailable


@pytest.fixture
def house(tmp_path: Path) -> Household:
    return Household.on_sqlite(tmp_path)


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    folder = tmp_path / "listed"
    folder.mkdir()
    (folder / "one.json").write_bytes(b"one")
    return folder


@pytest.fixture
def reader(house: Household, listed: Path) -> RefReader:
    return RefReader(house.database, house.objects, [f"file://{listed}/"], max_bytes=10)


def upload(house: Household, tenant: str, data: bytes) -> str:
    file_id = new_id()
    key = f"files/{tenant}/{file_id}"
    house.objects.put(key, data)
    with house.database.begin() as tx:
        tx.tenants.ensure(tenant)
        tx.files.add(
            tenant,
            id=file_id,
            filename="f",
            content_type="text/plain",
            object_key=key,
            size_bytes=len(data),
            digest="0" * 64,
        )
    return f"forebay://files/{file_id}"


def test_a_tenant_reads_its_own_files_and_no_other_s(house: Household, reader: RefReader) -> None:
    uri = upload(house, "ayla", b"hers")
    assert reader.read("ayla", uri) == b"hers"
    with pytest.raises(NotFound):
        reader.read("bora", uri)


def test_a_listed_prefix_is_read(reader: RefReader, listed: Path) -> None:
    assert reader.read("ayla", f"file://{listed}/one.json") == b"one"
    with pytest.raises(NotFound):
        reader.read("ayla", f"file://{listed}/none.json")


@pytest.mark.parametrize("uri", ["file:///etc/passwd", "s3://other/key", "http://127.0.0.1/", "x"])
def test_nothing_else_is(reader: RefReader, uri: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        reader.read("ayla", uri)
    assert refused.value.stable_code == "ref_not_allowed"


def test_a_link_out_of_the_prefix_is_not_followed(reader: RefReader, listed: Path) -> None:
    (listed / "link.json").symlink_to("/etc/passwd")
    with pytest.raises((InvalidInput, NotFound)):
        reader.read("ayla", f"file://{listed}/link.json")


def test_what_is_too_large_is_not_read(house: Household, reader: RefReader) -> None:
    with pytest.raises(TooLarge):
        reader.read("ayla", upload(house, "ayla", b"x" * 11))


def test_a_listed_prefix_that_is_away_is_nobody_s_fault_and_not_our_storage_s(
    house: Household, listed: Path
) -> None:
    class Away:
        def size(self, key: str) -> int:
            raise ObjectsUnavailable("away")

    reader = RefReader(
        house.database,
        house.objects,
        [f"file://{listed}/"],
        max_bytes=10,
        open_prefix=lambda _: Away(),  # type: ignore[arg-type, return-value]
    )
    with pytest.raises(RefUnavailable):
        reader.read("ayla", f"file://{listed}/one.json")


def test_our_own_storage_that_is_away_is_told_apart(house: Household, reader: RefReader) -> None:
    uri = upload(house, "ayla", b"hers")

    class Away:
        def size(self, key: str) -> int:
            raise ObjectsUnavailable("away")

    reader._objects = Away()  # type: ignore[assignment]
    with pytest.raises(ObjectsUnavailable):
        reader.read("ayla", uri)


def test_the_store_of_a_prefix_is_opened_once(house: Household, listed: Path) -> None:
    opened: list[str] = []

    def open_prefix(url: str) -> object:
        opened.append(url)
        return open_objects(url)

    reader = RefReader(
        house.database,
        house.objects,
        [f"file://{listed}/"],
        max_bytes=10,
        open_prefix=open_prefix,  # type: ignore[arg-type]
    )
    for _ in range(3):
        reader.read("ayla", f"file://{listed}/one.json")
    assert len(opened) == 1
