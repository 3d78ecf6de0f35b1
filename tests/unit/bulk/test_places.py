"""The files of a bulk job: patterns and prefixes find what is there, nobody finds another's."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.objects import open_objects
from storage.records.errors import InvalidInput, NotFound, ObjectsUnavailable
from tests.support.household import Household
from tests.unit.workers.test_refs import upload
from workers.bulk import places as places_module
from workers.bulk.places import Places


@pytest.fixture
def house(tmp_path: Path) -> Household:
    return Household.on_sqlite(tmp_path)


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    folder = tmp_path / "listed"
    for name in ("b.csv", "a.csv", "c.txt", "deep/er/d.csv", "deep/e.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.fixture
def places(house: Household, listed: Path, tmp_path: Path) -> Places:
    (tmp_path / "out").mkdir()
    return Places(house.database, house.objects, [f"file://{listed}"], [f"file://{tmp_path}/out"])


def names(places: Places, uri: str, base: Path) -> list[str]:
    return [one.place.uri.removeprefix(f"file://{base}/") for one in places.expand("ayla", uri)]


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ("a.csv", ["a.csv"]),
        ("*.csv", ["a.csv", "b.csv"]),
        ("[b-z].*", ["b.csv", "c.txt"]),
        ("", ["a.csv", "b.csv", "c.txt", "deep/e.csv", "deep/er/d.csv"]),
        ("deep/", ["deep/e.csv", "deep/er/d.csv"]),
        ("**/*.csv", ["a.csv", "b.csv", "deep/e.csv", "deep/er/d.csv"]),
        ("deep/*/?.csv", ["deep/er/d.csv"]),
    ],
)
def test_an_address_names_its_files_in_order(
    places: Places, listed: Path, asked: str, named: list[str]
) -> None:
    assert names(places, f"file://{listed}/{asked}", listed) == named


def test_what_is_found_can_be_read_and_found_again(places: Places, listed: Path) -> None:
    for found in places.expand("ayla", f"file://{listed}/"):
        data = found.place.objects.get(found.place.key)
        assert len(data) == found.size_bytes and found.place.uri.endswith(data.decode())
        again = places.find("ayla", found.place.uri)
        assert (again.objects, again.key) == (found.place.objects, found.place.key)
        assert places.expand("ayla", found.place.uri) == [found]


def test_an_uploaded_file_has_its_own_name_and_one_owner(places: Places, house: Household) -> None:
    uri = upload(house, "ayla", b"hers")
    found = places.expand("ayla", uri)
    assert [one.size_bytes for one in found] == [4] and found[0].place.filename == "f"
    with pytest.raises(NotFound) as refused:
        places.expand("bora", uri)
    assert refused.value.stable_code == "input_not_found" and uri in str(refused.value)


def test_what_is_missing_is_named(places: Places, listed: Path) -> None:
    with pytest.raises(NotFound) as missing:
        places.expand("ayla", f"file://{listed}/none.csv")
    assert missing.value.stable_code == "input_not_found" and "none.csv" in str(missing.value)
    for asked in ("none/", "*.none", "none/**"):
        with pytest.raises(InvalidInput) as empty:
            places.expand("ayla", f"file://{listed}/{asked}")
        assert empty.value.stable_code == "input_empty" and asked in str(empty.value)


@pytest.mark.parametrize("uri", ["file:///etc/*", "s3://other/", "file:///etc/passwd", "*"])
def test_nothing_else_is_reached(places: Places, uri: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        places.expand("ayla", uri)
    assert refused.value.stable_code == "ref_not_allowed"


def test_links_lead_nowhere(places: Places, listed: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "s.csv").write_bytes(b"x")
    (listed / "link.csv").symlink_to(tmp_path / "secret" / "s.csv")
    (listed / "folder").symlink_to(tmp_path / "secret")
    (tmp_path / "out" / "folder").symlink_to(tmp_path / "secret")
    for asked in ("link.csv", "folder/s.csv", "folder/", "folder/*"):
        with pytest.raises((InvalidInput, NotFound)):
            places.expand("ayla", f"file://{listed}/{asked}")
    assert "link.csv" not in names(places, f"file://{listed}/**", listed)
    with pytest.raises(InvalidInput) as refused:
        places.output(f"file://{tmp_path}/out/folder/run")
    assert refused.value.stable_code == "output_not_allowed"


def test_too_many_files_are_refused_before_all_are_listed(
    places: Places, listed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places_module, "MAX_FILES", 4)
    with pytest.raises(InvalidInput) as refused:
        places.expand("ayla", f"file://{listed}/")
    assert refused.value.stable_code == "too_many_files"
    assert len(places.expand("ayla", f"file://{listed}/**/*.csv")) == 4


def test_a_name_that_no_address_can_have_is_told_rather_than_left_out(
    places: Places, listed: Path
) -> None:
    (listed / "50%.csv").write_bytes(b"x")
    with pytest.raises(InvalidInput, match="50%"):
        places.expand("ayla", f"file://{listed}/*.csv")


def test_an_output_is_a_folder_below_its_prefix(places: Places, tmp_path: Path) -> None:
    place = places.output(f"file://{tmp_path}/out/runs/1/")
    assert place.key == "runs/1" and place.uri == f"file://{tmp_path}/out/runs/1"
    place.objects.put(f"{place.key}/part", b"x")
    assert (tmp_path / "out" / "runs" / "1" / "part").read_bytes() == b"x"
    for refused in (f"file://{tmp_path}/out", f"file://{tmp_path}/other/x", "s3://a/b/c"):
        with pytest.raises(InvalidInput):
            places.output(refused)


def test_storage_that_is_away_is_not_a_missing_file(house: Household, listed: Path) -> None:
    class Away:
        def info(self, key: str) -> None:
            raise ObjectsUnavailable("away")

        list = info

    places = Places(
        house.database,
        house.objects,
        [f"file://{listed}"],
        [],
        open_prefix=lambda _: Away(),  # type: ignore[arg-type, return-value]
    )
    for asked in ("a.csv", "*.csv"):
        with pytest.raises(ObjectsUnavailable):
            places.expand("ayla", f"file://{listed}/{asked}")


def test_a_store_is_opened_once(house: Household, listed: Path) -> None:
    opened: list[str] = []

    def open_prefix(url: str) -> object:
        opened.append(url)
        return open_objects(url)

    places = Places(
        house.database,
        house.objects,
        [f"file://{listed}"],
        [],
        open_prefix=open_prefix,  # type: ignore[arg-type]
    )
    for asked in ("a.csv", "*.csv", ""):
        places.expand("ayla", f"file://{listed}/{asked}")
    assert opened == [f"file://{listed}"]
