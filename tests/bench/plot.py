"""The bench's one picture: latency over load, drawn from what the harness printed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

STYLES = {
    "batcher": ("#0b6e4f", "o"),
    "10 ms window": ("#d1495b", "s"),
    "30 ms window": ("#edae49", "^"),
}


def latency_over_load(
    loads: Sequence[float],
    curves: Mapping[str, Mapping[str, Sequence[float]]],
    capacity_per_s: int,
    path: Path,
) -> None:
    """Mean on the left, p99 on the right, one line for each policy."""
    # Its font cache belongs beside our other caches, not into somebody's home.
    root = Path(__file__).resolve().parents[2]
    os.environ.setdefault("MPLCONFIGDIR", str(root / ".cache" / "matplotlib"))
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2)
    percent = [load * 100 for load in loads]
    for axis, key, title in zip(axes, ("mean_ms", "p99_ms"), ("mean", "p99"), strict=True):
        for name, curve in curves.items():
            colour, mark = STYLES[name]
            axis.plot(percent, curve[key], color=colour, marker=mark, linewidth=2, label=name)
        axis.set_title(title)
        axis.set_xlabel(f"load, % of capacity ({capacity_per_s:,} items/s)")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("arrival to answer, ms")
    axes[0].legend(frameon=False)
    figure.savefig(path)
