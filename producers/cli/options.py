"""Options that several verbs share, spelled once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from producers.cli.exits import usage

AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
TimeoutS = Annotated[
    float | None,
    typer.Option("--timeout-s", min=0.0, help="Give up waiting after this long (exit code 3)."),
]
Metadata = Annotated[
    list[str] | None, typer.Option("--metadata", metavar="KEY=VALUE", help="A label.")
]
ExpiresInS = Annotated[float | None, typer.Option(help="Expire if not started by then.")]
RunTimeoutS = Annotated[float | None, typer.Option(help="Longest time it may run.")]
IdempotencyKey = Annotated[
    str | None, typer.Option(help="A repeat with the same key is the same job.")
]


def key_values(pairs: Sequence[str], option: str) -> dict[str, str]:
    """``k=v`` words as a mapping."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise usage(f"{option} {pair!r}: write it as key=value")
        found[key] = value
    return found
