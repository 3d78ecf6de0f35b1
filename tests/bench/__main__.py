"""``python -m tests.bench``: every figure in one run on one machine; writes ``bench.json``.

``--quick`` is a smoke test: small numbers, no meaning. ``--only`` picks figures.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

from tests.bench import (
    bulk_cores,
    bulk_digits,
    bulk_kill,
    bulk_memory,
    bulk_photographs,
    bulk_shards,
    device_bound,
    finished,
    flood,
    latency,
    load_latency,
    long_polls,
    memory,
    online,
    profile,
    report,
    startup,
    swapping,
    throughput,
    training_epoch,
    training_memory,
    training_quality,
    training_start,
    webhooks,
)
from tests.bench.report import Figure
from tests.bench.rig import Rig, rig, settle
from tests.support.stack import FullStack

ROOT = Path(__file__).resolve().parents[2]


class OnAStack(Protocol):
    """A module that measures on a running stack."""

    def measure(self, rig: Rig, stack: FullStack) -> list[Figure]: ...


class OnARig(Protocol):
    """A module that starts what it needs."""

    def measure(self, rig: Rig) -> list[Figure]: ...


# In this order: what is measured idle comes before what leaves a database with work to do.
ON_THE_FIRST_STACK: Mapping[str, OnAStack] = {
    "latency": latency,
    "long-polls": long_polls,
    "online": online,
}
ON_THE_LAST_STACK: Mapping[str, OnAStack] = {"flood": flood, "memory": memory}
WITHOUT_SERVERS = ("help", load_latency.NAME)
WITH_STACKS_OF_ITS_OWN: Mapping[str, OnARig] = {
    "profile": profile,
    "device-bound": device_bound,
    "finished": finished,
    webhooks.NAME: webhooks,
    bulk_digits.NAME: bulk_digits,
    bulk_photographs.NAME: bulk_photographs,
    bulk_memory.NAME: bulk_memory,
    bulk_cores.NAME: bulk_cores,
    bulk_shards.NAME: bulk_shards,
    bulk_kill.NAME: bulk_kill,
    training_start.NAME: training_start,
    training_epoch.NAME: training_epoch,
    training_quality.NAME: training_quality,
    training_memory.NAME: training_memory,
    swapping.NAME: swapping,
}
NAMES = (
    *WITHOUT_SERVERS,
    *ON_THE_FIRST_STACK,
    *throughput.NAMES,
    *WITH_STACKS_OF_ITS_OWN,
    *ON_THE_LAST_STACK,
)


def main() -> int:
    """Measure, show, write."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it runs")
    parser.add_argument("--only", action="append", choices=NAMES, help="this figure (repeatable)")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a figure is not met")
    parser.add_argument("--output", type=Path, default=ROOT / "bench.json")
    wanted = parser.parse_args()
    chosen = wanted.only or list(NAMES)
    figures: list[Figure] = []
    if "help" in chosen:
        figures += startup.measure()
    if load_latency.NAME in chosen:
        figures += load_latency.measure(wanted.output.parent, quick=wanted.quick)
    if set(chosen) - set(WITHOUT_SERVERS):
        with (
            tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder,
            rig(Path(folder), quick=wanted.quick) as made,
        ):
            figures += _on_the_rig(made, chosen)
    report.show(figures)
    report.write(figures, wanted.output)
    return int(wanted.strict and not all(figure.met for figure in figures))


def _on_the_rig(made: Rig, chosen: Collection[str]) -> list[Figure]:
    figures = _on_one_stack(made, chosen, ON_THE_FIRST_STACK)
    if set(throughput.NAMES) & set(chosen):
        figures += throughput.measure(made, chosen)
    for name, module in WITH_STACKS_OF_ITS_OWN.items():
        if name in chosen:
            print(f"measuring {name}", flush=True)
            figures += module.measure(made)
    return figures + _on_one_stack(made, chosen, ON_THE_LAST_STACK)


def _on_one_stack(
    made: Rig, chosen: Collection[str], modules: Mapping[str, OnAStack]
) -> list[Figure]:
    figures: list[Figure] = []
    if set(chosen) & set(modules):
        with made.stack() as stack:
            for name, module in modules.items():
                if name in chosen:
                    print(f"measuring {name}", flush=True)
                    settle(stack)
                    figures += module.measure(made, stack)
    return figures


if __name__ == "__main__":
    sys.exit(main())
