"""Columns of numbers and of categories, in one float32 vector."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.records.errors import InvalidInput
from storage.records.push_options import Column, ColumnType, Missing
from storage.records.training import MissingRule, Preparation
from workers.training.data.complaints import Mask, Verdict, category_unknown
from workers.training.data.flat import FlatFile
from workers.training.data.inputs import (
    LEARNED,
    KeptInput,
    number_fill,
    rows_as_bytes,
    settle,
    take_numbers,
)
from workers.training.data.learned import means, medians
from workers.training.data.pieces import ColumnInfo, Kind
from workers.training.data.roles import VectorRole
from workers.training.data.trouble import bad_rule
from workers.training.data.values import Words, replaced, sorted_words

MAX_CATEGORIES = 10_000
_FEW = 100


class VectorInput:
    """Kept as numbers and as categories' numbers until the training rows are known; where there
    is nothing to be learned from them, the numbers are the vector."""

    def __init__(self, role: VectorRole, prepare: Preparation, folder: Path, number: int) -> None:
        self._prepare, self._role = prepare, role
        self._numbers = [one for one in role.columns if one.name not in role.categories]
        self._categories = [one for one in role.columns if one.name in role.categories]
        self._words = {one.name: Words() for one in self._categories}
        for name, words in self._words.items():
            for word in prepare.categories.get(name, ()):
                words.numbers.setdefault(word, len(words.numbers))
            self._check_fill(name)
        for one in self._numbers:
            if self._is_boolean(one):
                self._check_boolean_fill(one.name)
        filled = prepare.fill if prepare.missing is MissingRule.FILL else {}
        self._learned = {
            one.name: str(filled[one.name])
            for one in self._numbers
            if filled.get(one.name) in LEARNED
        }
        self._path = folder / f"{number}.rows"
        self._raw: FlatFile | None = None
        self._codes: FlatFile | None = None
        if self._categories or self._learned:
            if self._numbers:
                self._raw = FlatFile(folder / f"{number}.numbers", "float32", (len(self._numbers),))
            if self._categories:
                self._codes = FlatFile(
                    folder / f"{number}.codes", "int32", (len(self._categories),)
                )
        else:
            self._raw = FlatFile(self._path, "float32", (len(self._numbers),))
        self._block: npt.NDArray[Any] = np.empty(0)
        self._coded: npt.NDArray[Any] = np.empty(0)

    def read(self, verdict: Verdict) -> None:
        rows = verdict.piece.rows
        self._block = np.empty((rows, len(self._numbers)), np.float32)
        for index, column in enumerate(self._numbers):
            self._block[:, index] = take_numbers(self._prepare, verdict, column)
        self._coded = np.empty((rows, len(self._categories)), np.int32)
        for index, column in enumerate(self._categories):
            self._coded[:, index] = self._coded_column(verdict, column)

    def write(self, keep: Mask) -> None:
        if self._raw is not None:
            self._raw.append(self._block[keep])
        if self._codes is not None:
            self._codes.append(self._coded[keep])

    def bytes_of(self, keep: Mask) -> Iterator[bytes | memoryview]:
        if not self._categories:
            return rows_as_bytes(self._block[keep])
        if not self._numbers:
            return rows_as_bytes(self._coded[keep])
        both = zip(rows_as_bytes(self._block[keep]), rows_as_bytes(self._coded[keep]), strict=True)
        return (b"".join(pair) for pair in both)

    def finish(self, train: Mask) -> KeptInput:
        if self._path == (self._raw.path if self._raw else None):
            assert self._raw is not None
            columns = tuple(self._served(one, None) for one in self._numbers)
            return self._kept(self._raw, columns, {})
        fills = self._fills(train)
        chosen, note = self._chosen(train)
        columns = tuple(
            self._served_category(one, chosen[one.name])
            if one.name in chosen
            else self._served(one, fills.get(one.name))
            for one in self._role.columns
        )
        width = sum(one.width for one in columns)
        file = FlatFile(self._path, "float32", (width,))
        self._write_vectors(file, fills, chosen)
        for done in (self._raw, self._codes):
            if done is not None:
                done.remove()
        return self._kept(file, columns, note)

    def close(self) -> None:
        for file in (self._raw, self._codes):
            if file is not None:
                file.close()

    # ---- while reading

    def _check_fill(self, name: str) -> None:
        if self._prepare.missing is not MissingRule.FILL or name not in self._prepare.fill:
            return
        fill = self._prepare.fill[name]
        given = self._prepare.categories.get(name)
        if fill in LEARNED or (given and str(fill) not in given):
            raise bad_rule(
                f"column {name!r} holds categories and can only be filled with one of them, not"
                f" {fill!r}",
                "prepare.missing.fill",
            )

    def _is_boolean(self, info: ColumnInfo) -> bool:
        """Rules may have made other numbers of it."""
        return info.kind is Kind.BOOLEAN and info.name not in self._prepare.replace

    def _check_boolean_fill(self, name: str) -> None:
        """What is between false and true no caller of the version could have meant."""
        if self._prepare.missing is not MissingRule.FILL or name not in self._prepare.fill:
            return
        fill = self._prepare.fill[name]
        if fill in LEARNED or number_fill(name, fill) not in (0, 1):
            raise bad_rule(
                f"column {name!r} holds true and false and can only be filled with 1 or 0, not"
                f" {fill!r}",
                "prepare.missing.fill",
            )

    def _coded_column(self, verdict: Verdict, info: ColumnInfo) -> npt.NDArray[np.int32]:
        prepare, name, words = self._prepare, info.name, self._words[info.name]
        column = replaced(verdict.piece.columns[name], prepare.replace.get(name, {}))
        codes = words.codes(column)
        holes = codes < 0
        if holes.any():
            settle(prepare, verdict, name, holes)
            if prepare.missing is MissingRule.FILL and name in prepare.fill:
                word = str(prepare.fill[name])
                codes[holes] = words.numbers.setdefault(word, len(words.numbers))
        given = prepare.categories.get(name, ())
        if given:
            strange = codes >= len(given)
            if strange.any() and prepare.missing is MissingRule.DROP:
                verdict.drop("category_unknown", strange)
            elif strange.any():
                value = words.words[int(codes[int(np.argmax(strange))])]
                verdict.refuse(category_unknown, name, strange, value)
        elif len(words.numbers) > MAX_CATEGORIES:
            raise InvalidInput(
                f"column {name!r} of {verdict.piece.uri} holds more than {MAX_CATEGORIES} different"
                " values, which are no categories: leave it out of data.features, or name it as"
                " the text of prepare.text",
                code="too_many_categories",
                field="data.features",
            )
        return codes

    # ---- when the training rows are known

    def _fills(self, train: Mask) -> dict[str, float]:
        """What missing numbers are filled with, learned or given."""
        if self._raw is None:
            return {}
        fills: dict[str, float] = {}
        for kind, learn in (("mean", means), ("median", medians)):
            wanted = [
                n for n, one in enumerate(self._numbers) if self._learned.get(one.name) == kind
            ]
            for index, value in zip(wanted, learn(self._raw, train, wanted), strict=True):
                name = self._numbers[index].name
                if np.isnan(value):
                    raise bad_rule(
                        f"column {name!r} has no {kind} to be filled with: it is missing in every"
                        " row that is trained on",
                        "prepare.missing.fill",
                    )
                fills[name] = float(np.float32(value))
        return fills

    def _chosen(self, train: Mask) -> tuple[dict[str, list[str]], dict[str, Any]]:
        """The categories of each column, and what was not among them."""
        chosen: dict[str, list[str]] = {}
        if self._codes is None:
            return chosen, {}
        counts = {
            name: np.zeros((2, len(words.numbers)), np.int64) for name, words in self._words.items()
        }
        for start, block in self._codes.blocks():
            here = train[start : start + len(block)]
            for index, count in enumerate(counts.values()):
                for row, some in enumerate((block[here, index], block[~here, index])):
                    count[row] += np.bincount(some, minlength=count.shape[1])
        unseen: dict[str, int] = {}
        for name, words in self._words.items():
            given = self._prepare.categories.get(name, ())
            trained, others = counts[name]
            seen = [word for word, count in zip(words.words, trained, strict=True) if count]
            self._check_learned(name, len(words.numbers))
            chosen[name] = list(given) or sorted_words(seen)
            if not given and (strange := int(others[trained == 0].sum())):
                unseen[name] = strange
        return chosen, {"unseen_categories": unseen} if unseen else {}

    def _check_learned(self, name: str, words: int) -> None:
        """Words of which nobody said that they are categories must come again and again."""
        rows = self._codes.rows if self._codes else 0
        if name not in self._prepare.categories and words > max(_FEW, rows // 2):
            raise InvalidInput(
                f"column {name!r} holds {words} different values in {rows} rows, which are hardly"
                " categories: leave it out of data.features, name it as the text of prepare.text,"
                " or name it under prepare.categories",
                code="too_many_categories",
                field="data.features",
            )

    def _write_vectors(
        self, file: FlatFile, fills: dict[str, float], chosen: dict[str, list[str]]
    ) -> None:
        tables = {}
        for name, words in self._words.items():
            places = {word: at for at, word in enumerate(chosen[name])}
            tables[name] = np.array(
                [places.get(word, -1) for word in words.words] or [-1], np.int64
            )
        rows = self._raw.rows if self._raw else self._codes.rows if self._codes else 0
        each = file.block_rows
        for start in range(0, rows, each):
            stop = min(start + each, rows)
            numbers = self._raw.read(start, stop) if self._raw else None
            codes = self._codes.read(start, stop) if self._codes else None
            block = np.zeros((stop - start, *file.shape), np.float32)
            at = number = code = 0
            for one in self._role.columns:
                if one.name in chosen:
                    assert codes is not None
                    places = tables[one.name][codes[:, code]]
                    known = np.flatnonzero(places >= 0)
                    block[known, at + places[known]] = 1.0
                    at, code = at + len(chosen[one.name]), code + 1
                else:
                    assert numbers is not None
                    values = numbers[:, number]
                    if one.name in fills:
                        values = np.where(np.isnan(values), np.float32(fills[one.name]), values)
                    block[:, at] = values
                    at, number = at + 1, number + 1
            file.append(block)

    # ---- what is told of it

    def _kept(self, file: FlatFile, columns: tuple[Column, ...], note: dict[str, Any]) -> KeptInput:
        scaled: list[bool] = []
        names: list[str] = []
        for info, one in zip(self._role.columns, columns, strict=True):
            plain = one.type is ColumnType.NUMBER
            scaled += [plain] * one.width
            names += [info.name] * one.width
        mask = np.array(scaled, np.bool_)
        return KeptInput(self._role.name, file, mask, tuple(names), columns, note=note)

    def _served(self, info: ColumnInfo, fill: float | None) -> Column:
        prepare = self._prepare
        if fill is None and prepare.missing is MissingRule.FILL and info.name in prepare.fill:
            fill = number_fill(info.name, prepare.fill[info.name])
        is_boolean = self._is_boolean(info)
        kind = ColumnType.BOOLEAN if is_boolean else ColumnType.NUMBER
        if fill is None:
            return Column(info.name, kind)
        return Column(info.name, kind, Missing.FILL, bool(fill) if is_boolean else fill)

    def _served_category(self, info: ColumnInfo, words: list[str]) -> Column:
        """Callers write whole numbers where the data have them."""
        whole = info.integers and all(word.lstrip("-").isdigit() for word in words)
        values: tuple[str | int, ...] = tuple(int(one) for one in words) if whole else tuple(words)
        prepare = self._prepare
        if prepare.missing is MissingRule.FILL and info.name in prepare.fill:
            fill = str(prepare.fill[info.name])
            if fill in words:
                value = values[words.index(fill)]
                return Column(
                    info.name, ColumnType.CATEGORY, Missing.FILL, value, values, one_hot=True
                )
        return Column(info.name, ColumnType.CATEGORY, categories=values, one_hot=True)
