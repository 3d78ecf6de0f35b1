"""Receivers of webhooks that misbehave, and a keeper that dies while it delivers.

Both tenants have an endpoint that answers and one that does what the fault says. Whatever that
is, the good ones are told of every end; the log of all of them goes to the auditor.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence

from tests.faults.fault import Fault
from tests.faults.scene import Scene
from tests.support.receiver import Receiver
from tests.support.waiting import wait_until

ALLOWED = {"FOREBAY_WEBHOOK_ALLOW": "127.0.0.1:*"}
TOLD_S = 60.0  # for the last webhook
WITHIN_S = 30.0  # after a keeper's death: its lease, and a look
MARGIN = 1.0

_PENDING = """
    SELECT count(*) FROM deliveries AS d JOIN webhook_endpoints AS e ON e.id = d.endpoint_id
    WHERE d.state = 'pending' AND e.url LIKE %(path)s
"""
_ATTEMPTS = """
    SELECT count(*) FROM webhook_attempts AS a JOIN webhook_endpoints AS e ON e.id = a.endpoint_id
    WHERE e.url LIKE %(path)s
"""


def listen(scene: Scene, bad: str, *, all_told: bool) -> Receiver:
    """Receivers for this run, registered by both tenants. ``all_told``: those at ``bad`` answer
    in the end, and are to be told of everything as well."""
    receiver = Receiver(log=scene.load.book.path.with_name("webhooks.jsonl"))
    scene.afterwards(receiver.close)
    for person in scene.load.people:
        for path, answers in (("/ok", True), (bad, all_told)):
            whole = f"{path}/{person.tenant}"
            made = person.http.post("/v1/webhooks", json={"url": receiver.url(whole)})
            assert made.status_code == 201, made.text
            if answers:
                scene.load.book.write(told=whole, tenant=person.tenant)
    paths = ["/ok", bad] if all_told else ["/ok"]
    scene.afterwards(functools.partial(_wait_told, scene, paths))
    return receiver


def _wait_told(scene: Scene, paths: Sequence[str]) -> None:
    for path in paths:
        wait_until(
            lambda path=path: scene.count(_PENDING, path=f"%{path}/%") == 0,  # type: ignore[misc]
            TOLD_S,
            what=f"all webhooks of {path}",
        )


def attempts(scene: Scene, path: str) -> int:
    """How many were recorded at endpoints of this path."""
    return scene.count(_ATTEMPTS, path=f"%{path}/%")


def _bad(
    path: str, *, all_told: bool = False, after: Callable[[Scene, Receiver], None] | None = None
) -> Callable[[Scene], None]:
    """Everything is submitted while a receiver does what its path says."""

    def inject(scene: Scene) -> None:
        receiver = listen(scene, path, all_told=all_told)
        scene.submit(scene.jobs)
        at_bad = [f"{path}/{person.tenant}" for person in scene.load.people]
        wait_until(
            lambda: all(receiver.ids(one) for one in at_bad), TOLD_S, what=f"webhooks at {path}"
        )
        wait_until(lambda: attempts(scene, path), TOLD_S, what=f"recorded attempts at {path}")
        if after is not None:
            after(scene, receiver)
        scene.hit(f"{sum(len(receiver.ids(one)) for one in at_bad)} came to it")

    return inject


def _was_not_led(scene: Scene, receiver: Receiver) -> None:
    assert not receiver.ids("/ok/redirected"), "a redirect was followed"


def _is_switched_off(scene: Scene, receiver: Receiver) -> None:
    gone = "SELECT count(*) FROM webhook_endpoints WHERE NOT enabled AND disabled_reason = 'gone'"
    wait_until(lambda: scene.count(gone) == 2, TOLD_S, what="two endpoints switched off")


def _waits_as_asked(scene: Scene, receiver: Receiver) -> None:
    for person in scene.load.people:
        path = f"/later/2/7/{person.tenant}"

        def again(path: str = path) -> list[float]:
            seen = [one for one in list(receiver.requests) if one["path"] == path]
            asked = [one for one in seen if one["says"] == 429]
            return [
                one["time"] - asked[0]["time"]
                for one in seen
                if asked and one["id"] == asked[0]["id"] and one is not asked[0]
            ]

        waited = wait_until(again, TOLD_S, what=f"a second attempt at {path}")
        assert waited[0] >= 7 - MARGIN, f"asked to wait 7 s, and waited {waited[0]:.1f} s"


def keeper_dies(scene: Scene) -> None:
    """It has claimed deliveries, and receivers are just being told."""
    receiver = listen(scene, "/slow/1.5", all_told=True)
    scene.submit(scene.jobs // 4)
    slow = [f"/slow/1.5/{person.tenant}" for person in scene.load.people]
    wait_until(lambda: any(receiver.ids(one) for one in slow), TOLD_S, what="a slow webhook")
    broken_off = sum(len(receiver.ids(one)) for one in slow)
    scene.stack.kill("keeper")
    died_s = time.time()
    done = attempts(scene, "/slow/1.5")
    scene.hit(f"{broken_off} slow webhooks were under way, {done} of them recorded")
    assert broken_off > done, "nothing was under way when the keeper died"
    scene.submit(scene.jobs - scene.jobs // 4)
    first = set(receiver.ids())
    scene.stack.start("keeper")

    def all_again() -> bool:
        late = [one for one in list(receiver.requests) if one["time"] > died_s]
        again = {one["id"] for one in late if one["path"] in slow}
        return len(again & first) >= broken_off - done

    wait_until(all_again, WITHIN_S, what="another attempt of what the dead keeper had claimed")


FAULTS = (
    Fault("webhook receiver slow", _bad("/slow/0.3", all_told=True), ALLOWED),
    Fault("webhook receiver endless", _bad("/endless", all_told=True), ALLOWED, jobs=60),
    Fault("webhook receiver hangs", _bad("/hang"), ALLOWED),
    Fault("webhook receiver redirects", _bad("/redirect", after=_was_not_led), ALLOWED),
    Fault("webhook receiver answers 410", _bad("/status/410", after=_is_switched_off), ALLOWED),
    Fault(
        "webhook receiver answers 429",
        _bad("/later/2/7", all_told=True, after=_waits_as_asked),
        ALLOWED,
    ),
    Fault("webhook receiver resets", _bad("/reset"), ALLOWED),
    Fault("keeper killed mid-delivery", keeper_dies, ALLOWED),
)
