"""Messages that somebody else wrote, doubled, mixed up or made up."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import kombu

from tests.faults.fault import Fault
from tests.faults.scene import Scene

QUEUES = ("infer.default.hi", "infer.default", "bulk.default")
DEAD = "forebay.dead"
TASK = "forebay.infer"
_EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


class Forger:
    """Somebody who reached the broker and knows how a wake-up looks."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._connection = kombu.Connection(scene.stack.services.broker_url)
        self._channel: Any = self._connection.default_channel
        self.chance = random.Random(scene.seed)
        self.sent = 0

    def wake_up(
        self, version: str, jobs: Sequence[str], wrong: Mapping[str, object] | None = None
    ) -> None:
        """A well-formed message, but for what is ``wrong`` in its envelope."""
        envelope = {"v": 1, "version": version, "jobs": list(jobs), **(wrong or {})}
        self.raw(json.dumps([[envelope], {}, _EMBED]).encode())

    def raw(self, body: bytes, *, task: str = TASK, **properties: Any) -> None:
        """Any body in a queue drawn by lot."""
        name = str(uuid.uuid4())
        headers = {"lang": "py", "task": task, "id": name, "root_id": name, "retries": 0}
        about = {"content_type": "application/json", "content_encoding": "utf-8", **properties}
        message = self._channel.prepare_message(
            body,
            content_type=about["content_type"],
            content_encoding=about["content_encoding"],
            headers=properties.get("headers", headers),
            properties={"delivery_mode": 2, "correlation_id": name},
        )
        self._channel.basic_publish(message, exchange="", routing_key=self.chance.choice(QUEUES))
        self.sent += 1

    def close(self) -> None:
        self._connection.close()


def _versions(scene: Scene) -> dict[str, str]:
    """The version of each tenant's model."""
    return dict(scene.sql("SELECT tenant, id::text FROM versions"))  # type: ignore[arg-type]


def _known(scene: Scene) -> list[tuple[str, str]]:
    """(id, version) of every job there is, finished or not."""
    return scene.sql("SELECT id::text, version_id::text FROM jobs")  # type: ignore[return-value]


def doubled(scene: Scene) -> None:
    """Every wake-up many times over, in other orders, chunks and lanes, while the work runs."""
    scene.pace(0.05)
    scene.submit_meanwhile(scene.jobs)
    forger, met = Forger(scene), 0
    try:
        scene.wait_running()
        for _ in range(6):
            known = _known(scene)
            forger.chance.shuffle(known)
            for version in {version for _, version in known}:
                ids = [one for one, of in known if of == version]
                for some in _chunks(ids, forger.chance):
                    forger.wake_up(version, some)
                    forger.wake_up(version, list(reversed(some)))
            met = max(met, scene.running())
    finally:
        forger.close()
    assert met, "nothing ran any more"
    scene.hit(f"{forger.sent} messages too many, {met} jobs running meanwhile")


def forged(scene: Scene) -> None:
    """Other tenants' ids, unknown ones, finished ones, and versions that are somebody else's."""
    scene.pace(0.05)
    finished = scene.submit(scene.jobs // 4)
    scene.wait_ended(finished)
    scene.submit_meanwhile(scene.jobs - scene.jobs // 4)
    forger, met = Forger(scene), 0
    versions = sorted(_versions(scene).values())
    try:
        scene.wait_running()
        for _ in range(6):
            ids = [one for one, _ in _known(scene)]
            forger.chance.shuffle(ids)
            for some in _chunks(ids, forger.chance):
                for version in (*versions, str(uuid.uuid4())):
                    forger.wake_up(version, some)  # a mixture of both tenants' and of all states
            strangers = [str(uuid.uuid4()) for _ in range(20)]
            forger.wake_up(forger.chance.choice(versions), strangers)
            forger.wake_up(forger.chance.choice(versions), [*strangers, *ids[:20]])
            met = max(met, scene.running())
    finally:
        forger.close()
    assert met, "nothing ran any more"
    scene.hit(f"{forger.sent} forged messages, {met} jobs running meanwhile")


def garbage(scene: Scene) -> None:
    """What no part of ours would send. It may be thrown away or set aside, and hurts nobody."""
    scene.pace(0.05)
    scene.submit_meanwhile(scene.jobs)
    forger, met = Forger(scene), 0
    try:
        scene.wait_running()
        for _ in range(3):
            known = _known(scene)
            _throw_garbage(forger, [one for one, _ in known], known[0][1])
            met = max(met, scene.running())
    finally:
        forger.close()
    assert met, "nothing ran any more"
    scene.load.book.write(explains=DEAD, messages=forger.sent)
    scene.hit(f"{forger.sent} pieces of garbage, {met} jobs running meanwhile")


def _throw_garbage(forger: Forger, ids: Sequence[str], version: str) -> None:
    for body in (b"", b"\x00\xff\xfe", b"{", b"[]", b"null", b"[[], {}, {}]", b"[[1], {}, {}]"):
        forger.raw(body)
    forger.raw(b"[" * 10_000)
    forger.raw(b"x" * 1_000_000)
    forger.raw(b"cos\nsystem\n(S'true'\ntR.", content_type="application/x-python-serialize")
    forger.raw(json.dumps([[{}], {}, _EMBED]).encode(), content_type="text/plain")
    forger.raw(json.dumps([[{}], {}, _EMBED]).encode(), content_encoding="utf-7-not")
    forger.raw(json.dumps([[{}], {}, _EMBED]).encode(), task="celery.backend_cleanup")
    forger.raw(json.dumps([[{}], {}, _EMBED]).encode(), task="no.such.task")
    forger.raw(json.dumps([[{}], {}, _EMBED]).encode(), headers={})
    for wrong in (
        {"v": 2},
        {"v": True},
        {"v": "1"},
        {"jobs": []},
        {"jobs": "all"},
        {"jobs": [1, 2]},
        {"jobs": [ids[0], ids[0]]},
        {"jobs": ["' OR 1=1 --"]},
        {"jobs": [str(uuid.uuid4()) for _ in range(513)]},
        {"version": None},
        {"version": "digits"},
        {"tenant": "bora"},
    ):
        forger.wake_up(version, ids[:5], wrong)


def _chunks(ids: Sequence[str], chance: random.Random) -> Iterator[Sequence[str]]:
    at = 0
    while at < len(ids):
        size = chance.choice((1, 3, 16, 64, 200))
        yield ids[at : at + size]
        at += size


FAULTS = (
    Fault("messages doubled and reordered", doubled),
    Fault("messages forged", forged),
    Fault("messages that are garbage", garbage),
)
