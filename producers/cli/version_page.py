"""``forebay models show``: what there is to know of one version, for a person to read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from producers.cli.curve import bytes_text, seconds_text, show_curves
from producers.cli.output import note, say, say_fields


def show_version(version: Mapping[str, Any]) -> None:
    """A version as ``GET /v1/models/{name}/versions/{version}`` tells it."""
    signature = version.get("signature") or {}
    say_fields(
        {
            "version": f"{version['name']}:{version['version']}  {version['state']}",
            "archive": f"{version['format']}, {version['size_bytes']:,} bytes,"
            f" sha256 {str(version['digest'])[:12]}"
            if version.get("digest")
            else None,
            "created": version.get("created_at"),
            "loaded": version.get("loaded_at"),
            "deleted": version.get("deleted_at"),
            "uploader": version.get("uploader"),
            "licence": version.get("licence"),
            "notes": version.get("notes"),
            **_origin(version.get("origin") or {}),
            "takes": signature.get("form"),
            "inputs": _specs(signature.get("inputs", ())),
            "outputs": _specs(signature.get("outputs", ())),
            "labels": _labels(signature),
            "serving": _knobs(version.get("serving", {}), signature.get("serving", {})),
        }
    )
    if version.get("error"):
        note(f"forebay: {version['error']}")
    for cost in version.get("costs", ()):
        say_fields({f"on {cost['device']}": _cost(cost)})
    curves = version.get("latency", ())
    if curves:
        show_curves(curves)
    elif version["state"] == "ready":
        say("\nno pass has been measured yet")


def _origin(origin: Mapping[str, Any]) -> dict[str, str]:
    """Of a version that a training made: by which job, from what, and what was measured."""
    evaluation = origin.get("evaluation") or {}
    figures = {
        **(evaluation.get("metrics") or {}),
        **{name: value for name, value in evaluation.items() if name != "rows"},
    }
    numbers = [f"{k} {v:.4g}" for k, v in figures.items() if type(v) in (int, float)]
    rows = f"{evaluation.get('rows', 0):,} rows of {evaluation.get('on')}"
    return {
        "trained by": str(origin.get("job_id") or ""),
        "trained on": ", ".join(map(str, origin.get("parents") or ())),
        "measured": f"{', '.join(numbers)} on {rows}" if numbers else "",
    }


def _specs(specs: Sequence[Mapping[str, Any]]) -> str:
    """``x float32 [28, 28, 1]``; an axis of any length is ``?``."""
    return ", ".join(
        f"{spec.get('name')} {spec.get('dtype')}"
        f" [{', '.join('?' if size is None else str(size) for size in spec.get('shape') or ())}]"
        for spec in specs
    )


def _labels(signature: Mapping[str, Any]) -> str:
    labels = signature.get("labels") or ()
    if not labels:
        return ""
    few = ", ".join(map(str, labels[:5])) + (", …" if len(labels) > 5 else "")
    return f"{len(labels)} ({few}), the best {signature.get('top_k', 1)} shown"


def _knobs(knobs: Mapping[str, Any], turned: Mapping[str, Any]) -> str:
    """Every knob in force that means something, those that its pusher turned marked."""
    shown = []
    for name, value in knobs.items():
        if value in (None, [], {}, False) and name not in turned:
            continue
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        shown.append(f"{name}={text}" + ("*" if name in turned else ""))
    return "  ".join(shown) + ("   (* as pushed)" if turned else "")


def _cost(cost: Mapping[str, Any]) -> str:
    parts = []
    if cost.get("load_s"):
        parts.append(f"loads in {seconds_text(cost['load_s'])}")
    if cost.get("memory_bytes"):
        parts.append(f"holds {bytes_text(cost['memory_bytes'])}")
    if cost.get("device_s_per_job"):
        parts.append(f"{seconds_text(cost['device_s_per_job'])} of device a job")
    if cost.get("path_s_per_job"):
        path_s = cost["path_s_per_job"]
        parts.append(f"{seconds_text(path_s)} a job in all ({1 / path_s:,.0f} jobs/s)")
    if cost.get("safe_rows"):
        parts.append(f"at most {cost['safe_rows']:,} rows fit")
    return ", ".join(parts) or "nothing measured yet"
