"""A pushed archive is refused for what its zip is, before anything in it is believed."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.records.errors import InvalidInput
from storage.records.keras_archive import ArchiveLimits, inspect_archive
from storage.records.signatures import InputSpec
from tests.support.archives import HDF5, archive, input_layer, layer, sequential

SOUND = sequential(input_layer("x", [None, 4]), layer("Dense", name="d", units=2))


def code_of(file: io.BytesIO, limits: ArchiveLimits | None = None) -> str:
    with pytest.raises(InvalidInput) as caught:
        inspect_archive(file, limits)
    assert caught.value.field == "file"
    return caught.value.stable_code


def test_a_sound_archive_tells_its_inputs() -> None:
    report = inspect_archive(archive(SOUND))
    assert report.inputs == (InputSpec("x", "float32", (4,)),)
    assert report.classes == {"Sequential", "InputLayer", "Dense"}
    assert not report.rescales_itself


def test_a_rescaling_layer_is_noticed() -> None:
    config = sequential(input_layer(), layer("Rescaling", name="r", scale=1.0))
    assert inspect_archive(archive(config)).rescales_itself


@pytest.mark.parametrize(
    "data", [b"", b"not a zip", b"PK\x03\x04" + bytes(40), b"\x89HDF\r\n\x1a\n" + bytes(500)]
)
def test_what_is_no_zip_is_no_archive(data: bytes) -> None:
    assert code_of(io.BytesIO(data)) == "not_an_archive"


def test_a_cut_off_archive_is_no_archive() -> None:
    whole = archive(SOUND).getvalue()
    for length in range(0, len(whole), 37):
        assert code_of(io.BytesIO(whole[:length])) == "not_an_archive"


@pytest.mark.parametrize("missing", ["config.json", "model.weights.h5"])
def test_a_zip_of_something_else_is_refused(missing: str) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, data in (("config.json", b"{}"), ("model.weights.h5", HDF5)):
            if name != missing:
                file.writestr(name, data)
    assert code_of(out) == "bad_archive"


@pytest.mark.parametrize(
    "name",
    [
        "../evil.txt",
        "assets/../../etc/passwd",
        "/etc/passwd",
        "assets/layer/vocabulary.txt/../x",
        "evil.py",
        "model.weights.npz",
        "assets/layers/tv/vocabulary.exe",
        "assets\\..\\x",
        "assets//vocabulary.txt",
        "CONFIG.JSON",
    ],
)
def test_names_that_keras_does_not_write_are_refused(name: str) -> None:
    assert code_of(archive(SOUND, entries={name: b"x"})) == "bad_archive"


def test_a_vocabulary_is_a_known_asset() -> None:
    entries = {"assets/": b"", "assets/layers/text_vectorization/vocabulary.txt": b"a\nb\n"}
    assert inspect_archive(archive(SOUND, entries=entries)).inputs


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name_are_refused() -> None:
    assert code_of(archive(SOUND, entries={"config.json": b"{}"})) == "bad_archive"


def test_an_encrypted_entry_is_refused() -> None:
    data = bytearray(archive(SOUND).getvalue())
    central = data.rindex(b"PK\x01\x02")
    data[central + 8] |= 1
    assert code_of(io.BytesIO(bytes(data))) == "bad_archive"


def test_a_link_is_refused() -> None:
    out = archive(SOUND)
    with zipfile.ZipFile(out, "a") as file:
        entry = zipfile.ZipInfo("assets/l/vocabulary.txt")
        entry.external_attr = 0o120777 << 16
        file.writestr(entry, "/etc/passwd")
    assert code_of(out) == "bad_archive"


def test_an_unusual_compression_is_refused() -> None:
    assert code_of(archive(SOUND, compression=zipfile.ZIP_LZMA)) == "bad_archive"


def test_ordinary_compression_is_taken() -> None:
    assert inspect_archive(archive(SOUND, compression=zipfile.ZIP_DEFLATED)).inputs


def test_an_archive_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = archive(SOUND, weights=HDF5 + bytes(64 << 20), compression=zipfile.ZIP_DEFLATED)
    assert len(bomb.getvalue()) < 100_000
    assert code_of(bomb) == "archive_bomb"


def test_the_sum_of_all_entries_is_bounded() -> None:
    limits = ArchiveLimits(max_total_bytes=10_000)
    assert code_of(archive(SOUND, weights=HDF5 + bytes(20_000)), limits) == "archive_bomb"


def test_the_number_of_entries_is_bounded() -> None:
    entries = {f"assets/layer_{i}/vocabulary.txt": b"x" for i in range(20)}
    assert code_of(archive(SOUND, entries=entries), ArchiveLimits(max_entries=10)) == "archive_bomb"


def test_a_huge_configuration_is_a_bomb() -> None:
    limits = ArchiveLimits(max_config_bytes=100)
    assert code_of(archive(SOUND), limits) == "archive_bomb"


def test_entries_that_share_their_bytes_are_a_bomb() -> None:
    entries = {"assets/a/vocabulary.txt": b"x" * 5_000, "assets/b/vocabulary.txt": b"x" * 5_000}
    out = archive(SOUND, entries=entries)
    with zipfile.ZipFile(out) as file:
        first = file.getinfo("assets/a/vocabulary.txt").header_offset
        start = file.start_dir
    data = bytearray(out.getvalue())
    second = data.rindex(b"PK\x01\x02")
    data[second + 42 : second + 46] = struct.pack("<I", first)
    # The second entry's own bytes go; its record points at the first one's.
    with zipfile.ZipFile(out) as file:
        own = file.getinfo("assets/b/vocabulary.txt").header_offset
    shrunk = bytearray(data[:own] + data[start:])
    end = shrunk.rindex(b"PK\x05\x06")
    shrunk[end + 16 : end + 20] = struct.pack("<I", own)
    assert code_of(io.BytesIO(bytes(shrunk))) in {"archive_bomb", "not_an_archive"}


def test_a_flipped_bit_is_found() -> None:
    data = bytearray(archive(SOUND).getvalue())
    data[data.index(HDF5) + 50] ^= 1
    assert code_of(io.BytesIO(bytes(data))) in {"not_an_archive", "bad_archive"}


def test_weights_must_be_hdf5() -> None:
    assert code_of(archive(SOUND, weights=b"\x80\x04pickle" + bytes(50))) == "bad_archive"


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damage_is_always_a_clear_refusal(data: st.DataObject) -> None:
    whole = bytearray(archive(SOUND, compression=zipfile.ZIP_DEFLATED).getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        inspect_archive(io.BytesIO(bytes(whole)))
    except InvalidInput as error:
        assert error.stable_code in {"not_an_archive", "bad_archive", "archive_bomb"} | {
            "refused_layer",
            "unsupported_model",
        }
