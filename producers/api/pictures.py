"""A training's curves as a picture. Matplotlib is loaded when the first one is asked for: it takes
a second, and only this needs it."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from storage.records.errors import NotBuilt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 100
MAX_PANELS = 9
TRAINING, VALIDATION, STEPS = "#2563eb", "#d9480f", "#9db8ee"
_NOT_MEASURED = frozenset({"epoch", "seconds", "rows", "learning_rate", "step"})


def curves_png(curves: Mapping[str, Any], width: int, height: int) -> bytes:
    """One panel for the loss and each metric: by epoch, training and validation, steps behind."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise NotBuilt("this service draws no pictures: matplotlib is not installed") from None
    names = measures_of(curves)[:MAX_PANELS] or ["loss"]
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{curves['model']}  ·  {curves['state']}", fontsize=11)
    for place, name in enumerate(names):
        _draw(figure.add_subplot(rows, columns, place + 1), curves, name)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    return drawn.getvalue()


def measures_of(curves: Mapping[str, Any]) -> list[str]:
    """What was measured, the loss first; validation's under the same name."""
    found: dict[str, None] = {}
    for row in (*curves["epochs"], curves["steps"]):
        for name in row:
            if name not in _NOT_MEASURED:
                found.setdefault(name.removeprefix("val_"))
    return sorted(found, key=lambda name: name != "loss")


def steps_per_epoch(curves: Mapping[str, Any]) -> float:
    """How many steps an epoch has, as far as one can tell."""
    if curves["steps_total"] and curves["epochs_total"]:
        return float(curves["steps_total"] / curves["epochs_total"])
    if curves["epoch"] and curves["step"]:
        return float(curves["step"] / curves["epoch"])
    return float(max(curves["steps"].get("step") or [1]))


def _draw(axes: Axes, curves: Mapping[str, Any], name: str) -> None:
    axes.set_title(name, fontsize=10)
    axes.set_xlabel("epoch", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    steps = curves["steps"]
    if name in steps:
        length = steps_per_epoch(curves)
        pairs = zip(steps["step"], steps[name], strict=True)
        looked = [(step / length, value) for step, value in pairs if value is not None]
        at, values = [x for x, _ in looked], [y for _, y in looked]
        axes.plot(at, values, color=STEPS, linewidth=0.7, zorder=1)
    marker = "o" if len(curves["epochs"]) <= 40 else ""
    for key, label, colour in (
        (name, "training", TRAINING),
        (f"val_{name}", "validation", VALIDATION),
    ):
        rows = [row for row in curves["epochs"] if key in row]
        if rows:
            axes.plot(
                [row["epoch"] for row in rows],
                _numbers([row[key] for row in rows]),
                color=colour,
                label=label,
                marker=marker,
                markersize=3,
                linewidth=1.6,
                zorder=2,
            )
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8, frameon=False)


def _numbers(values: Sequence[float | None]) -> list[float]:
    """With a gap where nothing was measured."""
    return [math.nan if value is None else float(value) for value in values]
