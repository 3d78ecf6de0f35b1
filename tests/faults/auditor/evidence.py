"""The folder's contents, as they are."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]
SUCCEEDS: Row = {"states": ["succeeded"]}


@dataclass
class Promise:
    """A job that was accepted."""

    id: str
    tenant: str
    request: str
    key: str | None
    custom_id: str
    question: Any
    expect: Row
    bulk: Row | None = None  # its files, its output and its wrong rows, where it is a bulk job
    training: Row | None = None  # its model, its steps and its epochs, where it is a training


@dataclass
class Book:
    """What the callers wrote."""

    sent: dict[str, Row] = field(default_factory=dict)  # by request
    accepted: dict[str, list[list[str]]] = field(default_factory=lambda: defaultdict(list))
    explained: Counter[str] = field(default_factory=Counter)  # messages by queue
    promises: dict[str, Promise] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)  # receivers that answer: tenant by path


def read_book(path: Path) -> Book:
    """Line by line; a job may be promised once only."""
    book = Book()
    minds: dict[str, Row] = {}
    for line in read_lines(path):
        if "sent" in line:
            book.sent[line["sent"]] = line
        elif "accepted" in line:
            book.accepted[line["accepted"]].append(line["ids"])
        elif "may" in line:
            minds[line["may"]] = line
        elif "told" in line:
            book.told[line["told"]] = line["tenant"]
        elif "explains" in line:
            book.explained[line["explains"]] += line["messages"]
    for request, answers in book.accepted.items():
        asked = book.sent[request]
        for job_id, one in zip(answers[0], asked["jobs"], strict=True):
            book.promises[job_id] = Promise(
                job_id,
                asked["tenant"],
                request,
                asked["key"],
                one["custom_id"],
                one["question"],
                minds.get(job_id) or one.get("expect") or SUCCEEDS,
                one.get("bulk"),
                one.get("training"),
            )
    return book


def read_lines(path: Path) -> list[Row]:
    """JSON lines; none where there is no file."""
    if not path.exists():
        return []
    with path.open() as file:
        return [json.loads(line) for line in file if line.strip()]


class Evidence:
    """Tables are read when they are asked for, and only once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.book = read_book(folder / "book.jsonl")
        queues = folder / "queues.json"
        self.queues: list[Row] = json.loads(queues.read_text()) if queues.exists() else []
        self.received = read_lines(folder / "webhooks.jsonl")
        self._tables: dict[str, list[Row]] = {}

    def table(self, name: str) -> list[Row]:
        if name not in self._tables:
            self._tables[name] = read_lines(self._folder / "tables" / f"{name}.jsonl")
        return self._tables[name]

    def object(self, key: str) -> bytes | None:
        """The bytes under a key; None when there is no such object."""
        path = self._folder / "objects" / key
        return path.read_bytes() if path.is_file() else None

    def object_keys(self) -> list[str]:
        """Every object there is."""
        root = self._folder / "objects"
        return _names(root)

    def file(self, name: str) -> Path:
        """One of the callers' own files, or of those written for them."""
        return self._folder / "files" / name

    def file_names(self, below: str) -> list[str]:
        """What lies below one of their folders."""
        return _names(self._folder / "files" / below)


def _names(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
