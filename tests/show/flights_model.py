"""A model that says before a flight lands whether it will be late, from columns with gaps.

``python -m tests.show.flights_model TABLE FOLDER`` trains it on a slice, for a few seconds and with
a fixed seed, and leaves in the folder what a user would push, ``flights.keras`` and
``flights.json``, and ``expected.npy``: its answers to some other rows, those with a gap that is
filled among them, computed here from the table as the ``csv`` module reads it; the rest is NaN.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.show.flights_data import CACHE, CSV_SHA256, GAP, ROOT, read_flights

Row = dict[str, str]

REFUSED, FILLED, FILL = "dep_delay", "air_time", 150
LABELS = ("on time", "late")
LATE_MIN = 15  # minutes behind schedule
TRAINED_ON, TRIED_ON = slice(0, None, 16), slice(8, None, 16)
SEED, EPOCHS = 1903, 2
WIDTH, DEPTH = 768, 3  # wide enough for a few seconds of work, which can be interrupted
KEEP = ("year", "month", "day", "carrier", "flight")
COLUMNS: list[dict[str, Any]] = [
    {"name": REFUSED, "missing": "refuse"},
    {"name": FILLED, "missing": {"fill": FILL}},
    {"name": "distance"},
    {"name": "hour", "type": "integer"},
    {"name": "month", "type": "integer"},
    {"name": "carrier", "categories": [], "one_hot": True},  # those that there are
    {"name": "origin", "categories": [], "one_hot": True},
]


@dataclass(frozen=True)
class Model:
    """What training left, and what it is pushed with."""

    folder: Path

    @property
    def archive(self) -> Path:
        return self.folder / "flights.keras"

    @property
    def options(self) -> Path:
        return self.folder / "flights.json"

    @property
    def expected(self) -> npt.NDArray[np.float32]:
        """(rows, labels)."""
        return np.asarray(np.load(self.folder / "expected.npy"))


def make(table: Path) -> Model:
    """The model, trained when it or its framework changed since the last time, by a process of
    its own: TensorFlow stays out of this one."""
    recipe = Path(__file__).read_bytes() + (ROOT / "requirements.lock.txt").read_bytes()
    digest = hashlib.sha256(recipe + CSV_SHA256.encode()).hexdigest()[:16]
    folder = CACHE / f"model-{digest}"
    if not folder.exists():
        building = folder.with_name(f"{folder.name}.{os.getpid()}")
        building.mkdir(parents=True)
        told = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        environment = {**os.environ, **told, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tests.show.flights_model", str(table), str(building)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
        if done.returncode:
            raise RuntimeError(f"the model could not be trained:\n{done.stderr[-4_000:]}")
        if not folder.exists():
            building.rename(folder)
    return Model(folder)


def with_categories(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The columns, with the categories that these rows have."""
    return [
        column | {"categories": sorted({row[column["name"]] for row in rows})}
        if "categories" in column
        else column
        for column in COLUMNS
    ]


def features(rows: Sequence[Row], columns: Iterable[dict[str, Any]]) -> npt.NDArray[np.float32]:
    """One vector a row; it has a NaN where the refused column has a gap."""
    found = []
    for column in columns:
        texts = np.array([row[column["name"]] for row in rows])
        if "categories" in column:
            found.append(np.array(column["categories"]) == texts[:, None])
            continue
        gaps = texts == GAP
        numbers = np.where(gaps, "0", texts).astype(np.float64)
        numbers[gaps] = FILL if column["name"] == FILLED else np.nan
        found.append(numbers[:, None])
    return np.concatenate(found, axis=1, dtype=np.float32)


def train(table: Path, folder: Path) -> None:
    """See the module."""
    import keras

    rows = [row for _, row in read_flights(table)]
    columns = with_categories(rows)
    vectors = features(rows, columns)
    landed = np.array([row["arr_delay"] != GAP for row in rows])
    late = np.array(
        [row["arr_delay"] != GAP and float(row["arr_delay"]) > LATE_MIN for row in rows]
    )
    learned = landed & _every(TRAINED_ON, len(rows))
    judged = landed & _every(TRIED_ON, len(rows))

    keras.utils.set_random_seed(SEED)
    mean, variance = vectors[learned].mean(axis=0), vectors[learned].var(axis=0)
    model = keras.Sequential(
        [
            keras.Input((vectors.shape[1],), name="flight"),
            keras.layers.Normalization(mean=mean, variance=variance),
            *(keras.layers.Dense(WIDTH, activation="relu") for _ in range(DEPTH)),
            keras.layers.Dense(len(LABELS), activation="softmax", name="delay"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(vectors[learned], late[learned], batch_size=256, epochs=EPOCHS, verbose=0)

    filled = np.array([row[FILLED] == GAP for row in rows])
    tried = (judged | filled) & np.isfinite(vectors).all(axis=1)
    expected = np.full((len(rows), len(LABELS)), np.nan, np.float32)
    expected[tried] = model.predict(vectors[tried], batch_size=4096, verbose=0)
    right = (expected[judged].argmax(axis=1) == late[judged]).mean()
    print(f"right in {right:.1%} of {judged.sum():,} rows that it never saw")
    print(f"(always 'on time': {1 - late[judged].mean():.1%})")
    model.save(folder / "flights.keras")
    options = {"input": "record", "columns": columns, "labels": list(LABELS), "top_k": 1}
    (folder / "flights.json").write_text(json.dumps(options, indent=1))
    np.save(folder / "expected.npy", expected)


def _every(some: slice, rows: int) -> npt.NDArray[np.bool_]:
    chosen = np.zeros(rows, np.bool_)
    chosen[some] = True
    return chosen


if __name__ == "__main__":
    train(Path(sys.argv[1]), Path(sys.argv[2]))
