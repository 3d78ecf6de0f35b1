"""``python -m tests.support.disk_trainer``: a trainer's process that may hold no rows in memory.

Notes in the file ``FOREBAY_TEST_TAKEN`` how many bytes of rows were taken from the disk.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from forebay import trainer
from workers.training.data import prepare as preparing
from workers.training.data.flat import FlatFile


def main() -> None:
    taken = 0
    gather = FlatFile.gather

    def counted(file: FlatFile, indices: Any) -> Any:
        nonlocal taken
        taken += len(indices) * file.row_bytes
        return gather(file, indices)

    FlatFile.gather = counted  # type: ignore[method-assign,assignment]
    preparing.prepare = partial(preparing.prepare, budget_bytes=0)
    code = trainer.main(sys.argv[1:], os.environ)
    Path(os.environ["FOREBAY_TEST_TAKEN"]).write_text(str(taken))
    os._exit(code)


if __name__ == "__main__":
    main()
