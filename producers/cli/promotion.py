"""``forebay models promote|rollback|history|requeue``: aliases that move, and what is queued."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from producers.cli.connection import connect
from producers.cli.exits import Exit, Failure, usage
from producers.cli.options import AsJson
from producers.cli.output import note, say, say_json, say_table

if TYPE_CHECKING:
    from producers.client import Forebay
    from producers.client.errors import GateFailed

Name = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.")]
Expected = Annotated[
    int | None, typer.Option(min=1, help="Move it only if it stands at this version now.")
]
Note = Annotated[
    str | None, typer.Option("--note", metavar="TEXT", help="Kept with the move, for the history.")
]
Requeue = Annotated[
    bool,
    typer.Option("--requeue", help="Jobs queued for the version that it leaves go along."),
]


def promote(
    version: Annotated[str, typer.Argument(metavar="NAME:V", help="The candidate.")],
    to: Annotated[str, typer.Option("--to", metavar="ALIAS", help="As in NAME@ALIAS.")],
    gate: Annotated[
        str | None,
        typer.Option(
            "--if",
            metavar="GATE",
            help="Only if this holds: 'accuracy >= 0.97 and recall >= @prod.recall - 0.005'.",
        ),
    ] = None,
    expected: Expected = None,
    requeue: Requeue = False,
    remark: Note = None,
    allow_other_signature: Annotated[
        bool,
        typer.Option("--allow-other-signature", help="Even if it takes or gives something else."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be.")] = False,
    as_json: AsJson = False,
) -> None:
    """Point an alias at NAME:V, if a gate holds (exit code 1 when it does not)."""
    from producers.client.errors import GateFailed

    with connect() as client:
        try:
            answer = client.models.promote(
                version,
                to,
                gate=gate,
                expected=expected,
                note=remark,
                requeue=requeue,
                allow_other_signature=allow_other_signature,
                dry_run=dry_run,
            )
        except GateFailed as failed:
            raise _refused(failed, as_json=as_json) from failed
    if as_json:
        say_json(answer)
    else:
        _say_comparisons(answer["comparisons"])
        _say_measured(answer["measured"])
        _say_moved(answer)
    if answer["holds"] is False:
        raise typer.Exit(Exit.FAILED)


def rollback(
    name: Name,
    alias: Annotated[str, typer.Option("--alias", metavar="ALIAS", help="As in NAME@ALIAS.")],
    expected: Expected = None,
    requeue: Requeue = False,
    remark: Note = None,
    as_json: AsJson = False,
) -> None:
    """Take an alias's last move back; once more, and the one before it is."""
    with connect() as client:
        answer = client.models.rollback(
            name, alias, expected=expected, note=remark, requeue=requeue
        )
    if as_json:
        say_json(answer)
    else:
        _say_moved(answer)


def history(
    name: Name,
    alias: Annotated[
        str | None, typer.Option("--alias", metavar="ALIAS", help="This one only.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Where NAME's aliases stood, and why: the last move first."""
    with connect() as client:
        names = [alias] if alias else sorted(client.models.show(name)["aliases"])
        moves = _moves(client, name, names, limit)
    if as_json:
        say_json(moves)
        return
    rows = [
        (
            f"{move['alias']}#{move['generation']}",
            move["from_version"],
            move["version"],
            _why(move),
            move["moved_by"],
            move["moved_at"],
            _because(move),
        )
        for move in moves
    ]
    columns = ("move", "from", "to", "why", "by", "when", "because")
    say_table(columns, rows, empty=f"no alias of {name} ever moved")


def requeue(
    old: Annotated[str, typer.Argument(metavar="NAME:OLD", help="Whose queued jobs.")],
    new: Annotated[str, typer.Argument(metavar="NAME:NEW", help="Who answers them instead.")],
    as_json: AsJson = False,
) -> None:
    """Have jobs that are queued for one version answered by another; what runs stays as it is."""
    from producers.client.trials import version_of

    name, before = version_of(old)
    other, after = version_of(new)
    if other != name:
        raise usage(f"{old} and {new} are versions of two models", "requeue NAME:OLD NAME:NEW")
    with connect() as client:
        moved = client.models.requeue(name, before, after)
    if as_json:
        say_json({"name": name, "from": before, "to": after, "requeued": moved})
    else:
        say(_queued(moved, f"{name}:{after}"))


def _refused(failed: GateFailed, *, as_json: bool) -> Failure:
    """The gate does not hold: for people each comparison is the answer, for programs it is in the
    error."""
    if not as_json:
        _say_comparisons(failed.comparisons)
    return Failure(
        failed.message,
        exit_code=Exit.FAILED,
        code=failed.code,
        hint="nothing was changed",
        details={"status": failed.status, "field": failed.field}
        | ({"errors": [dict(one) for one in failed.comparisons]} if as_json else {}),
    )


def _say_comparisons(comparisons: Sequence[Mapping[str, Any]]) -> None:
    if not comparisons:
        return
    rows = [
        (
            one["comparison"],
            f"{one['left']:.6g}",
            f"{one['right']:.6g}",
            "yes" if one["holds"] else "no",
        )
        for one in comparisons
    ]
    say_table(("comparison", "left", "right", "holds"), rows, empty="")


def _say_measured(measured: Mapping[str, Any] | None) -> None:
    """By which evaluations it was decided: beside the answer."""
    if measured is None:
        return
    jobs = ", ".join(f"{ref} by {job}" for ref, job in sorted(measured["evaluations"].items()))
    digest = measured["data_digest"]
    on = f"data {digest[:12]}" if digest else "the rows that its training held out"
    note(f"measured on {on}: {jobs}")


def _say_moved(answer: Mapping[str, Any]) -> None:
    name, alias, ref = answer["name"], answer["alias"], f"{answer['name']}:{answer['version']}"
    move = answer["move"]
    if move is None:
        would = "would not move" if answer["holds"] is False else f"would be {ref}"
        say(f"{name}@{alias} {would}; nothing was changed")
        return
    before = move["from_version"]
    say(f"{name}@{alias} is {ref}" + (f", was {name}:{before}" if before is not None else ""))
    if answer["requeued"] is None:
        note("forebay: it moved, and not all queued jobs came along: forebay models requeue")
    if answer["requeued"]:
        say(_queued(answer["requeued"], ref))


def _queued(jobs: int, ref: str) -> str:
    return f"{jobs:,} queued {'job goes' if jobs == 1 else 'jobs go'} to {ref}"


def _moves(
    client: Forebay, name: str, aliases: Iterable[str], limit: int
) -> list[Mapping[str, Any]]:
    """The last moves of these aliases, the last first."""
    each = [client.models.history(name, alias, limit=limit) for alias in aliases]
    merged = heapq.merge(*each, key=lambda move: str(move["moved_at"]), reverse=True)
    return list(itertools.islice(merged, limit))


def _why(move: Mapping[str, Any]) -> str:
    undone = move["undoes"]
    return str(move["why"]) if undone is None else f"{move['why']} of #{undone}"


def _because(move: Mapping[str, Any]) -> str:
    return "; ".join(str(move[one]) for one in ("if", "note") if move[one])
