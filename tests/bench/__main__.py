"""``python -m tests.bench``: every figure in one run on one machine; writes ``bench.json``.

``--quick`` is a smoke test: small numbers, no meaning. ``--only`` picks figures.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.bench import flood, latency, long_polls, report, startup, throughput
from tests.bench.report import Figure
from tests.bench.rig import Rig, rig

ROOT = Path(__file__).resolve().parents[2]
ON_ONE_STACK = {"latency": latency, "long-polls": long_polls, "flood": flood}
NAMES = ("help", "throughput", *ON_ONE_STACK)


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
    if set(chosen) - {"help"}:
        with (
            tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder,
            rig(Path(folder), quick=wanted.quick) as made,
        ):
            figures += _on_the_rig(made, chosen)
    report.show(figures)
    report.write(figures, wanted.output)
    return int(wanted.strict and not all(figure.met for figure in figures))


def _on_the_rig(made: Rig, chosen: list[str]) -> list[Figure]:
    figures: list[Figure] = []
    if "throughput" in chosen:
        figures += throughput.measure(made)
    if set(chosen) & set(ON_ONE_STACK):
        with made.stack() as stack:
            for name, figure in ON_ONE_STACK.items():
                if name in chosen:
                    print(f"measuring {name}", flush=True)
                    figures += figure.measure(made, stack)
    return figures


if __name__ == "__main__":
    sys.exit(main())
