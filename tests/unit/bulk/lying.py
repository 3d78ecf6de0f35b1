"""Places for files that a test makes up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from storage.objects.protocol import Objects
from storage.records.errors import ObjectCorrupt


@dataclass
class Lying:
    """A file as a source sees it: it counts what is read of it."""

    data: bytes
    key: str = "in/rows.csv"
    reads: list[tuple[int, int]] = field(default_factory=list)

    @property
    def objects(self) -> Objects:
        return cast(Objects, self)

    @property
    def uri(self) -> str:
        return f"s3://bucket/{self.key}"

    @property
    def filename(self) -> str:
        return self.uri

    def get_range(self, key: str, offset_bytes: int, length_bytes: int) -> bytes:
        assert key == self.key
        self.reads.append((offset_bytes, length_bytes))
        block = self.data[offset_bytes : offset_bytes + length_bytes]
        if len(block) != length_bytes:
            raise ObjectCorrupt(f"{key} is shorter")
        return block
