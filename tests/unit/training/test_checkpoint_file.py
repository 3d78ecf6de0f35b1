"""A checkpoint's file gives back what was written, and nothing else is taken for one."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from storage.records.errors import ObjectCorrupt
from workers.training.checkpoint_file import read_checkpoint, write_checkpoint
from workers.training.ports import Array
from workers.training.position import End, Position, Snapshot
from workers.training.stopping import Patience

AT = Position(
    batch_size=32,
    epoch=3,
    step=1410,
    row=64,
    loss_sum=0.1 + 0.2,
    loss_rows=64,
    metrics={"accuracy": 1 / 3},
    epoch_s=1.5,
    trained_s=17.25,
    patience=Patience(0.1, 2, 1),
    ended=End.EARLY,
    checkpoints=7,
)
STATE: dict[str, Array] = {
    "layers/dense/kernel": np.arange(12, dtype=np.float32).reshape(3, 4) / 7,
    "optimizer/iterations": np.array(1410, np.int64),
    "seed": np.array([1, 2**32 - 1], np.uint32),
    "half": np.array([1.5], np.float16),
    "brain": np.array([[1.5, np.nan, -0.0]], ml_dtypes.bfloat16),
    "brain/one": np.array(3, ml_dtypes.bfloat16),
    "eight": np.array([1.5, -2.0], ml_dtypes.float8_e4m3fn),
    "empty": np.zeros((0, 4), np.float32),
    "äöü .. /x": np.array([True, False]),
}
BEST: dict[str, Array] = {"layers/dense/kernel": np.full((3, 4), -0.0, np.float32)}


def written(path: Path, snapshot: Snapshot | None = None) -> Path:
    write_checkpoint(path, snapshot or Snapshot(AT, STATE, BEST), spec="s" * 64, prepared="p" * 64)
    return path


def test_it_reads_what_it_wrote_bit_for_bit(tmp_path: Path) -> None:
    found = read_checkpoint(written(tmp_path / "a"))
    assert found.snapshot.at == AT and (found.spec, found.prepared) == ("s" * 64, "p" * 64)
    assert found.snapshot.best is not None
    for wrote, read in ((STATE, found.snapshot.state), (BEST, found.snapshot.best)):
        assert list(read) == list(wrote)
        for name, array in wrote.items():
            assert (read[name].dtype, read[name].shape) == (array.dtype, array.shape)
            assert read[name].tobytes() == array.tobytes()


def test_equal_states_are_equal_bytes(tmp_path: Path) -> None:
    assert written(tmp_path / "a").read_bytes() == written(tmp_path / "b").read_bytes()


def test_a_file_that_was_written_before_such_dtypes_were_told_is_read(tmp_path: Path) -> None:
    own = {name: array for name, array in STATE.items() if array.dtype.kind != "V"}
    path = written(tmp_path / "a", Snapshot(AT, own, BEST))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    head = json.loads(members["head.json"])
    assert head.pop("dtypes") == {}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (members | {"head.json": json.dumps(head).encode()}).items():
            archive.writestr(name, data)
    assert list(read_checkpoint(path).snapshot.state) == list(own)


def test_weights_of_a_best_epoch_may_be_missing(tmp_path: Path) -> None:
    path = written(tmp_path / "a", Snapshot(AT, STATE, None))
    assert read_checkpoint(path).snapshot.best is None


def test_an_object_that_would_have_to_be_pickled_is_not_written(tmp_path: Path) -> None:
    wrong = {"x": np.array([{"a": 1}], dtype=object)}
    with pytest.raises(ValueError, match="pickle"):
        written(tmp_path / "a", Snapshot(AT, wrong, None))


def test_a_pickle_in_a_file_is_not_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a")
    evil = io.BytesIO()
    np.save(evil, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (members | {"state/0.npy": evil.getvalue()}).items():
            archive.writestr(name, data)
    with pytest.raises(ObjectCorrupt, match="allow_pickle"):
        read_checkpoint(path)


def test_whatever_is_cut_short_or_is_something_else_is_no_checkpoint(tmp_path: Path) -> None:
    whole = written(tmp_path / "a").read_bytes()
    other = tmp_path / "b"
    for cut in (0, 10, len(whole) // 2, len(whole) - 1):
        other.write_bytes(whole[:cut])
        with pytest.raises(ObjectCorrupt):
            read_checkpoint(other)
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("head.json", '{"v": 2}')
    with pytest.raises(ObjectCorrupt, match="version 2"):
        read_checkpoint(other)
