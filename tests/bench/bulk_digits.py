"""200,000 digits, Parquet in S3 to Parquet in S3, against a bare loop in memory.

Jobs and loops take turns, as a machine that others share is not equally fast from minute to
minute: each job is compared with the loops just before and just after it, at the batch size that
suits the loop best. The job's time is from its claim to its commit, behind the manifest.
"""

from __future__ import annotations

import io
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from tests.bench.bulk_jobs import Bucket, bulk_stack, describe
from tests.bench.bulk_rounds import bare_loop, check, finish_warm_up, run
from tests.bench.digits import SEED, SIDE, draw
from tests.bench.report import Figure, Goal
from tests.bench.rig import LABELS, Rig, push_model, tensorflow_environment

NAME = "bulk-digits"
GOAL = Goal(0.6, 0.8, most=False)
ROWS, GROUP_ROWS, DRAWN, ROUNDS = 200_000, 10_000, 2_000, 5
IN_MEMORY = 50_000  # rows of the loop's: far more than a cache holds
MOST = 1_024  # rows of a batch of the loop's, and of a pass
SETTINGS = [f"{batch}:0" for batch in (64, 128, 256, 512, MOST)]
OPTIONS = {"labels": LABELS}


def measure(rig: Rig) -> list[Figure]:
    """The median of the rounds' ratios counts."""
    rows, count, seconds = (20_000, 1, 1.0) if rig.quick else (ROWS, ROUNDS, 6.0)
    folder = rig.folder / NAME
    folder.mkdir()
    archive = build(folder, rig.digits.model)
    bucket = Bucket(rig)
    drawn = pixels(DRAWN)
    np.save(folder / "rows.npy", np.resize(drawn, (2_000 if rig.quick else IN_MEMORY, SIDE * SIDE)))
    uri = bucket.put_parquet("digits.parquet", table(drawn, rows), GROUP_ROWS)
    allowed = {"FOREBAY_WORKER_MAX_BATCH": str(MOST)}
    with bulk_stack(rig, bucket, allowed) as stack, stack.caller() as caller:
        push_model(caller, NAME, archive, {**OPTIONS, "serving": {"max_batch": MOST}})
        describe(stack, folder, NAME, archive)
        with bare_loop(folder) as loop:
            finish_warm_up(bucket, caller, NAME, uri, 1)
            made = run(
                loop, rows, count, lambda: bucket.score(caller, NAME, uri), SETTINGS, seconds
            )
            check(bucket, bucket.score(caller, NAME, uri), rows, loop.answers)
    name = f"bulk, {rows:,} digits, Parquet to Parquet in S3: rows/s ÷ bare loop at its best batch"
    command = f"python -m tests.bench.bulk_loop FOLDER <<< '{made.best} {seconds:g}'"
    detail = made.detail()
    return [GOAL.of(NAME, name, made.value, "×", baseline_command=command, detail=detail)]


def pixels(count: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Drawn digits, a row of 784 each."""
    rng = random.Random(SEED)
    pictures = (draw(rng, number % 10) for number in range(count))
    return np.stack([np.asarray(Image.open(io.BytesIO(one))).reshape(-1) for one in pictures])


def table(drawn: np.ndarray[tuple[int, int], np.dtype[np.uint8]], rows: int) -> pa.Table:
    """So many rows, the drawn ones over and over."""
    flat = np.resize(drawn, (rows, SIDE * SIDE)).reshape(-1)
    return pa.table({"image": pa.FixedSizeListArray.from_arrays(pa.array(flat), SIDE * SIDE)})


def build(folder: Path, digits: Path) -> Path:
    """The digits model for pixels as they are (0 to 255), by a process that holds TensorFlow."""
    into = folder / "scaled.keras"
    command = [sys.executable, "-m", "tests.bench.bulk_digits", str(digits), str(into)]
    subprocess.run(command, check=True, env=tensorflow_environment(), stdout=subprocess.DEVNULL)
    return into


def _build(digits: str, into: str) -> None:
    import keras

    model = keras.saving.load_model(digits, compile=False)
    layers = [keras.layers.Input((SIDE, SIDE, 1), name="image"), keras.layers.Rescaling(1 / 255)]
    keras.Sequential([*layers, *model.layers]).save(into)


if __name__ == "__main__":
    _build(*sys.argv[1:])
