"""Jobs that harm who runs them, and jobs that somebody stops."""

from __future__ import annotations

import random
import time

from tests.faults.fault import Fault
from tests.faults.load import Person
from tests.faults.scene import Scene
from tests.support.misbehaviour import GREEDY, KILLER
from tests.support.waiting import wait_until

TERMINAL = frozenset({"succeeded", "failed", "cancelled", "expired"})


def _among_innocents(scene: Scene, value: float, code: str) -> list[str]:
    """A group with one culprit in the middle, and others around it."""
    load = scene.load
    culprit = load.question(value, 1.0, expect={"states": ["failed"], "codes": [code]})
    half = [load.question() for _ in range(20)]
    other = [load.question() for _ in range(20)]
    ids = load.group(scene.ayla, [*half, culprit, *other])
    return [ids[20]]


def poison(scene: Scene) -> None:
    """An item that kills its process each time fails alone, by name."""
    scene.submit(40)
    (culprit,) = _among_innocents(scene, KILLER, "poison")
    first = scene.stack.device()
    wait_until(lambda: scene.stack.device() != first, 60, what="the death of the first device")
    scene.hit("the device died of it")
    scene.submit_meanwhile(scene.jobs // 4)
    scene.wait_ended([culprit])
    (attempts,) = scene.sql("SELECT attempts FROM ends WHERE id = %(id)s", id=culprit)[0]
    assert attempts == 3, f"set aside after {attempts} attempts, not after 3"


def too_large(scene: Scene) -> None:
    """An input for which there is not enough memory fails alone; nothing dies of it."""
    scene.submit(40)
    first = scene.stack.device()
    (culprit,) = _among_innocents(scene, GREEDY, "out_of_memory")
    scene.hit(f"{scene.live()} live beside it")
    scene.submit_meanwhile(scene.jobs // 4)
    scene.wait_ended([culprit])
    assert scene.stack.device() == first, "the device process died of it"


def cancels(scene: Scene) -> None:
    """Two in three jobs are cancelled at a random moment of their lives, some twice at once."""
    chance = random.Random(scene.seed)
    scene.pace(0.2)
    outcomes: dict[str, int] = {}

    def cancel_some(person: Person) -> None:
        seen: set[str] = set()
        quiet_s = time.monotonic() + 1.5
        while time.monotonic() < quiet_s:
            mine = [
                one for one, of in list(scene.load.book.accepted.items()) if of == person.tenant
            ]
            for job_id in mine:
                if job_id in seen:
                    continue
                seen.add(job_id)
                if chance.random() < 2 / 3:
                    quiet_s = time.monotonic() + 1.5
                    _cancel(scene, person, job_id, outcomes)
            time.sleep(0.01)

    threads = [
        scene.meanwhile(lambda person=person: cancel_some(person))  # type: ignore[misc]
        for person in (scene.ayla, scene.bora, scene.ayla, scene.bora)
    ]
    scene.submit(scene.jobs)
    for thread in threads:
        thread.join(120)
    assert outcomes.get("cancelled") and outcomes.get("running"), f"no race: {outcomes}"
    scene.hit(f"cancels were answered: {outcomes}")


def _cancel(scene: Scene, person: Person, job_id: str, outcomes: dict[str, int]) -> None:
    scene.load.book.may_end(job_id, "succeeded", "cancelled")
    answer = person.cancel(job_id)
    assert answer.status_code in (200, 202), answer.text
    state = answer.json()["state"]
    outcomes[state] = outcomes.get(state, 0) + 1
    if state in TERMINAL:  # then that is what it stays
        scene.load.book.may_end(job_id, state)


FAULTS = (
    Fault("an item that kills its process", poison),
    Fault("an input for which there is no memory", too_large),
    Fault("cancel races every transition", cancels),
)
