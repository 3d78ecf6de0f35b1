"""Prepares an array file of the given size, written here first, and takes rows of it from the
disk. Prints by how many MiB the process grew over what it was when everything was imported."""

from __future__ import annotations

import resource
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from storage.records.training import Preparation, Scaling
from tests.support.bulk_files import npz
from tests.support.training_data import DataDesk, spec_of
from workers.training.ports import Part

WIDTH, PIECE_ROWS = 512, 4096


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write(path: Path, mib: int) -> int:
    """How many rows it has."""
    pieces = (mib << 20) // (4 * WIDTH * PIECE_ROWS)
    rows = pieces * PIECE_ROWS
    head = {"descr": "<f4", "fortran_order": False, "shape": (rows, WIDTH)}
    random = np.random.default_rng(1)
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("x.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array_header_2_0(file, head)
            for _ in range(pieces):
                file.write(random.random((PIECE_ROWS, WIDTH), np.float32).tobytes())
        with archive.open("label.npy", "w") as file:
            np.save(file, np.arange(rows) % 10)
    return rows


def main(mib: int) -> None:
    prepare = Preparation(scale=Scaling.STANDARD)
    with tempfile.TemporaryDirectory() as folder:
        desk = DataDesk(Path(folder))
        small = desk.write("small.npz", npz(x=np.ones((40, 8)), label=np.arange(40) % 2))
        desk.prepare(spec_of(small, prepare=prepare)).close()  # everything is loaded
        rows = write(desk.folder / "large.npz", mib)
        before = peak_mib()
        kept = desk.prepare(spec_of(desk.uri("large.npz"), prepare=prepare), budget_bytes=0)
        assert sum(kept.prepared.rows.values()) == rows
        for order in np.random.default_rng(2).integers(0, rows // 2, (50, 1600)):
            kept.take(Part.TRAIN, order)
        print(round(peak_mib() - before, 1))


if __name__ == "__main__":
    main(int(sys.argv[1]))
