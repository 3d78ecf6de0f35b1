"""Nothing is gained by waiting: the window against fixed waits, in virtual time."""

from __future__ import annotations

import pytest

from tests.unit.batching.simulation import FixedWindow, LateBinding, capacity, simulate

SIZES = (1, 2, 4, 8, 16, 32, 64)
SEED = 20240607


@pytest.mark.parametrize("load", [0.25, 0.5, 0.75])
def test_late_binding_beats_fixed_windows_at_every_load(load: float) -> None:
    rate = load * capacity(SIZES)
    late = simulate(LateBinding(SIZES), rate=rate, jobs=6_000, seed=SEED)
    fixed = [
        simulate(FixedWindow(SIZES, wait_s), rate=rate, jobs=6_000, seed=SEED)
        for wait_s in (0.010, 0.030)
    ]
    mean = late.mean_s / min(one.mean_s for one in fixed)
    p99 = late.p99_s / min(one.p99_s for one in fixed)
    print(f"seed {SEED}, load {load}: mean x{mean:.3f}, p99 x{p99:.3f} of the better fixed window")
    assert mean < 0.85
    assert p99 < 1.0


def test_it_is_the_same_every_time() -> None:
    runs = [simulate(LateBinding(SIZES), rate=1500, jobs=500, seed=7) for _ in range(2)]
    assert runs[0] == runs[1]


def test_a_lone_job_is_not_kept_waiting() -> None:
    lone = simulate(LateBinding(SIZES), rate=0.1, jobs=20, seed=3)
    assert lone.p99_s == pytest.approx(0.00525)
