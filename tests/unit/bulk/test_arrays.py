"""Arrays: any rows of them by ranges, in their shape, without a copy and without pickle."""

from __future__ import annotations

import pickle
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.records.bulk import BulkFormat, Condition
from storage.records.errors import InvalidInput
from tests.unit.bulk.files import found, positions, read, table
from workers.bulk.reading import arrays as arrays_module
from workers.bulk.reading.arrays import ArraySource
from workers.bulk.reading.where import Where

steady = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60
)


def opened(path: Path, *conditions: Condition) -> ArraySource:
    format = BulkFormat(path.suffix[1:])
    return ArraySource(found(path), Where(conditions, str(path)), format)


def saved(path: Path, array: Any, **options: Any) -> Path:
    np.save(path, array, **options)
    return path


def block(source: ArraySource, name: str, start: int = 0, stop: int | None = None) -> Any:
    column = table(read(source, [name], start, stop))[name].combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    return column.to_numpy_ndarray() if hasattr(column, "to_numpy_ndarray") else column.to_numpy()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(20, dtype=np.int16),
        np.arange(40, dtype=np.float32).reshape(20, 2),
        np.arange(240, dtype=np.uint8).reshape(20, 3, 4),
        np.arange(240, dtype=np.float16).reshape(20, 3, 2, 2),
        np.arange(40, dtype=">f8").reshape(20, 2),
        np.arange(20, dtype=">i4"),
        np.arange(40).reshape(20, 2).astype(bool),
        np.asfortranarray(np.arange(20, dtype=np.int64)),
        np.arange(20).reshape(20, 1)[:, 0].astype("datetime64[s]"),
        np.array([f"row {n}" for n in range(20)]),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
@pytest.mark.parametrize("kind", ["npy", "npz", "compressed"])
def test_rows_come_back_in_their_shape(tmp_path: Path, kind: str, array: Any) -> None:
    name = "array" if kind == "npy" else "x"
    path = tmp_path / ("f.npy" if kind == "npy" else "f.npz")
    {"npy": np.save, "npz": np.savez, "compressed": np.savez_compressed}[kind](
        path, **({"arr": array} if kind == "npy" else {"x": array})
    )
    source = opened(path)
    assert source.planned().rows == source.planned().stop == 20
    assert source.columns() == (name,) and list(source.cuts()) == []
    for start, stop in ((0, 20), (7, 13), (19, 20)):
        got = table(read(source, [name], start, stop))[name].combine_chunks()
        want = array[start:stop]
        if array.ndim > 1:
            back = block(source, name, start, stop)
            assert back.shape == want.shape and np.array_equal(back, want)
        else:
            assert (
                got.to_pylist() == pa.array(want.astype(want.dtype.newbyteorder("="))).to_pylist()
            )


@steady
@given(st.lists(st.integers(0, 100), max_size=6), st.integers(1, 50), st.integers(1, 5_000))
def test_however_a_file_is_cut_each_row_is_read_once(
    tmp_path: Path, cuts: list[int], max_rows: int, max_bytes: int
) -> None:
    path = tmp_path / "f.npz"
    if not path.exists():
        np.savez(path, x=np.arange(300, dtype=np.int32).reshape(100, 3), y=np.arange(100))
    source, edges = opened(path), [0, *sorted(cuts), 100]
    chunks = [
        chunk
        for start, stop in pairwise(edges)
        for chunk in read(source, ["y", "x"], start, stop, max_rows=max_rows, max_bytes=max_bytes)
    ]
    assert positions(chunks) == list(range(100))
    assert table(chunks)["y"].to_pylist() == list(range(100))
    assert all(c.batch.nbytes <= max_bytes or c.batch.num_rows == 1 for c in chunks)


def test_a_block_is_given_back_without_a_copy(tmp_path: Path) -> None:
    path = saved(tmp_path / "f.npy", np.arange(60, dtype=np.float32).reshape(10, 2, 3))
    (chunk,) = read(opened(path), ["array"])
    column = chunk.batch.column("array")
    assert column.type.shape == [2, 3]
    one, two = column.to_numpy_ndarray(), column.to_numpy_ndarray()
    assert one.shape == (10, 2, 3) and np.shares_memory(one, two)


def test_a_where_looks_at_arrays_of_one_number_a_row(tmp_path: Path) -> None:
    path = tmp_path / "f.npz"
    np.savez(path, x=np.arange(20).reshape(10, 2), y=np.arange(10))
    chunks = read(opened(path, Condition("y", ">=", 7)), ["x"], max_rows=4)
    assert positions(chunks) == [7, 8, 9] and sum(chunk.skipped for chunk in chunks) == 7
    for condition, code in ((Condition("x", "=", 1), "bad_where"),
                            (Condition("z", "=", 1), "unknown_column")):  # fmt: skip
        with pytest.raises(InvalidInput) as caught:
            opened(path, condition)
        assert caught.value.stable_code == code


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "f.npy", np.arange(3))
    with pytest.raises(InvalidInput, match=r"'x'.* array") as caught:
        opened(path).chunks(0, 3, ["x"], max_rows=1, max_bytes=1)
    assert caught.value.stable_code == "unknown_column"


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("it was unpickled",))


