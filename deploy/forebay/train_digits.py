"""Trains the demo's model in a process of its own: ``python -m forebay.train_digits IN OUT``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def main(table: str, model: str) -> None:
    """IN is an ``.npz`` with pictures and labels, OUT a ``.keras`` to write."""
    from workers.runtime.digits import train

    with np.load(table) as data:
        train(data["pictures"], data["labels"], Path(model))


if __name__ == "__main__":
    main(*sys.argv[1:])
