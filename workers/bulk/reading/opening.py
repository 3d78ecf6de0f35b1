"""Opens a file by its format, and tells the format by the file's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from storage.records.bulk import BulkFormat, Condition, PlannedFile
from storage.records.errors import InvalidInput
from workers.bulk.places import Found, Place
from workers.bulk.ports import Source
from workers.bulk.reading.unchanged import check_unchanged, pinned
from workers.bulk.reading.where import Where

_BY_NAME = {
    ".parquet": BulkFormat.PARQUET,
    ".pq": BulkFormat.PARQUET,
    ".csv": BulkFormat.CSV,
    ".tsv": BulkFormat.CSV,
    ".jsonl": BulkFormat.JSONL,
    ".ndjson": BulkFormat.JSONL,
    ".json": BulkFormat.JSONL,
    ".npy": BulkFormat.NPY,
    ".npz": BulkFormat.NPZ,
    ".txt": BulkFormat.URIS,
}
_LINES = frozenset({BulkFormat.CSV, BulkFormat.JSONL, BulkFormat.URIS, BulkFormat.REQUESTS})
_GZIP = ".gz"


def format_of(name: str) -> tuple[BulkFormat, bool]:
    """What a file of this name or address holds, and whether it is gzip. ``InvalidInput``
    (``unknown_format``)."""
    plain = name.lower().removesuffix(_GZIP)
    for ending, format in _BY_NAME.items():
        if plain.endswith(ending):
            return format, is_gzip(name, format)
    raise InvalidInput(
        f"the name of {name[-200:]!r} does not tell what it holds: give the input's format, or a"
        f" name that ends with one of {' '.join(_BY_NAME)}",
        code="unknown_format",
        field="input.format",
    )


def is_gzip(name: str, format: BulkFormat) -> bool:
    """Whether a file of this name is gzip. ``InvalidInput`` (``unknown_format``) where the format
    is not one of lines: others are read from their middle."""
    gzip = name.lower().endswith(_GZIP)
    if gzip and format not in _LINES:
        raise InvalidInput(
            f"{name[-200:]!r} is {format} in gzip, which is not read: store it as it is",
            code="unknown_format",
            field="input.format",
        )
    return gzip


def open_source(
    found: Found,
    format: BulkFormat,
    *,
    types: Mapping[str, str] | None = None,
    where: Sequence[Condition] = (),
    fetch: Callable[[str], bytes],
    just_found: bool = False,
) -> Source:
    """The file, checked as far as opening it can; its ranges are of the content that was found.

    ``types`` of a text file's columns as they were planned; None: by a sample. ``fetch`` reads
    what an address in the file points to. ``InvalidInput``: ``bad_file``, ``file_changed``,
    ``unknown_column``, ``bad_where`` and what the format adds; ``NotFound``
    (``input_not_found``). What was ``just_found`` needs no look whether it still is the same: its
    ranges are asked of that content alone.
    """
    if not (just_found and found.etag):
        check_unchanged(found)
    found, condition = pinned(found), Where(where, found.place.uri)
    match format:
        case BulkFormat.PARQUET:
            from workers.bulk.reading.parquet import ParquetSource

            return ParquetSource(found, condition)
        case BulkFormat.NPY | BulkFormat.NPZ:
            from workers.bulk.reading.arrays import ArraySource

            return ArraySource(found, condition, format)
        case BulkFormat.IMAGES:
            raise ValueError("images are listed first, and read as uris")
    return _open_lines(found, format, types, condition, fetch)


def planned(found: Found, source: Source) -> PlannedFile:
    """What planning has to know of it. Its ``digest`` is the ETag, by which ``found_again`` pins
    the content for every shard."""
    return replace(source.planned(), digest=found.etag)


def found_again(place: Place, file: PlannedFile) -> Found:
    """The file of a plan, to be opened only if it is still the same."""
    return Found(place, file.size_bytes, file.digest)


def _open_lines(
    found: Found,
    format: BulkFormat,
    types: Mapping[str, str] | None,
    where: Where,
    fetch: Callable[[str], bytes],
) -> Source:
    place, size_bytes = found.place, found.size_bytes
    gzip = is_gzip(place.filename, format)
    if format is BulkFormat.URIS:
        from workers.bulk.reading.uris import UrisSource

        return UrisSource(place, size_bytes, gzip=gzip, where=where, fetch=fetch)
    from workers.bulk.reading.delimited import CsvSource
    from workers.bulk.reading.jsonl import JsonlSource
    from workers.bulk.reading.requests import RequestsSource

    opens: dict[BulkFormat, type[CsvSource] | type[JsonlSource] | type[RequestsSource]] = {
        BulkFormat.CSV: CsvSource,
        BulkFormat.JSONL: JsonlSource,
        BulkFormat.REQUESTS: RequestsSource,
    }
    source = opens[format](
        place,
        size_bytes,
        gzip=gzip,
        types=types,
        where=where if where.columns else None,
        where_columns=where.columns,
    )
    if where.columns and (columns := source.columns()):  # an empty file has none
        where.check_names(columns)
    return source
