"""The demo's data in the forms that trainings read: IDX, an archive of arrays, a table, folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SPECS = Path(__file__).with_name("specs")
PIXEL = "pixel_{:03d}"


def write_digits(
    folder: Path, pictures: NDArray[np.uint8], labels: NDArray[np.int64]
) -> dict[str, Path]:
    """Digits of (n, 28, 28) with their labels in every form; each file by the name that the specs
    give it. ``pictures/`` has a folder for each label, and in it a PNG for each digit."""
    import numpy as np

    images, kinds = "digits-images.idx3-ubyte", "digits-labels.idx1-ubyte"
    (folder / images).write_bytes(_idx(pictures))
    (folder / kinds).write_bytes(_idx(labels.astype(np.uint8)))
    np.savez(folder / "digits.npz", pictures=pictures[..., None], labels=labels)
    _write_table(folder / "digits.csv", pictures, labels)
    _write_pictures(folder / "pictures", pictures, labels)
    names = (images, kinds, "digits.npz", "digits.csv", "pictures")
    return {name: folder / name for name in names}


def _idx(array: NDArray[np.uint8]) -> bytes:
    """The format of MNIST's own files: a magic number, the axes as big-endian, the bytes."""
    import numpy as np

    head = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, dtype=">u4").tobytes()
    return head + array.tobytes()


def _write_table(path: Path, pictures: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    flat = pictures.reshape(len(pictures), -1)
    names = [PIXEL.format(number) for number in range(flat.shape[1])]
    with path.open("w", encoding="ascii") as table:
        table.write(",".join([*names, "digit"]) + "\n")
        for row, label in zip(flat.tolist(), labels.tolist(), strict=True):
            table.write(",".join(map(str, [*row, label])) + "\n")


def _write_pictures(folder: Path, pictures: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    from PIL import Image

    for label in sorted(set(labels.tolist())):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
    for number, (picture, label) in enumerate(zip(pictures, labels.tolist(), strict=True)):
        Image.fromarray(picture).save(folder / str(label) / f"{number:05d}.png", compress_level=1)
