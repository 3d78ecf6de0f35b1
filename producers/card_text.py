"""A model card as Markdown (CommonMark with tables), for people to read and to keep beside a model.

Names, notes, labels and addresses are whatever somebody wrote: none of it becomes markup, a link or
HTML. Only text is escaped that is not ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_SPECIAL = re.compile(r"([\\`*_\[\]<>#|~&$@])")
_LINK = re.compile(r"(?i)(://|\bwww\.|\bmailto:)")
_BREAKS = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")
_FIRST_OF_A_LINE = re.compile(r"^(\d*)([.)+=-])")  # what makes a list or a heading of it
_SHOWN_VALUES = 20  # of a slice's column, most rows first
_FIRST = (
    *("accuracy", "precision", "recall", "f1", "auc", "log_loss", "brier", "ece", "mce"),
    *("mse", "mae", "rmse", "r2", "bias", "disagreement", "failed_share", "rows"),
)


def text(value: object) -> str:
    """Somebody's text as one line of Markdown that shows it as it is."""
    line = _BREAKS.sub(" ", str(value)).strip()
    line = _LINK.sub(lambda found: found[1][:-1] + "\0" + found[1][-1], line)
    line = _SPECIAL.sub(r"\\\1", line).replace("\0", "\\")
    return _FIRST_OF_A_LINE.sub(r"\1\\\2", line)


def code(value: object) -> str:
    """Somebody's text as a code span. Within a table ``|`` ends a cell even there."""
    line = _BREAKS.sub(" ", str(value)).strip()
    if not line or "|" in line:
        return text(line)
    fence = "`" * (1 + max((len(run) for run in re.findall(r"`+", line)), default=0))
    pad = " " if line[0] == "`" or line[-1] == "`" else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def to_markdown(card: Mapping[str, Any]) -> str:
    """The card, a heading for each part; ends in a line break."""
    blocks = [f"# {text(card['model'])}", *_head(card)]
    for title, part in (
        ("What it takes and gives", _signature(card["signature"])),
        ("Where it comes from", _training(card["training"], card["made_from_it"])),
        ("How good it is", _evaluations(card["evaluations"])),
        ("How it is served", _serving(card)),
        ("Where it stood", _history(card)),
        ("What depends on it", _in_use_by(card["in_use_by"])),
    ):
        blocks += [f"## {title}", *part]
    if card["not_known"]:
        blocks += ["## What is not known", ", ".join(card["not_known"]) + "."]
    return "\n\n".join(blocks) + "\n"


def _head(card: Mapping[str, Any]) -> Iterator[str]:
    artifact = card["artifact"]
    yield _bullets(
        {
            "State": card["state"] + (f": {text(card['error'])}" if card["error"] else ""),
            "Aliases": ", ".join(code(f"{card['name']}@{alias}") for alias in card["aliases"]),
            "Licence": card["licence"] and text(card["licence"]),
            "Uploaded by": card["uploader"] and code(card["uploader"]),
            "Created": card["created_at"],
            "Loaded": card["loaded_at"],
            "Deleted": card["deleted_at"],
            "Artifact": artifact
            and f"{artifact['format']}, {artifact['size_bytes']:,} bytes"
            + (", trusted by the operator" if artifact["trusted"] else "")
            + (f", taken away {artifact['collected_at']}" if artifact["collected_at"] else ""),
            "SHA-256": artifact and code(artifact["sha256"]),
        }
    )
    if card["notes"]:
        yield "\n".join(f"> {text(line)}".rstrip() for line in card["notes"].splitlines())


def _signature(told: Mapping[str, Any]) -> Iterator[str]:
    labels, total = told["labels"], told["labels_total"]
    more = f", and {total - len(labels):,} more" if total > len(labels) else ""
    yield (
        _bullets(
            {
                "Callers send": told["form"],
                "Inputs": ", ".join(map(_spec, told["inputs"])),
                "Outputs": ", ".join(map(_spec, told["outputs"])),
                "Columns": ", ".join(
                    f"{code(one.get('name'))} ({one.get('type', 'number')})"
                    for one in told["columns"]
                ),
                f"Labels ({total:,})": ", ".join(map(code, labels)) + more,
            }
        )
        or "Its signature is not known."
    )


