"""``forebay models card|edit|deprecate|delete``: one version, after it was pushed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from producers.cli.connection import connect
from producers.cli.exits import usage
from producers.cli.options import AsJson
from producers.cli.output import say, say_json

Ref = Annotated[
    str, typer.Argument(metavar="NAME:V", help="One version, as in digits:3 or digits@prod.")
]


def card(
    ref: Ref,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it there and say nothing.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """All that is known of a version, as Markdown."""
    with connect() as client:
        version = client.models.get(ref)
        text = _json_text(version.card()) if as_json else version.card_markdown()
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, "utf-8")
    except OSError as error:
        raise usage(f"cannot write {output}: {error.strerror or error}") from error


def edit(
    ref: Ref,
    licence: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Under which it may be used; '' clears it.")
    ] = None,
    notes: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What else there is to say; '' clears it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change what is said of a version."""
    if licence is None and notes is None:
        raise usage("there is nothing to change", "give --licence or --notes")
    with connect() as client:
        version = client.models.get(ref).edit(licence=licence, notes=notes)
    if as_json:
        say_json(version.document)
    else:
        say(f"{version.ref}: changed")


def deprecate(
    ref: Ref,
    undo: Annotated[bool, typer.Option("--undo", help="Make it ready again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let a version serve only who names it by its number, and the aliases that it has."""
    with connect() as client:
        version = client.models.get(ref)
        version = version.restore() if undo else version.deprecate()
    if as_json:
        say_json(version.document)
    else:
        say(f"{version.ref}  {version.state}")


def delete(
    ref: Ref,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete a version for good; refused while anything depends on it."""
    with connect() as client:
        version = client.models.get(ref)
        if not yes:
            if not sys.stdin.isatty():
                raise usage("nobody is there to be asked", f"forebay models delete {ref} --yes")
            typer.confirm(f"delete {version.ref} for good?", abort=True, err=True)
        gone = client.models.delete(version.name, version.version)
    if as_json:
        say_json(gone)
        return
    say(f"{version.ref}  deleted")
    if gone.get("made_from_it"):
        say(f"made from it, and still there: {', '.join(gone['made_from_it'])}")


def _json_text(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
