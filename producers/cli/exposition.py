"""Prometheus' text format, read strictly: the bare install has no library for it.

What is not a sample, a comment or an empty line is an error, so that an answer of something else
than ``/metrics`` is never taken for figures.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"'
_VALUE = r"[+-]?Inf|NaN|[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_SAMPLE = re.compile(
    rf"({_NAME})(?:\{{((?:{_LABEL}(?:,{_LABEL})*,?)?)\}})?[ \t]+({_VALUE})(?:[ \t]+-?[0-9]+)?[ \t]*"
)
_ONE_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")


class NotMetrics(ValueError):
    """The text is not in the exposition format."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One series' value."""

    labels: Mapping[str, str]
    value: float


Page = Mapping[str, list[Sample]]  # by name, as written: with _total, _sum, _bucket …


def parse_page(text: str) -> Page:
    """Every sample by its name."""
    found: dict[str, list[Sample]] = defaultdict(list)
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _SAMPLE.fullmatch(line)
        if match is None:
            raise NotMetrics(f"line {number} is not a figure: {line[:80]!r}")
        name, labels, value = match.groups()
        found[name].append(Sample(dict(_labels(labels or "")), float(value)))
    return found


def _labels(text: str) -> Iterator[tuple[str, str]]:
    for match in _ONE_LABEL.finditer(text):
        yield match[1], _ESCAPE.sub(lambda one: "\n" if one[1] == "n" else one[1], match[2])