def _spec(spec: Mapping[str, Any]) -> str:
    sizes = ", ".join("any" if size is None else str(size) for size in spec.get("shape") or ())
    shape = f" of {sizes}" if sizes else ""
    return f"{code(spec.get('name'))}: {spec.get('dtype')}{shape}"


def _training(told: Mapping[str, Any] | None, children: Sequence[str]) -> Iterator[str]:
    if told is None:
        yield "It was pushed. How it was trained is not known."
    else:
        spec, data = told["spec"] or {}, told["data"] or {}
        network, split = spec.get("network") or {}, data.get("split") or {}
        yield _bullets(
            {
                "Training job": told["job"] and code(told["job"]),
                "Begun with": ", ".join(map(code, told["parents"] or ())),
                "Network": code(network.get("recipe") or network.get("version") or "its own"),
                "Loss": code((spec.get("loss") or {}).get("name")),
                "Optimizer": code((spec.get("optimizer") or {}).get("name")),
                "Data": ", ".join(map(code, (spec.get("data") or {}).get("uris") or ())),
                "Data digest": data.get("digest") and code(data["digest"]),
                "Rows": ", ".join(f"{count:,} {part}" for part, count in split.items()),
                "Epochs": told["epochs"],
                "Steps": told["steps"],
                "Ended by": told["stopped"],
                "Trained for": told["seconds"] and f"{told['seconds']:,} s",
                "Measured then": _own_figures(told["evaluation"] or {}),
            }
        )
    if children:
        yield _bullets({"Made from it": ", ".join(map(code, children))})


def _own_figures(told: Mapping[str, Any]) -> str:
    """What the training measured on the rows that it set aside."""
    figures = {**(told.get("metrics") or {}), **{k: v for k, v in told.items() if k != "rows"}}
    said = [f"{text(name)} {_number(value)}" for name, value in figures.items() if _is(value)]
    if not said:
        return ""
    return f"{', '.join(said)} on {told.get('rows', 0):,} {told.get('on')} rows"


