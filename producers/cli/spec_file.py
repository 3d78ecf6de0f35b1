"""A spec as a YAML (or JSON) file: read strictly, with the line of everything that stands in it.

Plain values only: no tags of one's own, no merged keys, no key twice. What YAML 1.1 reads in a way
that nobody means is read as it is meant: ``1e-3`` is a number and a date is text. Numbers are
decimal: ``064`` and ``12:30`` are refused, which YAML takes for 52 and 750.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from producers.cli.exits import Failure, usage

if TYPE_CHECKING:
    import yaml

MAX_VALUES, MAX_DEPTH, MAX_BYTES = 100_000, 60, 4 << 20
Path = tuple[str | int, ...]
_FLOAT = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+")
_OTHER_BASE = re.compile(r"[-+]?0[0-9_bx]|.*:")  # octal, binary, hexadecimal, base 60
_PLAIN = frozenset({"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})
_STEP = re.compile(r"\[([0-9]+)\]|([^.\[\]]+)")


@dataclass(slots=True)
class SpecFile:
    """What a file holds, and at which line."""

    name: str
    told: dict[str, Any]
    lines: dict[Path, int] = field(default_factory=dict)

    def line_of(self, where: str) -> int | None:
        """The line of a field as errors name it (``data.uri[1]``), or of what it stands in."""
        steps: list[str | int] = [
            int(index) if index else name for index, name in _STEP.findall(where)
        ]
        while steps:
            if (line := self.lines.get(tuple(steps))) is not None:
                return line
            steps.pop()
        return None

    def set(self, pairs: Sequence[str]) -> None:
        """``network.units=[64]`` and so on, in place of what the file says."""
        for pair in pairs:
            where, equals, text = pair.partition("=")
            names = where.split(".")
            if not equals or not all(names):
                raise usage(f"--set {pair!r}: write it as key=value, as in epochs=3")
            value = read_spec_file(f"--set {pair}", text, whole=False).told[""]
            at = self.told
            for name in names[:-1]:
                at = at.setdefault(name, {})
                if not isinstance(at, dict):
                    raise usage(f"--set {pair!r}: {name} holds no fields in {self.name}")
            at[names[-1]] = value
            path = tuple(names)
            for known in [one for one in self.lines if one[: len(path)] == path]:
                del self.lines[known]  # it is not the file's any more


def read_spec_file(name: str, text: str, *, whole: bool = True) -> SpecFile:
    """The file's object; ``Failure`` with the line of what is wrong. With ``whole`` false any value
    is taken, under the empty name."""
    import yaml

    if len(text) > MAX_BYTES:
        raise usage(f"{name} has more than {MAX_BYTES >> 20} MiB: that is no spec")
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f", line {mark.line + 1}" if mark is not None else ""
        raise usage(f"{name}{at}: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise usage(f"{name} is not YAML: {str(error)[:200]}") from None
    except RecursionError:  # YAML's own reader takes a call a level
        raise usage(f"{name} nests too deep: that is no spec") from None
    reader = _Reader(name)
    value = None if node is None else reader.value(node, ())
    if not whole:
        return SpecFile(name, {"": value})
    if not isinstance(value, dict):
        raise usage(f"{name} holds no fields: a spec begins with data:, network: and loss:")
    return SpecFile(name, value, reader.lines)


class _Reader:
    """From YAML's nodes to plain values."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0
        self.lines: dict[Path, int] = {}

    def value(self, node: yaml.Node, path: Path) -> Any:
        import yaml

        self._count += 1
        if self._count > MAX_VALUES or len(path) > MAX_DEPTH:
            raise self._wrong(node, "there is too much in it, or it stands in itself")
        self.lines.setdefault(path, node.start_mark.line + 1)
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN:
            raise self._wrong(node, f"the tag {node.tag} is not taken")
        if isinstance(node, yaml.MappingNode):
            return self._fields(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(one, (*path, n)) for n, one in enumerate(node.value)]
        return self._scalar(node)

    def _fields(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        import yaml

        found: dict[str, Any] = {}
        for key, inner in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag.endswith(":merge"):
                raise self._wrong(key, "a key is a word; merged and composed ones are not taken")
            if key.value in found:
                before = self.lines[(*path, key.value)]
                raise self._wrong(key, f"{key.value!r} is given twice; first in line {before}")
            self.lines[(*path, key.value)] = key.start_mark.line + 1
            found[key.value] = self.value(inner, (*path, key.value))
        return found

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        kind, text = node.tag.removeprefix("tag:yaml.org,2002:"), node.value
        if kind == "str" and node.style is None and _FLOAT.fullmatch(text):
            kind = "float"
        if kind in ("str", "timestamp"):
            return text
        if kind not in ("null", "bool", "int", "float"):
            raise self._wrong(node, f"the tag {node.tag} is not taken")
        return self._plain(node, kind)

    def _plain(self, node: yaml.ScalarNode, kind: str) -> Any:
        import yaml

        if kind == "float" and _FLOAT.fullmatch(node.value):
            value: Any = float(node.value)
        else:
            try:
                value = yaml.safe_load(node.value)
            except (ValueError, yaml.YAMLError):
                raise self._wrong(node, f"{node.value[:60]!r} cannot be read") from None
        if kind in ("int", "float") and _OTHER_BASE.match(node.value):
            says = f"YAML takes {node.value[:60]} for {value}: put it in quotes, or write it as a"
            raise self._wrong(node, f"{says} decimal: {value}")
        if isinstance(value, float) and not math.isfinite(value):
            raise self._wrong(node, f"{node.value} is no finite number")
        return value

    def _wrong(self, node: yaml.Node, says: str) -> Failure:
        return usage(f"{self._name}, line {node.start_mark.line + 1}: {says}")


def pointed_to(failure: Failure, file: SpecFile) -> Failure:
    """The service's refusal with the line that it is about."""
    named = failure.details.get("field")
    if not isinstance(named, str):
        return failure
    line = file.line_of(named.removeprefix("spec."))
    if line is not None and failure.hint is None:
        failure.hint = f"{file.name}, line {line}"
        failure.details["line"] = line
    return failure


def model_of(told: dict[str, Any], option: str | None, name: str) -> str:
    """The model's name, taken out of the file's fields."""
    named = told.pop("model", None)
    model = option or named
    if option is None and named is not None and not isinstance(named, str):
        raise usage(f"{name}: model must be a name, not {named!r}", "put it in quotes")
    if not isinstance(model, str) or not model:
        raise usage(f"{name} names no model", "say it with model: in the file, or with --model")
    return model
