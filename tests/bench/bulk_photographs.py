"""MobileNetV2 over photographs as JPEGs in a Parquet file in S3, against a bare loop in memory.

Both decode: the loop on as many threads as suit it best. Otherwise as ``bulk_digits``.
"""

from __future__ import annotations

import io
import subprocess
import sys

import pyarrow as pa
from PIL import Image

from tests.bench import photographs
from tests.bench.bare_loop import MODEL, SIDE
from tests.bench.bulk_jobs import Bucket, bulk_stack, describe
from tests.bench.bulk_rounds import bare_loop, check, finish_warm_up, run
from tests.bench.device_bound import OPTIONS
from tests.bench.report import Figure, Goal
from tests.bench.rig import Rig, push_model, tensorflow_environment

NAME = "bulk-photographs"
GOAL = Goal(0.93, 0.97, most=False)
ROWS, GROUP_ROWS, ROUNDS = 2_048, 128, 3
SETTINGS = [f"{batch}:{threads}" for batch in (8, 16, 32, 64) for threads in (0, 1, 2)]
QUALITY = 90


def measure(rig: Rig) -> list[Figure]:
    """The median of the rounds' ratios counts."""
    rows, count, seconds = (64, 1, 1.0) if rig.quick else (ROWS, ROUNDS, 12.0)
    settings = ["16:0", "16:1"] if rig.quick else SETTINGS
    folder = rig.folder / NAME
    (folder / "pictures").mkdir(parents=True)
    found = photographs.fetch()
    command = [sys.executable, "-m", "tests.bench.bare_loop", "build", str(folder)]
    subprocess.run(
        [*command, *map(str, found)],
        check=True,
        env=tensorflow_environment(),
        stdout=subprocess.DEVNULL,
    )
    pictures = [jpeg(path.read_bytes()) for path in found]
    for number, data in enumerate(pictures):
        (folder / "pictures" / f"{number:02d}.jpg").write_bytes(data)
    bucket = Bucket(rig)
    image = pa.array([pictures[row % len(pictures)] for row in range(rows)], pa.binary())
    uri = bucket.put_parquet("photographs.parquet", pa.table({"image": image}), GROUP_ROWS)
    with bulk_stack(rig, bucket) as stack, stack.caller() as caller:
        push_model(caller, NAME, folder / MODEL, OPTIONS)
        describe(stack, folder, NAME, folder / MODEL)
        with bare_loop(folder) as loop:
            finish_warm_up(bucket, caller, NAME, uri, 1)
            made = run(
                loop, rows, count, lambda: bucket.score(caller, NAME, uri), settings, seconds
            )
            check(bucket, bucket.score(caller, NAME, uri), rows, loop.answers)
    name = f"bulk, MobileNetV2 {SIDE}×{SIDE}, {rows:,} JPEGs in Parquet: rows/s ÷ bare loop"
    baseline = f"python -m tests.bench.bulk_loop FOLDER <<< '{made.best} {seconds:g}'"
    detail = made.detail() | {"photographs": len(pictures)}
    return [GOAL.of(NAME, name, made.value, "×", baseline_command=baseline, detail=detail)]


def jpeg(data: bytes) -> bytes:
    """The same photograph, as a camera would store it."""
    out = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        image.convert("RGB").save(out, "JPEG", quality=QUALITY)
    return out.getvalue()
