"""From a spec to rows that lie ready: find, read, split, learn, keep."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from storage.records.errors import InvalidInput, NotFound
from storage.records.training import DataFormat, Task, TrainingSpec
from workers.bulk.places import Places
from workers.training.data.files import DataFile, check_digests, find_files, format_of_files
from workers.training.data.finishing import Finishing
from workers.training.data.gathering import Gathering
from workers.training.data.idx import IdxReader, labels_beside
from workers.training.data.inputs import NotBytes
from workers.training.data.kept_rows import BUDGET_BYTES
from workers.training.data.pictures import PicturesReader
from workers.training.data.pieces import Reader
from workers.training.data.roles import roles_of
from workers.training.data.tables import TableReader
from workers.training.data.trouble import bad_rule, data_empty
from workers.training.ports import Rows, VectorizerOf

_LABELS = {DataFormat.IMAGES: "the names of the pictures' folders"}


def prepare(
    places: Places,
    tenant: str,
    spec: TrainingSpec,
    folder: Path,
    vectorizer_of: VectorizerOf,
    on_rows: Callable[[int], None],
    still: Callable[[], bool],
    *,
    budget_bytes: int = BUDGET_BYTES,
) -> Rows:
    """The spec's rows, kept in ``folder``, which is empty and the caller's to delete.

    ``on_rows`` is told how many rows were read so far; when ``still`` is False ``Stopped`` is
    raised. Whatever is wrong with the data is ``InvalidInput`` or ``NotFound``; storage that does
    not answer after a few tries is raised as it is. Rows of up to ``budget_bytes`` are held in
    memory. The same files and spec give the same rows, on any machine.
    """
    files, labels_file, form = _files(places, tenant, spec, still)
    every = [*files, *([labels_file] if labels_file else [])]
    check_digests(every, spec.data.digests, still)
    reader = _reader(spec, form, files, labels_file, still)
    if not reader.columns():
        raise data_empty([one.uri for one in files], 0)
    roles = roles_of(spec, reader.columns(), form, files[0].uri)

    def gathered(*, as_bytes: bool) -> Gathering:
        gathering = Gathering(spec, roles, form, folder, vectorizer_of, still, as_bytes=as_bytes)
        with _closed_on_error(gathering):
            gathering.read(reader, on_rows)
        return gathering

    try:
        gathering = gathered(as_bytes=True)
    except NotBytes:
        gathering = gathered(as_bytes=False)
    with _closed_on_error(gathering):
        return Finishing(spec, roles, gathering, files, every, budget_bytes).rows()


@contextlib.contextmanager
def _closed_on_error(gathering: Gathering) -> Iterator[None]:
    try:
        yield
    except BaseException:
        gathering.close()
        raise


def _files(
    places: Places, tenant: str, spec: TrainingSpec, still: Callable[[], bool]
) -> tuple[list[DataFile], DataFile | None, DataFormat]:
    """The files, that of IDX's labels, and what they hold."""
    data = spec.data
    files = find_files(places, tenant, data.uris, still)
    form = data.format or format_of_files(data.uris, files)
    if form is not DataFormat.IDX:
        if data.labels_uri is not None:
            raise bad_rule(
                f"data.labels_uri is for idx files, and {files[0].uri} is {form}: leave it out;"
                f" labels are {_LABELS.get(form, 'the column that data.label names')}",
                "data.labels_uri",
            )
        return files, None, form
    uri = data.labels_uri
    if uri is None:
        # MNIST's four files often lie in one folder, and a pattern finds the labels as well.
        files = [one for one in files if "labels" not in one.uri.rpartition("/")[2]] or files
        uri = labels_beside(files[0].uri) if len(files) == 1 else None
        if uri is None:
            raise InvalidInput(
                f"say in data.labels_uri which file has the labels of {files[0].uri}",
                code="label_needed",
                field="data.labels_uri",
            )
    else:
        files = [one for one in files if one.uri != uri] or files
    try:
        (labels,) = find_files(places, tenant, [uri], still, "data.labels_uri")
    except NotFound as error:
        raise InvalidInput(
            f"{error.message}, where the labels of {files[0].uri} would be: say data.labels_uri",
            code="label_needed",
            field="data.labels_uri",
        ) from error
    return files, labels, form


def _reader(
    spec: TrainingSpec,
    form: DataFormat,
    files: list[DataFile],
    labels: DataFile | None,
    still: Callable[[], bool],
) -> Reader:
    if form in (DataFormat.IDX, DataFormat.IMAGES) and spec.data.where:
        raise InvalidInput(
            f"data.where chooses by columns, and {form} files have none",
            code="bad_where",
            field="data.where",
        )
    if form is DataFormat.IDX:
        assert labels is not None
        return IdxReader(files, labels, still)
    if form is DataFormat.IMAGES:
        return PicturesReader(spec.data.uris, files, spec.data.shape, still)
    reader = TableReader(files, form, spec.data.where, still)
    if form in (DataFormat.CSV, DataFormat.JSONL):
        _expect_numbers(spec, reader)
    return reader


def _expect_numbers(spec: TrainingSpec, reader: TableReader) -> None:
    """What a file of text holds is known by its first lines: the spec says more of it."""
    label, numbers = spec.data.label, []
    if spec.prepare.text is None:
        others = {label, spec.weights.group, *spec.prepare.categories}
        names = spec.data.features or [one.name for one in reader.columns()]
        numbers = [name for name in names if name not in others]
        reader.expect_numbers(numbers)
    if spec.task is Task.NUMBERS and label is not None:
        numbers.append(label)
    reader.expect_fractions(numbers)
