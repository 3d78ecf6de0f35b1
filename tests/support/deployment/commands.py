"""Commands that files name: does ``forebay`` have that verb, with these options and values?"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import typer

from forebay.commands import add_commands
from producers.cli.app import build_app
from producers.cli.sources import split_json_flag

README_SECTION = "## Run it for real"
_FENCE = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")


def complaint(argv: Sequence[str]) -> str | None:
    """Why ``forebay *argv`` would be refused before it does anything; None when it would not."""
    words = split_json_flag(list(argv))
    try:
        command: Any = _command()
        context = command.context_class(command, info_name="forebay")
        while hasattr(command, "resolve_command"):
            if not words:
                return "names no verb"
            name, command, words = command.resolve_command(context, words)
            context = command.context_class(command, info_name=name, parent=context)
        command.make_context(context.info_name, words)
    except Exception as error:  # of click, wherever typer keeps it
        say = getattr(error, "format_message", None)
        return say() if say else f"{type(error).__name__}: {error}"
    return None


def documents(root: Path) -> list[str]:
    """Every command that the guide and the README's section name, and whether it exists."""
    guide = (root / "deploy/OPERATING.md").read_text("utf-8")
    section = (root / "README.md").read_text("utf-8").partition(README_SECTION + "\n")[2]
    section = section.partition("\n## ")[0]
    found = []
    for place, text in (("OPERATING.md", guide), ("README.md", section)):
        whole, mentioned = named_in(text)
        if not whole and not mentioned:
            found.append(f"{place} names no command")
        for argv in (*whole, *mentioned):
            wrong = complaint(argv)
            # What is mentioned within a sentence need not be all of it.
            if wrong and (argv in whole or not wrong.startswith("Missing ")):
                found.append(f"{place}: forebay {shlex.join(argv)}: {wrong}")
    return found


def named_in(markdown: str) -> tuple[list[list[str]], list[list[str]]]:
    """The arguments of each ``forebay …`` in blocks, to be typed, and in sentences."""
    lines = [line for block in _FENCE.findall(markdown) for line in block.splitlines()]
    spans = _SPAN.findall(_FENCE.sub("", markdown))
    return _arguments(lines), _arguments(spans)


def _arguments(lines: Sequence[str]) -> list[list[str]]:
    found = []
    for line in lines:
        words = shlex.split(line, comments=True)
        inside = words[:1] == ["docker"] and "exec" in words
        if "forebay" in words and (words[0] == "forebay" or inside):
            found.append(words[words.index("forebay") + 1 :])
    return [words for words in found if words]


@cache
def _command() -> Any:
    app = build_app()
    add_commands(app)
    return typer.main.get_command(app)