def _evaluations(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not found:
        yield "It was not evaluated."
    for one in found:
        data = one["data"]
        yield f"### Evaluation of {one['created_at']}"
        yield _bullets(
            {
                "Job": code(one["job"]),
                "Data": ", ".join(map(code, data.get("uris") or ())),
                "Data digest": data.get("digest") and code(data["digest"]),
                "Label": data.get("label") and code(data["label"]),
                "Rows": f"{one['rows']:,}",
                "Beside": _against(one["against"]),
            }
        )
        yield _table(
            ("metric", "value", "95 % interval"),
            (
                (text(name), _number(one["metrics"][name]), _interval(one["intervals"].get(name)))
                for name in _in_order(one["metrics"])
            ),
        )
        for piece in one["slices"]:
            yield from _slice(piece)


def _against(told: Mapping[str, Any] | None) -> str:
    if told is None:
        return ""
    whom = told["model"] or told["job"] or told["group"] or "another"
    said = f"{code(whom)}: {told['disagreed']:,} of {told['rows']:,} rows differ"
    return said + (f" ({_number(told['share'])})" if _is(told["share"]) else "")


def _slice(piece: Mapping[str, Any]) -> Iterator[str]:
    values = sorted(piece.get("values") or (), key=lambda one: -one["rows"])
    names = [name for name in _in_order(_names_of(values)) if name not in ("rows", "failed_share")]
    yield f"By {code(piece.get('column'))}:"
    rows = (
        (
            text(one["value"]),
            f"{one['rows']:,}",
            *(_number((one.get("metrics") or {}).get(name)) for name in names[:4]),
        )
        for one in values[:_SHOWN_VALUES]
    )
    yield _table(("value", "rows", *map(text, names[:4])), rows)
    left = len(values) - _SHOWN_VALUES
    others = max(left, 0) + (piece.get("other_values") or 0)
    if others:
        yield f"{others:,} further values are not shown."


def _names_of(values: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: None for one in values for name in one.get("metrics") or {}}


def _serving(card: Mapping[str, Any]) -> Iterator[str]:
    knobs = {k: v for k, v in card["serving"].items() if v not in (None, [], (), {}, False)}
    if knobs:
        yield _bullets({"Knobs": ", ".join(f"{k} {code(v)}" for k, v in sorted(knobs.items()))})
    if not card["costs"] and not card["latency"]:
        yield "No pass was measured."
    for cost in card["costs"]:
        yield _bullets({f"On {text(cost['device'])}": _cost(cost)})
    if card["latency"]:
        yield _table(
            ("device", "shape", "rows of a pass", "mean", "p95", "passes"),
            (
                (
                    text(row["device"]),
                    text(row["shape"] or "any"),
                    f"{row['bucket']:,}",
                    f"{1000 * row['mean_s']:.3f} ms",
                    f"{1000 * row['p95_s']:.3f} ms",
                    f"{row['count']:,}",
                )
                for row in sorted(
                    card["latency"], key=lambda row: (row["device"], row["shape"], row["bucket"])
                )
            ),
        )


def _cost(cost: Mapping[str, Any]) -> str:
    said = [
        f"loads in {cost['load_s']:.2f} s",
        f"holds {cost['memory_bytes']:,} bytes",
        f"{1000 * cost['device_s_per_job']:.3f} ms of device a job",
        f"{1000 * cost['path_s_per_job']:.3f} ms a job in all",
    ]
    return ", ".join(said + ([f"{cost['safe_rows']:,} rows fit"] if cost["safe_rows"] else []))


def _history(card: Mapping[str, Any]) -> Iterator[str]:
    if not card["stood_for"] and not card["trials"]:
        yield "No alias ever stood for it, and it took part in no trial."
    if card["stood_for"]:
        yield _table(
            ("alias", "since", "until", "why", "by", "gate", "note"),
            (
                (
                    code(one["alias"]),
                    str(one["since"]),
                    f"{one['until']} (then version {one['then']})" if one["until"] else "now",
                    text(one["why"]),
                    *(text(one[name] or "") for name in ("by", "gate", "note")),
                )
                for one in card["stood_for"]
            ),
        )
    if card["trials"]:
        yield _table(
            ("trial", "kind", "alias", "as", "share", "state", "began", "reason"),
            (
                (
                    code(one["id"]),
                    one["kind"],
                    code(one["alias"]),
                    f"{one['role']}, with version {one['other']}",
                    f"{100 * one['share']:.4g} %",
                    one["state"],
                    str(one["created_at"]),
                    text(one["reason"] or ""),
                )
                for one in card["trials"]
            ),
        )


def _in_use_by(told: Mapping[str, Any]) -> Iterator[str]:
    said = {
        "Aliases": ", ".join(map(code, told["aliases"])),
        "Queued jobs": told["queued_jobs"] and f"{told['queued_jobs']:,}",
        "Running jobs": told["running_jobs"] and f"{told['running_jobs']:,}",
        "Trials": ", ".join(map(code, told["trials"])),
        "Trainings that begin with it": ", ".join(map(code, told["trainings"])),
    }
    yield _bullets(said) or "Nothing."


def _in_order(names: Mapping[str, Any]) -> list[str]:
    """The usual metrics in their usual order, then the others by name."""
    usual = [name for name in _FIRST if name in names]
    return usual + sorted(names.keys() - set(usual))


def _is(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: object) -> str:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _interval(told: Sequence[float | None] | None) -> str:
    return f"{_number(told[0])} to {_number(told[1])}" if told else ""


def _bullets(said: Mapping[str, object]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in said.items() if value)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
