"""``python -m tests.faults.light_up``: ``forebay up`` whose worker is light.

Both of its processes start here: the second with ``--parent-pid``, as the product's own does.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from forebay import embedded, up
from forebay.__main__ import main
from forebay.device import Thread
from storage.database import Database
from storage.objects import Objects
from storage.settings import Settings
from tests.faults.light_device import CONTROL, TRAINER, EchoRuntime
from workers.process import WorkerParts
from workers.settings import WorkerSettings


def light_parts(
    settings: Settings,
    tuned: WorkerSettings,
    database: Database,
    objects: Objects,
    environ: Mapping[str, str],
    threads: tuple[Thread, ...] = (),
) -> WorkerParts:
    """The product's, with a runtime of plain numpy."""
    control = Path(environ[CONTROL])
    return WorkerParts(
        database,
        objects,
        lambda: EchoRuntime(control),
        settings.broker_url,
        tuned,
        threads,
        trainer=TRAINER,
        environ=environ,
    )


if __name__ == "__main__":
    if "--parent-pid" in sys.argv:
        embedded.worker_parts = light_parts
        sys.exit(embedded.main(sys.argv[1:], os.environ))
    argv = (sys.executable, "-m", "tests.faults.light_up")
    up.ChildParts = functools.partial(up.ChildParts, argv=argv)  # type: ignore[assignment,misc]
    main()
