"""Data that do not fit into memory are prepared all the same; storage may stutter, disks fill."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.objects import open_objects
from storage.records.errors import InvalidInput, ObjectsUnavailable
from tests.support.bulk_files import npz, shelf
from tests.support.training_data import DataDesk, everything, idx, png, spec_of
from workers.bulk.kit import Stopped
from workers.bulk.places import Places
from workers.training.data import files
from workers.training.ports import Part


@pytest.mark.slow
def test_rows_of_any_number_are_prepared_in_little_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.training.prepare_large", "500"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert float(done.stdout) < 150


def places_that_stutter(desk: DataDesk, answers: Callable[[], bool]) -> Places:
    """A store whose ranges are only sometimes had."""

    class Stuttering:
        def __init__(self, objects: Any) -> None:
            self._objects = objects

        def get_range(self, *args: Any, **options: Any) -> bytes:
            if not answers():
                raise ObjectsUnavailable("not now")
            return bytes(self._objects.get_range(*args, **options))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._objects, name)

    return Places(
        desk.house.database,
        desk.house.objects,
        [f"file://{desk.folder}"],
        [],
        lambda prefix: Stuttering(open_objects(prefix)),  # type: ignore[return-value]
    )


def test_storage_that_stutters_is_asked_again(
    desk: DataDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_PAUSES_S", (0.001, 0.001, 0.001))
    asked: list[int] = []

    def answers() -> bool:
        asked.append(1)
        return len(asked) % 3 == 0

    uri = desk.write("x.npz", npz(x=np.ones((40, 3)), label=np.arange(40) % 2))
    desk.places = places_that_stutter(desk, answers)
    assert desk.prepare(spec_of(uri)).prepared.rows[Part.TRAIN] == 20


def test_storage_that_does_not_answer_is_told_as_it_is(
    desk: DataDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_PAUSES_S", (0.001,))
    uri = desk.write("x.npz", npz(x=np.ones((40, 3)), label=np.arange(40) % 2))
    desk.places = places_that_stutter(desk, lambda: False)
    with pytest.raises(ObjectsUnavailable):
        desk.prepare(spec_of(uri))
    with pytest.raises(Stopped):
        desk.prepare(spec_of(uri), lambda: False)


def test_a_full_disk_is_said_to_be_full(desk: DataDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = desk.write("x.npz", npz(x=np.ones((40, 3)), label=np.arange(40) % 2))

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(InvalidInput, match=r"no room .*No space left") as caught:
        desk.prepare(spec_of(uri))
    assert caught.value.stable_code == "no_room"


def test_the_same_from_a_bucket(
    tmp_path: Path, s3_objects_url: str, s3_env: dict[str, str]
) -> None:
    """Ranges, gzip and pictures of a real S3 give the digests that a folder gives."""
    desk = DataDesk(tmp_path)
    pixels = np.random.default_rng(1).integers(0, 256, (40, 5, 4)).astype(np.uint8)
    labels = (np.arange(40) % 4).astype(np.uint8)
    contents = {
        "m/t-images.idx3.gz": idx(pixels, packed=True),
        "m/t-labels.idx1.gz": idx(labels, packed=True),
        "n/x.npz": npz(image=pixels, label=labels),
        **{f"p/{labels[n]}/{n:02}.png": png(pixels[n]) for n in range(40)},
    }
    bucket = shelf(f"{s3_objects_url}/data", s3_env)
    for name, data in contents.items():
        desk.write(name, data)
        bucket.write(name, data)
    local, digests = desk.places, []
    remote = Places(desk.house.database, desk.house.objects, [f"{s3_objects_url}/data"], [])
    for name in ("m/t-images.idx3.gz", "n/x.npz", "p/"):
        shape = {"shape": (5, 4)}
        for places, uri in ((local, desk.uri(name)), (remote, bucket.at("").uri(name))):
            desk.places = places
            uri = uri + "/" if name.endswith("/") and not uri.endswith("/") else uri
            rows = desk.prepare(spec_of(uri, data=shape))
            assert all(one["etag"] for one in rows.prepared.note["files"])
            digests.append(rows.prepared.digest)
            assert set(everything(rows).target) == {0, 1, 2, 3}
    assert digests[0] == digests[1] == digests[2] == digests[3]
    assert digests[4] == digests[5]
