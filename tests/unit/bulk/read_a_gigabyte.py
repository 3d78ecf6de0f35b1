"""Reads a file whose middle line is a gigabyte long, made as it is read. Prints the error's code,
the number of rows beside it, and by how many MiB the process grew."""

from __future__ import annotations

import resource
from typing import cast

from storage.objects.protocol import Objects
from workers.bulk.reading.delimited import CsvSource

HEAD, LINE_BYTES, TAIL = b"a,b\n1,2\n", 1 << 30, b"\n3,4\n"
SIZE_BYTES = len(HEAD) + LINE_BYTES + len(TAIL)


class Endless:
    """The file: nothing of it is kept."""

    key = "long.csv"
    uri = filename = "s3://bucket/long.csv"

    @property
    def objects(self) -> Objects:
        return cast(Objects, self)

    def get_range(self, key: str, offset_bytes: int, length_bytes: int) -> bytes:
        behind = len(HEAD) + LINE_BYTES
        stop = offset_bytes + length_bytes
        middle = max(0, min(stop, behind) - max(offset_bytes, len(HEAD)))
        block = (
            HEAD[offset_bytes:stop]
            + b"x" * middle
            + TAIL[max(0, offset_bytes - behind) : max(0, stop - behind)]
        )
        assert len(block) == length_bytes
        return block


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    small = CsvSource(Endless(), SIZE_BYTES, gzip=False, types={"a": "int64", "b": "int64"})
    assert small.columns() == ("a", "b")
    list(small.chunks(0, 5, ["a"], max_rows=10, max_bytes=1 << 20))  # everything is loaded
    before = peak_mib()
    rows, codes = 0, []
    for chunk in small.chunks(0, SIZE_BYTES, ["a", "b"], max_rows=10, max_bytes=1 << 20):
        rows += chunk.batch.num_rows
        codes += [error.code for error in chunk.errors]
    print(*codes, rows, round(peak_mib() - before, 1))


if __name__ == "__main__":
    main()
