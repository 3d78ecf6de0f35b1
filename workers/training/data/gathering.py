"""One reading of the files: every row to its inputs, its label and its group."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from storage.records.training import DataFormat, MissingRule, Task, TrainingSpec
from workers.bulk.kit import Stopped
from workers.training.data.complaints import (
    Complaints,
    First,
    Verdict,
    bad_picture,
    bad_row,
    label_not_number,
)
from workers.training.data.duplicates import Hashes
from workers.training.data.inputs import GridInput, Input, TensorInput
from workers.training.data.labels import Labels
from workers.training.data.pieces import BrokenRow, ColumnInfo, Kind, Piece, Reader
from workers.training.data.roles import GridRole, Role, Roles, TensorRole, TextRole, VectorRole
from workers.training.data.texts import TextInput
from workers.training.data.values import Words, plain_words, replaced, single_column
from workers.training.data.vectors import VectorInput
from workers.training.ports import VectorizerOf


class Gathering:
    """What was read so far."""

    def __init__(
        self,
        spec: TrainingSpec,
        roles: Roles,
        form: DataFormat,
        folder: Path,
        vectorizer_of: VectorizerOf,
        still: Callable[[], bool],
        *,
        as_bytes: bool,
    ) -> None:
        self._spec, self._roles, self._form, self._still = spec, roles, form, still
        self.dropped: dict[str, int] = {}
        self.skipped = 0
        self.rows = 0  # that are kept
        self._complaints = Complaints()
        self.labels = Labels(roles.label, spec.prepare, spec.task)
        self._groups = Words()
        self._group_codes: list[npt.NDArray[np.int32]] = []
        self._hashes = Hashes() if spec.prepare.drop_duplicates else None
        self.inputs: list[Input] = [
            self._input(role, folder, number, vectorizer_of, as_bytes)
            for number, role in enumerate(roles.inputs)
        ]

    def read(self, reader: Reader, on_rows: Callable[[int], None]) -> None:
        """All rows. Raises what is wrong with them once all were seen."""
        read = 0
        for piece in reader.pieces(self._texts(), self._roles.columns):
            if not self._still():
                raise Stopped
            self._take(piece)
            read += piece.rows + len(piece.broken) + piece.skipped
            on_rows(read)
        self._complaints.raise_first()

    def alive(self) -> npt.NDArray[np.bool_]:
        """Which of the kept rows are not there a second time."""
        if self._hashes is None:
            return np.ones(self.rows, np.bool_)
        firsts = self._hashes.firsts()
        if not firsts.all():
            self.dropped["duplicate"] = int(np.count_nonzero(~firsts))
        return firsts

    def groups(self) -> tuple[list[str], npt.NDArray[np.int32]]:
        """The groups' names, and the number of each row's; -1: it has none."""
        return self._groups.words, np.concatenate([np.empty(0, np.int32), *self._group_codes])

    def close(self) -> None:
        """Nobody goes on with it."""
        for one in self.inputs:
            one.close()

    def _texts(self) -> list[str]:
        """Columns whose cells are wanted as they are written."""
        names = [self._roles.label.name, *self._spec.prepare.replace]
        names += [self._roles.group.name] if self._roles.group is not None else []
        for role in self._roles.inputs:
            if isinstance(role, VectorRole):
                names += role.categories
            elif isinstance(role, TextRole):
                names.append(role.column.name)
        return names

    def _input(
        self,
        role: Role,
        folder: Path,
        number: int,
        vectorizer_of: VectorizerOf,
        as_bytes: bool,
    ) -> Input:
        prepare = self._spec.prepare
        match role:
            case TensorRole():
                return TensorInput(role, prepare, folder, number, as_bytes=as_bytes)
            case GridRole():
                whole = as_bytes and all(one.integers for one in role.columns)
                return GridInput(role, prepare, folder, number, as_bytes=whole)
            case VectorRole():
                return VectorInput(role, prepare, folder, number)
            case TextRole(column):
                assert prepare.text is not None
                vectorizer = vectorizer_of(prepare.text)
                return TextInput(column, prepare, vectorizer, folder, number, self._still)

    def _take(self, piece: Piece) -> None:
        self.skipped += piece.skipped
        for row in piece.broken:
            self._broken(piece.uri, row)
        if not piece.rows:
            return
        verdict = Verdict(piece, self._complaints, self.dropped)
        self.labels.drop_unknown(verdict)
        for one in self.inputs:
            one.read(verdict)
        self.labels.read(verdict)
        if self._complaints:
            return
        keep = verdict.keep
        for one in self.inputs:
            one.write(keep)
        self.labels.write(keep)
        if self._roles.group is not None:
            self._group_codes.append(self._coded(piece, self._roles.group)[keep])
        if self._hashes is not None:
            self._hashes.add(self.inputs, self.labels.codes(keep), keep)
        self.rows += int(np.count_nonzero(keep))

    def _coded(self, piece: Piece, group: ColumnInfo) -> npt.NDArray[np.int32]:
        """Groups are called as labels are."""
        column = single_column(piece.columns[group.name])
        column = replaced(column, self._spec.prepare.replace.get(group.name, {}))
        return self._groups.codes(column if group.kind is Kind.TEXT else plain_words(column))

    def _broken(self, uri: str, row: BrokenRow) -> None:
        label = self._roles.label.name
        if self._spec.task is Task.NUMBERS and row.why.startswith(f"column {label!r} holds "):
            first = First(uri, row.number, row.why)
            self._complaints.add_row(label_not_number, label, first)
        elif self._spec.prepare.missing is MissingRule.DROP:
            self.dropped["bad_row"] = self.dropped.get("bad_row", 0) + 1
        elif self._form is DataFormat.IMAGES:
            self._complaints.add_row(bad_picture, "", First(uri, 0, row.why))
        else:
            self._complaints.add_row(bad_row, "", First(uri, row.number, row.why))
