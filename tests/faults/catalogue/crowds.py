"""Two of what there is usually one of, and relays that die; with a window so small that the relays
have to choose."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from tests.faults.catalogue.deaths import SUBMITS
from tests.faults.fault import Fault
from tests.faults.scene import Scene
from tests.faults.wire.amqp import Method
from tests.faults.wire.line import Line
from tests.faults.wire.postgres import Settled

SMALL = {"FOREBAY_MIN_WINDOW_JOBS": "16", "FOREBAY_MAX_WINDOW_JOBS": "32"}
MARKS = "UPDATE live SET published_at = "


def _relay_dies(scene: Scene, line: Line, matches: Callable[[object], bool], what: str) -> None:
    """The API and the relay in it; a keeper's finds the rows' marks, which live on.

    The window is full before the trap is set, as no worker is there that could claim of it, and
    there is no other relay until it is sprung: the next that enter the window are entered by this
    one, however slow the callers are.
    """
    scene.pace(0.05)
    scene.stack.kill("keeper")
    scene.stack.stop("worker")
    scene.submit(scene.jobs // 4)
    pid = scene.stack.pid("api")
    trip = line["api"].trip(matches, lambda: os.kill(pid, signal.SIGKILL))
    scene.submit_meanwhile(scene.jobs - scene.jobs // 4)
    scene.stack.spawn("worker")
    trip.wait()
    scene.stack.kill("api")
    marked = scene.count(
        "SELECT count(*) FROM live WHERE state = 'queued' AND published_at IS NOT NULL"
    )
    if live := scene.live():
        scene.hit(f"{what}; {live} live, {marked} of them marked and not claimed")
    scene.stack.start("keeper")
    scene.stack.start("api")
    scene.stack.wait_device("worker")
    scene.healed()


def relay_before_its_bookkeeping(scene: Scene) -> None:
    """The broker has the messages, and the relay does not hear of it."""
    _relay_dies(
        scene,
        scene.broker,
        lambda event: event == Method("ack", from_client=False),
        "the broker's confirm was on its way",
    )


def relay_after_marking(scene: Scene) -> None:
    """Rows are marked as published, and their messages were never sent."""
    _relay_dies(
        scene,
        scene.database,
        lambda event: isinstance(event, Settled) and event.did(MARKS) and not event.holds(SUBMITS),
        "marks were committed",
    )


def two_of_each(scene: Scene) -> None:
    """Four relays, two reapers and sweeps, two workers of which one is lost."""
    scene.start("api2", "keeper2", "worker2")
    scene.pace(0.05, "worker2")
    scene.hold("worker")
    scene.submit_meanwhile(scene.jobs)
    held = scene.wait_on_device("worker")
    scene.stack.kill("worker")
    scene.release("worker")
    scene.hit(f"the lost worker had {len(held)} jobs on its device")
    scene.stack.start("worker")


FAULTS = (
    Fault(
        "relay killed after publish, before its bookkeeping", relay_before_its_bookkeeping, SMALL
    ),
    Fault("relay killed after marking, before publish", relay_after_marking, SMALL),
    Fault("two relays, reapers and sweeps at once", two_of_each, SMALL),
)