def bad_files(folder: Path) -> dict[str, Path]:
    """One of each kind that is refused."""
    files = {
        "objects": saved(folder / "o.npy", np.array([Bomb()], dtype=object), allow_pickle=True),
        "fortran": saved(folder / "f.npy", np.asfortranarray(np.ones((4, 3)))),
        "scalar": saved(folder / "s.npy", np.float32(1)),
        "complex": saved(folder / "c.npy", np.ones(3, np.complex64)),
        "structured": saved(folder / "r.npy", np.zeros(3, [("a", "i4"), ("b", "f4")])),
        "nothing to a row": saved(folder / "n.npy", np.ones((3, 0))),
        "texts in a grid": saved(folder / "t.npy", np.array([["a", "b"]])),
        "long double": saved(folder / "l.npy", np.ones(3, np.longdouble)),
        "cut off": saved(folder / "cut.npy", np.ones((100, 30))),
        "empty": folder / "e.npy",
        "pickle": folder / "p.npy",
        "no zip": folder / "x.npz",
        "empty zip": folder / "ez.npz",
        "lengths": folder / "len.npz",
        "cut zip": folder / "cz.npz",
        "spoiled zip": folder / "sz.npz",
        "objects in a zip": folder / "oz.npz",
    }
    files["cut off"].write_bytes(files["cut off"].read_bytes()[:-1])
    files["empty"].touch()
    files["pickle"].write_bytes(pickle.dumps(Bomb()))
    files["no zip"].write_bytes(b"PK\x03\x04" + b"x" * 500)
    with zipfile.ZipFile(files["empty zip"], "w") as archive:
        archive.writestr("readme.txt", "no array")
    np.savez(files["lengths"], a=np.ones(3), b=np.ones(4))
    np.savez(files["cut zip"], a=np.ones(3000))
    files["cut zip"].write_bytes(files["cut zip"].read_bytes()[:-600])
    np.savez_compressed(files["spoiled zip"], a=np.random.default_rng(1).random(3000))
    data = bytearray(files["spoiled zip"].read_bytes())
    data[3_000:3_400] = b"\xff" * 400
    files["spoiled zip"].write_bytes(bytes(data))
    np.savez(files["objects in a zip"], a=np.array([Bomb()], dtype=object))
    return files


KINDS = ["objects", "fortran", "scalar", "complex", "structured", "nothing to a row",
         "texts in a grid", "long double", "cut off", "empty", "pickle", "no zip", "empty zip",
         "lengths", "cut zip", "spoiled zip", "objects in a zip"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    files = bad_files(tmp_path)
    assert sorted(files) == sorted(KINDS)
    path = files[kind]
    with pytest.raises(InvalidInput, match=path.name) as caught:
        source = opened(path)
        read(source, source.columns())
    assert caught.value.stable_code == "bad_file"


@steady
@given(st.sampled_from(["npy", "npz", "z"]), st.data())
def test_no_damage_does_more_than_refuse_the_file(
    tmp_path: Path, kind: str, data: st.DataObject
) -> None:
    path = tmp_path / ("f.npy" if kind == "npy" else "f.npz")
    if kind == "npy":
        np.save(path, np.arange(30).reshape(10, 3))
    else:
        (np.savez if kind == "npz" else np.savez_compressed)(path, x=np.arange(10), y=np.ones(10))
    spoiled = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        spoiled[data.draw(st.integers(0, len(spoiled) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(spoiled))
    try:
        source = opened(path)
        read(source, source.columns())
    except InvalidInput as error:
        assert error.stable_code == "bad_file"


def test_a_compressed_member_is_unpacked_once_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f.npz"
    np.savez_compressed(path, x=np.arange(100_000), y=np.arange(100_000))
    unpacked: list[str] = []
    real = arrays_module._Unpacked._unpack

    def unpack(self: Any) -> int:
        unpacked.append(self._info.filename)
        return real(self)

    monkeypatch.setattr(arrays_module._Unpacked, "_unpack", unpack)
    before = len(list(Path("/proc/self/fd").iterdir()))
    source = opened(path)
    read(source, ["y"], 10, 90_000, max_rows=1_000)
    assert unpacked == ["y.npy"]
    del source
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_compressed_member_that_would_fill_the_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f.npz"
    np.savez_compressed(path, x=np.zeros(100_000))
    monkeypatch.setattr(arrays_module, "MAX_UNPACKED_BYTES", 100_000)
    with pytest.raises(InvalidInput, match="savez") as caught:
        read(opened(path), ["x"])
    assert caught.value.stable_code == "too_large"


def test_an_array_without_rows_is_a_file_too(tmp_path: Path) -> None:
    source = opened(saved(tmp_path / "f.npy", np.ones((0, 3), np.float32)))
    assert source.planned().rows == 0 and read(source, ["array"]) == []
