"""``python -m tests.bench.load_harness quick|full``: latency over load in one process.

A real device thread computes a real traced model, items come by a Poisson process, and who
decides what enters the device is exchanged: every policy gets the same arrivals. The model is a
recurrent one, as a pass of it costs some milliseconds whatever it holds and a row of it little,
which is how most models behave on the devices they are made for. It has one core, and the
arrivals the other. Prints what was seen as JSON.
"""

from __future__ import annotations

import gc
import json
import math
import random
import statistics
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.bench.policies import VERSION, Batcher, FixedWindow, Pass, Policy
from tests.bench.report import percentile
from workers.inference.batching import LatencyBook

SIZES = (1, 2, 4, 8, 16, 32, 64)
STEPS, FEATURES, UNITS, CLASSES = 300, 16, 96, 8
JUDGED = (0.25, 0.5, 0.75)
DRAWN = (0.1, 0.4, 0.6, 0.85)  # beside the judged ones, for the plot
ROUNDS, SECONDS = 11, 2.0  # of the judged ones; short ones, as the median leaves bad moments out
DRAWN_ROUNDS = 3
POOL = 512
SEED = 20_240_613


@dataclass
class Device:
    """The model, its questions and their right answers."""

    forward: Any
    questions: Any
    answers: Any

    def run(self, items: list[int], bucket: int) -> Any:
        """One pass, as a worker makes it: stack, pad by repeating, compute, cut."""
        rows = [item % POOL for item in items]
        padded = rows + rows[:1] * (bucket - len(rows))
        return self.forward(self.questions[padded])[: len(items)]


def build() -> Device:
    """TensorFlow with one thread, a model with seeded weights, all buckets warm."""
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.utils.set_random_seed(SEED)
    layers = [
        keras.layers.Input((STEPS, FEATURES)),
        keras.layers.LSTM(UNITS),
        keras.layers.Dense(CLASSES, activation="softmax"),
    ]
    model = keras.Sequential(layers)
    spec = [tf.TensorSpec((None, STEPS, FEATURES), tf.float32)]
    traced = tf.function(lambda rows: model(rows, training=False), input_signature=spec)
    function = traced.get_concrete_function()

    def forward(rows: Any) -> Any:
        return function(tf.constant(rows)).numpy()

    rng = np.random.default_rng(SEED)
    questions = rng.normal(size=(POOL, STEPS, FEATURES)).astype(np.float32)
    device = Device(forward, questions, None)
    halves = [forward(questions[at : at + SIZES[-1]]) for at in range(0, POOL, SIZES[-1])]
    device.answers = np.concatenate(halves)
    return device


def seconds_by_size(device: Device, book: LatencyBook, seconds_each: float) -> dict[int, float]:
    """Median seconds of a pass of each size; the book hears of them, as it does when a worker
    warms a version."""
    found = {}
    for size in SIZES:
        items = list(range(size))
        device.run(items, size)
        took: list[float] = []
        end = time.perf_counter() + seconds_each
        while time.perf_counter() < end or len(took) < 5:
            began = time.perf_counter()
            device.run(items, size)
            took.append(time.perf_counter() - began)
            book.observe(VERSION, "", size, took[-1])
        found[size] = statistics.median(took)
    return found


