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


def key_values(pairs: Sequence[str], option: str) -> dict[str, str]:
    """``k=v`` words as a mapping."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise usage(f"{option} {pair!r}: write it as key=value")
        found[key] = value
    return found
