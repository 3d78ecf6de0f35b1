"""Tweets for the story of three versions: a first and a larger set to learn from, one whose labels
are turned round, and one that none of them sees."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FIRST, MORE, WRONG, HELD_OUT = "first.csv", "more.csv", "wrong.csv", "held-out.csv"
_ROWS = {HELD_OUT: 2_000, FIRST: 1_200, WRONG: 4_000, MORE: 12_000}  # in this order, none twice
_TURNED = {"positive": "negative", "negative": "positive"}
COLUMNS = ("text", "sentiment", "size")
MODEL = "mood"


def write_story(folder: Path, table: bytes, seed: int = 7) -> list[str]:
    """The four files in ``folder``; the held-out texts. Of every tweet it is told how long it is,
    for whoever wants to know whether short ones are judged as well as long ones."""
    folder.mkdir(parents=True, exist_ok=True)
    said = csv.DictReader(io.StringIO(table.decode(), newline=""))
    rows = [(one["text"], one["sentiment"]) for one in said if one["sentiment"] in _TURNED]
    rows = sorted(set(rows))
    random.Random(seed).shuffle(rows)
    for name, count in _ROWS.items():
        some, rows = rows[:count], rows[count:]
        if name == WRONG:
            some = [(text, _TURNED[sentiment]) for text, sentiment in some]
        _write(folder / name, some)
    with (folder / HELD_OUT).open(newline="", encoding="utf-8") as held_out:
        return [one["text"] for one in csv.DictReader(held_out)]


def spec_of(uri: str) -> dict[str, Any]:
    """A training on one of the files: the same network each time, so that one version can stand in
    for another."""
    return {
        "data": {"uri": uri, "features": ["text"], "label": "sentiment"},
        "prepare": {
            "text": {"max_tokens": 10_000, "length": 40},
            "labels": ["negative", "positive"],
        },
        "split": {"validation": 0.1, "test": 0.1, "seed": 7},
        "network": {"recipe": "text-average", "embedding": 64, "units": [16], "dropout": 0.3},
        "optimizer": "adam",
        "loss": "binary_crossentropy",
        "metrics": ["accuracy"],
        "epochs": 6,
        "batch_size": 64,
        "seed": 1,
    }


def _write(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows((text, sentiment, _size(text)) for text, sentiment in rows)


def _size(text: str) -> str:
    words = len(text.split())
    return "short" if words < 10 else "medium" if words < 18 else "long"
