"""How ``forebay top`` looks: the document of ``screen`` as tables, plain or drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from producers.cli.curve import bytes_text, seconds_text
from producers.cli.output import say, say_table

MOST_ROWS = 15
WEBHOOKS_WAIT_S = 5.0  # one that is just due is on its way

Column: TypeAlias = Callable[[Any], str]  # a cell as people read it


def headline(found: Mapping[str, Any]) -> str:
    """The whole in one line."""
    workers = len(found["workers"])
    return (
        f"{_count(found['backlog_jobs'])} queued, {_seconds(found['backlog_s'])} of work,"
        f" oldest {_seconds(found['oldest_s'])} · {workers} worker{'' if workers == 1 else 's'} ·"
        f" {_count(found['jobs_per_s'])} jobs/s"
    )


def stages_line(found: Mapping[str, Any]) -> str:
    """How long a batch takes in each stage, and a job's share of it."""
    return "  ".join(
        f"{one['stage']} {_seconds(one['mean_s'])} ({_seconds(one['per_job_s'])} a job)"
        for one in found["stages"]
        if one["mean_s"] is not None
    )


def trouble_line(found: Mapping[str, Any]) -> str:
    """What should not be there."""
    return "  ".join(
        f"{name.replace('_', ' ')} {per_s:.2f}/s"
        for name, per_s in found["trouble"].items()
        if per_s
    )


def keeper_line(found: Mapping[str, Any]) -> str:
    """What background duties are behind with; nothing when all is well."""
    parts = [f"{duty} lags {_seconds(lag_s)}" for duty, lag_s in found["lagging"].items()]
    if found["webhooks_due"] and found["webhook_oldest_due_s"] > WEBHOOKS_WAIT_S:
        oldest = _seconds(found["webhook_oldest_due_s"])
        parts.append(f"{_count(found['webhooks_due'])} webhooks due, oldest {oldest}")
    return "keeper: " + "  ".join(parts) if parts else ""


def _text(value: Any) -> str:
    return "-" if value is None else str(value)


def _count(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if 0 < value < 10 and value != int(value) else f"{value:,.0f}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    if value >= 3600:
        return f"{value / 3600:,.1f} h"
    if value >= 120:
        return f"{value / 60:.0f} min"
    return "0 s" if value == 0 else seconds_text(value)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def _bytes(value: float | None) -> str:
    return "-" if value is None else bytes_text(value)


_PASSES: dict[str, tuple[str, Column]] = {
    "batch_mean": ("batch", _count),
    "fill": ("fill", _percent),
}
_AGES: dict[str, tuple[str, Column]] = {
    "age_p50_s": ("age p50", _seconds),
    "age_p95_s": ("age p95", _seconds),
}
_QUEUED: dict[str, tuple[str, Column]] = {
    "queued": ("queued", _count),
    "backlog_s": ("work", _seconds),
}
TABLES: Mapping[str, Mapping[str, tuple[str, Column]]] = {
    "workers": {
        "worker": ("worker", _text),
        "device": ("device", _text),
        "busy": ("busy", _percent),
        "jobs_per_s": ("jobs/s", _count),
        **_PASSES,
        "models": ("models", _count),
        "memory_bytes": ("memory", _bytes),
    },
    "models": {
        "model": ("model", _text),
        "tenant": ("tenant", _text),
        **_QUEUED,
        **_AGES,
        "rows_per_s": ("rows/s", _count),
        **_PASSES,
    },
    "tenants": {
        "tenant": ("tenant", _text),
        "queued": ("queued", _count),
        "oldest_s": ("oldest", _seconds),
        "jobs_per_s": ("done/s", _count),
    },
    "classes": {
        "class": ("class", _text),
        **_QUEUED,
        **_AGES,
        "rows_per_s": ("rows/s", _count),
        **_PASSES,
    },
}


def rows_of(found: Mapping[str, Any], table: str) -> list[list[str]]:
    """A table's cells, as people read them."""
    columns = TABLES[table]
    return [[show(row[key]) for key, (_, show) in columns.items()] for row in found[table]]


def titles_of(table: str) -> list[str]:
    """A table's columns."""
    return [title for title, _ in TABLES[table].values()]


def _more(rows: Sequence[object]) -> str:
    return f"… {len(rows) - MOST_ROWS} more" if len(rows) > MOST_ROWS else ""


def print_plainly(found: Mapping[str, Any]) -> None:
    """Aligned lines."""
    say(headline(found))
    for line in (stages_line(found), trouble_line(found), keeper_line(found)):
        if line:
            say(line)
    for table in TABLES:
        rows = rows_of(found, table)
        if rows:
            say()
            say_table(titles_of(table), rows[:MOST_ROWS], empty="")
            if _more(rows):
                say(_more(rows))


def drawn(found: Mapping[str, Any]) -> Any:
    """What rich draws."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[Any] = [Text(headline(found), style="bold")]
    if not found["measured"] and found["workers"]:
        parts.append(Text("waiting for the workers' next figures …", style="dim"))
    if line := stages_line(found):
        parts.append(Text(line, style="dim"))
    for line in filter(None, (trouble_line(found), keeper_line(found))):
        parts.append(Text(line, style="red"))
    for name in TABLES:
        rows = rows_of(found, name)
        if not rows:
            continue
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=_more(rows) or None)
        for place, title in enumerate(titles_of(name)):
            table.add_column(title, justify="left" if place == 0 else "right", no_wrap=True)
        for row in rows[:MOST_ROWS]:
            table.add_row(*row)
        parts.append(table)
    return Group(*parts)
