"""``python -m tests.support.training_process FOLDER``: a worker that looks after trainings.

FOLDER is a household's, with a gym in ``gym``. Runs until it is killed.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

from tests.support.household import Household
from tests.support.trainings import Gym, postman, training_worker


def main(folder: Path) -> None:
    house = Household.on_sqlite(folder)
    gym = Gym.__new__(Gym)  # as it is
    gym.house, gym.folder, gym.urls = house, folder / "gym", None
    quick: dict[str, Any] = {"lease_ttl_s": 1.0, "renew_every_s": 0.2}
    with training_worker(gym, "other", **quick) as worker, postman(house, worker):
        threading.Event().wait(60)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