class Run:
    """One policy under one load."""

    def __init__(self, device: Device, policy: Policy, arrivals_s: list[float]) -> None:
        self._device, self._policy, self._arrivals_s = device, policy, arrivals_s
        self._news = threading.Condition()
        self._left = len(arrivals_s)
        self._failure: BaseException | None = None
        self.latencies_ms = [math.nan] * len(arrivals_s)
        self._done: list[tuple[Pass, Any, float]] = []

    @property
    def passes(self) -> int:
        """How many there were."""
        return len(self._done)

    def __call__(self) -> list[float]:
        """From each item's appointed arrival to its answer, in milliseconds."""
        thread = threading.Thread(target=self._compute)
        self._began_s = time.monotonic() + 0.05
        thread.start()
        for item, at_s in enumerate(self._arrivals_s):
            delay_s = self._began_s + at_s - time.monotonic()
            if delay_s > 0:
                time.sleep(delay_s)
            with self._news:
                self._policy.add(item, time.monotonic())
                self._news.notify()
        thread.join()
        if self._failure is not None:
            raise self._failure
        for chosen, outputs, end_s in self._done:  # not on the device's thread, as in a worker
            self._look_at(chosen, outputs, end_s)
        return self.latencies_ms

    def _compute(self) -> None:
        try:
            while self._left:
                self._run(self._next())
        except BaseException as failure:
            self._failure = failure

    def _next(self) -> Pass:
        with self._news:
            while True:
                now_s = time.monotonic()
                found = self._policy.next(now_s)
                if isinstance(found, Pass):
                    return found
                self._news.wait(None if found == math.inf else found - now_s)

    def _run(self, chosen: Pass) -> None:
        began_s = time.monotonic()
        outputs = self._device.run(list(chosen.items), chosen.bucket)
        end_s = time.monotonic()
        with self._news:
            self._policy.ran(chosen, end_s - began_s)
        self._left -= len(chosen.items)
        self._done.append((chosen, outputs, end_s))

    def _look_at(self, chosen: Pass, outputs: Any, end_s: float) -> None:
        right = self._device.answers[[item % POOL for item in chosen.items]]
        if not np.allclose(outputs, right, atol=1e-4):
            raise AssertionError(f"wrong answers for {chosen.items}")
        for item in chosen.items:
            self.latencies_ms[item] = (end_s - self._began_s - self._arrivals_s[item]) * 1_000


def poisson(rate_per_s: float, seconds: float, rng: random.Random) -> list[float]:
    """Arrival times."""
    at_s, times = 0.0, []
    while (at_s := at_s + rng.expovariate(rate_per_s)) < seconds:
        times.append(at_s)
    return times


def main(quick: bool) -> dict[str, Any]:
    """All loads, all policies, in turns."""
    device, book = build(), LatencyBook()
    gc.collect()
    gc.freeze()
    gc.disable()  # as in a worker: a collection would be taken for a slow pass
    by_size = seconds_by_size(device, book, 0.1 if quick else 0.5)
    capacity = max(size / seconds for size, seconds in by_size.items())
    makers = {
        "batcher": lambda: Batcher(SIZES, book),
        "10 ms window": lambda: FixedWindow(SIZES, 0.010),
        "30 ms window": lambda: FixedWindow(SIZES, 0.030),
    }
    plan = [(load, number) for number in range(1 if quick else ROUNDS) for load in JUDGED]
    plan += [] if quick else [(load, number) for number in range(DRAWN_ROUNDS) for load in DRAWN]
    seconds = 1.0 if quick else SECONDS
    Run(device, makers["batcher"](), poisson(capacity / 2, seconds / 2, random.Random(SEED)))()
    runs: list[dict[str, Any]] = []
    for load, number in plan:
        arrivals = poisson(load * capacity, seconds, random.Random(f"{SEED} {load} {number}"))
        names = list(makers)
        for name in names[number % 3 :] + names[: number % 3]:
            run = Run(device, makers[name](), arrivals)
            took = run()
            runs.append(
                {
                    "load": load,
                    "round": number,
                    "policy": name,
                    "mean_ms": statistics.fmean(took),
                    "p99_ms": percentile(took, 99),
                    "items_per_pass": len(took) / run.passes,
                }
            )
    return {
        "seed": SEED,
        "capacity_per_s": round(capacity),
        "pass_ms": {size: round(found * 1_000, 2) for size, found in by_size.items()},
        "runs": runs,
    }


if __name__ == "__main__":
    print(json.dumps(main(quick=sys.argv[1] == "quick")))
