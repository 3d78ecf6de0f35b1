"""The least that scoring rows costs: rows in memory through the very function that a worker serves.

``python -m tests.bench.bulk_loop FOLDER`` loads ``version.json`` and ``model.keras`` with the
worker's own runtime, writes ``answers.npy`` (what the model says of each row of ``rows.npy``, or of
each file of ``pictures``), and then runs a loop for every line ``BATCH:THREADS SECONDS`` that it
reads, answering with rows/s. Of pictures the loop decodes them too, on so many threads (0: itself).
A process of its own with TensorFlow's own choice of threads, as a worker; idle it costs nothing.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from storage.records.models import ModelFormat, ModelVersion, VersionState
from tests.bench.bare_loop import decode
from workers.runtime.keras_runtime import KerasRuntime

READY = "ready"


class Loop:
    """Batches of rows through the model, over and over."""

    def __init__(self, folder: Path, threads: int | None) -> None:
        told = json.loads((folder / "version.json").read_text())
        told["state"], told["format"] = VersionState(told["state"]), ModelFormat(told["format"])
        runtime = KerasRuntime("cpu", threads=threads)
        self._model = runtime.load(ModelVersion(**told), folder / "model.keras")
        self._spec = self._model.signature.asked[0]
        self._pictures = [path.read_bytes() for path in sorted(folder.glob("pictures/*"))]
        shape = tuple(axis or 1 for axis in self._spec.shape)
        if self._pictures:
            self._rows = np.stack([decode(data) for data in self._pictures])
        else:
            self._rows = np.load(folder / "rows.npy").astype(np.float32).reshape(-1, *shape)
        self.answers = np.concatenate(
            [self._forward(self._rows[at : at + 100], 100) for at in range(0, len(self._rows), 100)]
        )

    def rows_per_s(self, batch: int, threads: int, seconds: float) -> float:
        """After one batch that is not counted; every answer is looked at when time is up."""
        made: list[tuple[Any, Any]] = []
        with ThreadPoolExecutor(max(threads, 1)) as pool:
            batches = self._batches(batch, pool if threads else None)
            self._one(next(batches), made)
            began = time.perf_counter()
            while time.perf_counter() - began < seconds or len(made) < 3:
                self._one(next(batches), made)
            took = time.perf_counter() - began
            pool.shutdown(wait=False, cancel_futures=True)
        for which, answers in made:
            if not np.allclose(answers, self.answers[which], atol=1e-3):
                raise AssertionError("the loop's answers are wrong")
        return (len(made) - 1) * batch / took

    def _one(self, batch: tuple[Any, Any], made: list[tuple[Any, Any]]) -> None:
        which, rows = batch
        made.append((which, self._forward(rows, len(rows))))

    def _forward(self, rows: Any, bucket: int) -> Any:
        padded = rows if len(rows) == bucket else np.resize(rows, (bucket, *rows.shape[1:]))
        (answers,) = self._model.forward({self._spec.name: padded}).values()
        return answers[: len(rows)]

    def _batches(self, batch: int, pool: ThreadPoolExecutor | None) -> Iterator[tuple[Any, Any]]:
        if not self._pictures:
            yield from self._slices(batch)
            return
        orders = self._orders(batch)
        if pool is None:
            for which in orders:
                yield which, np.stack([decode(self._pictures[one]) for one in which])

        def start(which: list[int]) -> tuple[list[int], list[Future[Any]]]:
            assert pool is not None
            return which, [pool.submit(decode, self._pictures[one]) for one in which]

        coming = start(next(orders))  # one batch is decoded while another is computed
        for following in orders:
            which, rows = coming
            coming = start(following)
            yield which, np.stack([row.result() for row in rows])

    def _slices(self, batch: int) -> Iterator[tuple[Any, Any]]:
        while True:
            for at in range(0, len(self._rows) - batch + 1, batch):
                yield slice(at, at + batch), self._rows[at : at + batch]

    def _orders(self, batch: int) -> Iterator[list[int]]:
        order = itertools.cycle(range(len(self._pictures)))
        while True:
            yield list(itertools.islice(order, batch))


def main() -> None:
    """See the module's own words."""
    folder = Path(sys.argv[1])
    loop = Loop(folder, int(os.environ.get("FOREBAY_WORKER_TF_THREADS", "0")) or None)
    np.save(folder / "answers.npy", loop.answers)
    print(READY, flush=True)
    for line in sys.stdin:
        setting, seconds = line.split()
        batch, threads = map(int, setting.split(":"))
        print(loop.rows_per_s(batch, threads, float(seconds)), flush=True)


if __name__ == "__main__":
    main()
