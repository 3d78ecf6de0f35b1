"""An evaluation for people: what was measured, slice by slice, and what changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from producers.cli.bulk_answers import duration
from producers.cli.exits import Exit, of_states
from producers.cli.output import note, say, say_fields, say_json, say_table

if TYPE_CHECKING:
    from producers.client import Job

LABELS, VALUES, MOVES, EXAMPLES = 20, 20, 10, 10  # lines of each table
CELL = 30
_LEADING = ("accuracy", "f1", "auc", "mae", "rmse", "r2")  # what a slice's line has room for
_SHOWN_ABOVE = ("rows", "failed_share", "disagreement")


def end_of_evaluation(job: Job, *, as_json: bool, name: str | None = None) -> Exit:
    """Print how it ended."""
    result = job.result if job.state == "succeeded" else None
    if as_json:
        say_json(dict(job.document) | ({"result": result} if result is not None else {}))
    elif result is None:
        why = f": {job.error.get('code')}: {job.error.get('message')}" if job.error else ""
        note(f"forebay: job {job.id} {job.state}{why}")
        if job.progress.get("rows_done"):
            note(f"  what is scored is kept: forebay jobs retry {job.id}")
    else:
        say_evaluation(result, job=name)
        note(f"its answers, row by row: forebay jobs download {job.id} DIR")
    return of_states([job.state])


def say_evaluation(document: Mapping[str, Any], *, job: str | None = None) -> None:
    """The whole of it, as tables."""
    _say_rows(document, job)
    _say_metrics(document)
    _say_labels(document.get("labels") or [])
    for one in document.get("slices") or []:
        _say_slice(one)
    if against := document.get("against"):
        say()
        say_against(against)


def say_against(against: Mapping[str, Any]) -> None:
    """What changed since the rows were answered before."""
    before = against.get("model") or "several versions"
    whose = f"job {against['job']}" if against.get("job") else f"group {against.get('group')}"
    share = against.get("share")
    disagreed = f"{against.get('disagreed') or 0:,}"
    if share is not None:
        within = interval(against.get("interval"), percent=True)
        disagreed += f" ({100 * share:.2f} %" + (f", {within})" if within else ")")
    numbers = against.get("differences") or {}
    say_fields(
        {
            "compared with": f"{before}, {whose}",
            "rows": f"{against.get('rows') or 0:,}",
            "missing": f"{against['missing']:,}" if against.get("missing") else None,
            "disagreed": disagreed,
            "fixed": _count(against.get("fixed")),
            "broken": _count(against.get("broken")),
            **{f"difference {key}": number(value) for key, value in numbers.items()},
        }
    )
    moves = list(against.get("transitions") or [])
    if moves:
        say()
        rows = [(cell(one["from"]), cell(one["to"]), f"{one['rows']:,}") for one in moves[:MOVES]]
        say_table(("before", "after", "rows"), rows, empty="")
        _more(len(moves) - MOVES, "changes")
    _say_examples(list(against.get("examples") or []))


def number(value: Any) -> str | None:
    """A figure in a few characters; None for none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    if value != 0 and abs(value) < 1e-4:
        return f"{value:.2e}"
    return f"{value:.4f}" if abs(value) < 1_000 else f"{value:,.1f}"


def interval(found: Any, *, percent: bool = False) -> str | None:
    """``0.9580 – 0.9790``, or ``2.10 – 4.30 %``."""
    if not isinstance(found, Sequence) or len(found) != 2 or None in found:
        return None
    if percent:
        return f"{100 * found[0]:.2f} – {100 * found[1]:.2f} %"
    return f"{number(found[0])} – {number(found[1])}"


def cell(value: Any) -> str | None:
    """A value in a table's cell."""
    if value is None:
        return None
    text = number(value) if isinstance(value, float) else str(value)
    assert text is not None
    return text if len(text) <= CELL else text[: CELL - 1] + "…"


def _say_rows(document: Mapping[str, Any], job: str | None) -> None:
    data = document.get("data") or {}
    unknown = document.get("unknown_labels") or 0
    named = ", ".join(str(one) for one in (document.get("unknown_label_values") or [])[:5])
    wall_s = document.get("wall_s")
    say_fields(
        {
            "job": job,
            "model": document.get("model"),
            "label": data.get("label"),
            "data": str(data["digest"])[:12] if data.get("digest") else None,
            "rows": f"{document.get('rows') or 0:,}",
            "failed": _count(document.get("failed") or None),
            "skipped": _count(document.get("skipped") or None),
            "unlabelled": _count(document.get("unlabelled") or None),
            "unknown labels": f"{unknown:,} ({named})" if unknown else None,
            "time": None if wall_s is None else duration(float(wall_s)),
            "device": f"{document['device_s']:,.1f} s" if document.get("device_s") else None,
        }
    )


def _say_metrics(document: Mapping[str, Any]) -> None:
    within = document.get("intervals") or {}
    rows = [
        (name, number(value), interval(within.get(name)))
        for name, value in (document.get("metrics") or {}).items()
        if name not in _SHOWN_ABOVE
    ]
    if rows:
        say()
        say_table(("metric", "value", "95 % interval"), rows, empty="")


def _say_labels(labels: Sequence[Mapping[str, Any]]) -> None:
    if not labels:
        return
    say()
    names = ("precision", "recall", "f1")
    rows = [
        (
            cell(one.get("label")),
            f"{one.get('support') or 0:,}",
            *(number(one.get(n)) for n in names),
        )
        for one in labels[:LABELS]
    ]
    say_table(("label", "rows", *names), rows, empty="")
    _more(len(labels) - LABELS, "labels")


def _say_slice(one: Mapping[str, Any]) -> None:
    values = list(one.get("values") or [])
    if not values:
        return
    measured = [value.get("metrics") or {} for value in values]
    names = [name for name in _LEADING if any(m.get(name) is not None for m in measured)][:3]
    first = names[0] if names else ""
    say()
    rows = [
        (
            cell(value.get("value")),
            f"{value.get('rows') or 0:,}",
            *(number((value.get("metrics") or {}).get(name)) for name in names),
            interval((value.get("intervals") or {}).get(first)),
        )
        for value in values[:VALUES]
    ]
    columns = (str(one.get("column")), "rows", *names, f"{first} within".strip())
    say_table(columns, rows, empty="")
    _more(len(values) - VALUES, "values")
    if one.get("other_values"):
        others = f"{one['other_values']:,} further values of {one.get('column')}"
        note(f"{others}, {one.get('other_rows') or 0:,} rows, are not told apart")


def _say_examples(examples: Sequence[Mapping[str, Any]]) -> None:
    if not examples:
        return
    names = dict.fromkeys(name for one in examples for name in one)
    say()
    rows = [[cell(one.get(name)) for name in names] for one in examples[:EXAMPLES]]
    say_table([name.replace("_", " ") for name in names], rows, empty="")
    _more(len(examples) - EXAMPLES, "examples")


def _count(value: Any) -> str | None:
    return None if value is None else f"{value:,}"


def _more(count: int, what: str) -> None:
    if count > 0:
        note(f"and {count:,} more {what}: --json has them")
