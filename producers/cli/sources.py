"""What ``forebay submit`` was given, as items for the SDK."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from producers.cli.exits import usage
from producers.cli.npy import read_npy

FORMS = ("tensor", "inputs", "image", "text", "record", "ref", "items")


def split_json_flag(argv: Sequence[str]) -> list[str]:
    """Tell ``--json FILE`` (an input) from ``--json`` (the form of the answer).

    Both are part of ``submit``'s face. What follows is taken for an input when it looks like
    one: it exists, ends in .json or .jsonl, or is "-" (standard input).
    """
    if "submit" not in argv:
        return list(argv)
    out: list[str] = []
    place = 0
    while place < len(argv):
        word, following = argv[place], argv[place + 1] if place + 1 < len(argv) else None
        if word.startswith("--json="):
            out += ["--json-file", word.removeprefix("--json=")]
        elif word == "--json" and following is not None and _looks_like_input(following):
            out += ["--json-file", following]
            place += 1
        else:
            out.append(word)
        place += 1
    return out


def _looks_like_input(word: str) -> bool:
    if word == "-" or word.endswith((".json", ".jsonl")):
        return True
    return not word.startswith("-") and Path(word).is_file()


def gather(
    images: Sequence[str],
    texts: Sequence[str],
    jsons: Sequence[str],
    npys: Sequence[str],
    more: Sequence[str],
) -> list[tuple[str, dict[str, Any]]]:
    """(name for people, item) of everything that was given, in order.

    ``more`` are the words after the model: a shell turns ``--image *.png`` into one option and
    many words, which belong to it.
    """
    given = {"--image": images, "--text": texts, "--json": jsons, "--npy": npys}
    used = [option for option, values in given.items() if values]
    if not used:
        raise usage(
            "nothing to submit", "give --image FILE…, --text TEXT…, --json FILE… or --npy FILE…"
        )
    if len(used) > 1:
        raise usage(f"{' and '.join(used)} do not go together: give one kind of input")
    option = used[0]
    found: list[tuple[str, dict[str, Any]]] = []
    for word in (*given[option], *more):
        found += _READERS[option](word)
    return found


def _image(word: str) -> list[tuple[str, dict[str, Any]]]:
    if not Path(word).is_file():
        raise usage(f"there is no file {word}")
    return [(word, {"image": Path(word)})]


def _text(word: str) -> list[tuple[str, dict[str, Any]]]:
    return [(word if len(word) <= 40 else word[:39] + "…", {"text": word})]


def _npy(word: str) -> list[tuple[str, dict[str, Any]]]:
    return [(word, {"tensor": read_npy(Path(word))})]


def _json(word: str) -> list[tuple[str, dict[str, Any]]]:
    """One input, a list of them, one a line (.jsonl), or bare numbers: a tensor."""
    try:
        text = sys.stdin.read() if word == "-" else Path(word).read_text(encoding="utf-8")
        if word.endswith(".jsonl"):
            value: Any = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            value = json.loads(text)
    except OSError as error:
        raise usage(f"cannot read {word}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise usage(f"{word} is not JSON: {error}") from error
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return [(f"{word}[{place}]", _item(item, word)) for place, item in enumerate(value)]
    if isinstance(value, dict):
        return [(word, _item(value, word))]
    return [(word, {"tensor": value})]


def _item(value: dict[str, Any], word: str) -> dict[str, Any]:
    if not any(form in value for form in FORMS):
        hint = f"an input is an object with one of {', '.join(FORMS)}"
        raise usage(f"{word} does not hold an input", hint)
    return value


_READERS = {"--image": _image, "--text": _text, "--json": _json, "--npy": _npy}
