"""Files that bulk jobs read and write, in folders or in buckets, as the service's environment
names them; and the contents of such files.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from botocore.config import Config

from tests.support.s3 import REGION


class Shelf(Protocol):
    """A prefix with files below it."""

    def uri(self, name: str = "") -> str:
        """The address of a file, of a pattern, or of the prefix itself."""
        ...

    def at(self, name: str) -> Shelf:
        """A prefix below it."""
        ...

    def write(self, name: str, data: bytes) -> str:
        """Its address."""
        ...

    def read(self, name: str) -> bytes: ...

    def move(self, name: str, to: str) -> None:
        """The same file under another name: moved back, it is the one that it was."""
        ...

    def names(self) -> list[str]:
        """All below it, sorted."""
        ...


@dataclass(frozen=True)
class FolderShelf:
    """In the file system."""

    folder: Path

    def uri(self, name: str = "") -> str:
        return f"file://{self.folder}/{name}".rstrip("/")

    def at(self, name: str) -> FolderShelf:
        return FolderShelf(self.folder / name)

    def write(self, name: str, data: bytes) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return self.uri(name)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def move(self, name: str, to: str) -> None:
        (self.folder / name).rename(self.folder / to)

    def names(self) -> list[str]:
        below = (path for path in self.folder.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(self.folder)) for path in below)


@dataclass(frozen=True)
class BucketShelf:
    """In an S3 bucket."""

    client: Any
    bucket: str
    prefix: str

    def uri(self, name: str = "") -> str:
        return f"s3://{self.bucket}/{self._key(name)}".rstrip("/")

    def at(self, name: str) -> BucketShelf:
        return BucketShelf(self.client, self.bucket, self._key(name))

    def write(self, name: str, data: bytes) -> str:
        self.client.put_object(Bucket=self.bucket, Key=self._key(name), Body=data)
        return self.uri(name)

    def read(self, name: str) -> bytes:
        body = self.client.get_object(Bucket=self.bucket, Key=self._key(name))["Body"].read()
        assert isinstance(body, bytes)
        return body

    def move(self, name: str, to: str) -> None:
        source = {"Bucket": self.bucket, "Key": self._key(name)}
        self.client.copy_object(Bucket=self.bucket, Key=self._key(to), CopySource=source)
        self.client.delete_object(**source)

    def names(self) -> list[str]:
        below = self._key("") + "/" if self._key("") else ""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=below
        )
        found = (one["Key"] for page in pages for one in page.get("Contents", ()))
        return sorted(key.removeprefix(below) for key in found)

    def _key(self, name: str) -> str:
        return "/".join(part for part in (self.prefix, name) if part)


def shelf(uri: str, environment: Mapping[str, str]) -> Shelf:
    """What lies below an address; ``environment`` has the way to the buckets."""
    scheme, _, path = uri.partition("://")
    if scheme == "file":
        return FolderShelf(Path(path))
    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL_S3"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=REGION,
        config=Config(s3={"addressing_style": "path"}),
    )
    bucket, _, prefix = path.partition("/")
    return BucketShelf(client, bucket, prefix)


def parquet(columns: Mapping[str, Any], row_group_rows: int = 100) -> bytes:
    """Columns of lists or of arrays; an array of two axes becomes a fixed-size list."""
    out = io.BytesIO()
    arrays = {name: _arrow(values) for name, values in columns.items()}
    pq.write_table(pa.table(arrays), out, row_group_size=row_group_rows)
    return out.getvalue()


def vectors(numbers: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """For the echo model: each number and its negative."""
    return np.array([[number, -number] for number in numbers], dtype=np.float32)


def npy(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def npz(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def lines(texts: Sequence[bytes]) -> tuple[bytes, list[int]]:
    """A file of these lines, and the byte at which each begins."""
    ended = [text + b"\n" for text in texts]
    return b"".join(ended), [0, *accumulate(len(one) for one in ended)][:-1]


def csv_lines(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[bytes]:
    """Header and rows as lines; a cell may have a line break in it."""
    made = []
    for row in (header, *rows):
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(row)
        made.append(text.getvalue().encode())
    return made


def json_lines(rows: Sequence[Mapping[str, object]]) -> list[bytes]:
    return [json.dumps(row, ensure_ascii=False).encode() for row in rows]


def read_part(name: str, data: bytes) -> tuple[list[dict[str, Any]], list[str] | None]:
    """The rows of a part, and its columns where they are the same for all."""
    if name.endswith(".parquet"):
        table = pq.read_table(io.BytesIO(data))
        return table.to_pylist(), table.schema.names
    if name.endswith(".csv"):
        reader = csv.DictReader(io.StringIO(data.decode(), newline=""))
        return list(reader), list(reader.fieldnames or ())
    assert name.endswith(".jsonl"), name
    return [json.loads(line) for line in data.splitlines()], None


def _arrow(values: Any) -> Any:
    if isinstance(values, np.ndarray) and values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    return pa.array(values)
