"""RabbitMQ dies, loses its queues or all it knows, falls silent, runs short of memory, takes
offence.

What it holds are wake-ups and nothing else, so whatever becomes of them the jobs are done; and a
submit never waits for it.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import kombu

from storage.queue.lanes import Lane, queue_name
from tests.faults.fault import Fault
from tests.faults.scene import REACH_S, Scene
from tests.faults.wire.amqp import Method
from tests.support.rabbitmq import RabbitMQ
from tests.support.waiting import wait_until

SUBMIT_S = 5.0  # for twenty submits, on a busy machine
NOTICED_S = 60.0
HELD_S = 5.0  # consumer_timeout in its fault; its default is half an hour
QUEUES = [queue_name("default", lane) for lane in Lane]
_DEFAULTS = {"consumer_timeout": 1_800_000, "channel_tick_interval": 60_000}


def killed(scene: Scene) -> None:
    rabbitmq = scene.servers.rabbitmq
    scene.hold()
    scene.submit(scene.jobs // 2)
    held = scene.wait_on_device()
    rabbitmq.kill()
    try:
        said = _submits_at_once(scene)
        scene.hit(f"{len(held)} jobs on the device, {scene.live()} live; {said} without it")
    finally:
        rabbitmq.start()
    scene.healed()
    scene.release()


def purged(scene: Scene) -> None:
    _with_messages(scene)
    with _channel(scene) as channel:
        gone = sum(channel.queue_purge(name) or 0 for name in QUEUES)
    _wiped(scene, gone)


def deleted(scene: Scene) -> None:
    _with_messages(scene)
    with _channel(scene) as channel:
        gone = sum(channel.queue_delete(name) or 0 for name in QUEUES)
    _wiped(scene, gone)


def emptied(scene: Scene) -> None:
    """The node comes back without anything: as a new one, at the same address."""
    rabbitmq = scene.servers.rabbitmq
    messages = _with_messages(scene)
    rabbitmq.kill()
    shutil.rmtree(rabbitmq.folder / "mnesia")
    (rabbitmq.folder / "mnesia").mkdir()
    rabbitmq.start()
    rabbitmq.vhosts.create(_vhost(scene))
    _wiped(scene, messages)


def black_holed(scene: Scene) -> None:
    """The network swallows everything and says nothing: only heartbeats tell."""
    scene.pace(0.1)
    scene.submit(scene.jobs // 2)
    scene.wait_running()
    scene.broker.black_hole()
    live, began_s = scene.live(), time.monotonic()
    before = scene.broker["worker"].accepted
    said = _submits_at_once(scene)
    wait_until(
        lambda: scene.broker["worker"].accepted > before,
        NOTICED_S,
        what="the worker to notice that nobody answers",
    )
    noticed_s = time.monotonic() - began_s
    scene.hit(f"{live} live; {said} meanwhile; the worker noticed after {noticed_s:.0f} s")
    scene.broker.heal()
    scene.healed()


def short_of_memory(scene: Scene) -> None:
    rabbitmq = scene.servers.rabbitmq
    scene.hold()
    scene.submit(scene.jobs // 4)
    scene.wait_on_device()
    blocked = scene.broker.trip(lambda event: event == Method("blocked", False), lambda: None)
    rabbitmq.ctl("set_vm_memory_high_watermark", "0.0000001")
    scene.afterwards(lambda: _end_alarm(rabbitmq))
    said = _submits_at_once(scene)
    blocked.wait()
    said = f"{said} before and {_submits_at_once(scene)} after it told a publisher"
    scene.release()
    _end_alarm(rabbitmq)
    scene.hit(said)
    scene.healed()


def consumer_timeout(scene: Scene) -> None:
    """Messages are held for longer than the broker allows: it closes the channel and delivers
    them anew, while the first ones still run."""
    timeout = {"consumer_timeout": int(1000 * HELD_S), "channel_tick_interval": 1000}
    scene.afterwards(lambda: _new_rules(scene, _DEFAULTS))
    _new_rules(scene, timeout)
    scene.hold()
    scene.submit(scene.jobs // 2)
    held = scene.wait_on_device()
    for _ in range(2):
        scene.broker["worker"].trip(
            lambda event: event == Method("channel-close", False), lambda: None
        ).wait()
    assert scene.on_device() == held, "a pass was given up for the broker's sake"
    scene.hit(f"{len(held)} jobs on the device while it closed the channel twice")
    scene.release()
    _new_rules(scene, _DEFAULTS)
    scene.healed()


def _with_messages(scene: Scene) -> int:
    """Jobs with a message each, of which most wait in their queue; how many do."""
    scene.hold()
    for number in range(scene.jobs // 2):
        _single(scene, number)
    scene.wait_on_device()

    def waiting() -> int:
        # A relay that still paused for the fault before has put many jobs into one message, which
        # is taken at once: then it takes more of them.
        found = _ready(scene)
        if not found:
            _single(scene, 0)
        return found

    return wait_until(waiting, REACH_S, what="messages in the queues")


def _single(scene: Scene, number: int) -> None:
    scene.load.single(scene.load.people[number % 2], scene.load.question())


def _ready(scene: Scene) -> int:
    with _channel(scene) as channel:
        return sum(channel.queue_declare(name, passive=True)[1] for name in QUEUES)


def _wiped(scene: Scene, messages: int) -> None:
    assert messages > 0, "the queues were empty"
    scene.hit(f"{messages} messages gone, {scene.live()} jobs live")
    scene.healed()
    scene.release()


def _submits_at_once(scene: Scene) -> str:
    """Twenty jobs are accepted without waiting for the broker."""
    began_s = time.monotonic()
    scene.submit(20)
    took_s = time.monotonic() - began_s
    assert took_s < SUBMIT_S, f"submits took {took_s:.1f} s"
    return f"20 accepted in {took_s:.2f} s"


@contextlib.contextmanager
def _channel(scene: Scene) -> Iterator[Any]:
    """A channel of our own, past every proxy."""
    with kombu.Connection(scene.stack.services.broker_url, connect_timeout=10) as connection:
        yield connection.channel()


def _vhost(scene: Scene) -> str:
    return unquote(urlsplit(scene.stack.services.broker_url).path[1:])


def _end_alarm(rabbitmq: RabbitMQ) -> None:
    rabbitmq.ctl("set_vm_memory_high_watermark", "0.4")


def _set(rabbitmq: RabbitMQ, values: dict[str, int]) -> None:
    calls = [f"application:set_env(rabbit, {name}, {value})" for name, value in values.items()]
    rabbitmq.ctl("eval", f"{', '.join(calls)}.")


def _new_rules(scene: Scene, values: dict[str, int]) -> None:
    """A channel asks for them when it is opened, so the worker has to open new ones."""
    _set(scene.servers.rabbitmq, values)
    proxy = scene.broker["worker"]
    before = proxy.accepted
    consumes = proxy.trip(lambda event: event == Method("consume", True), lambda: None)
    proxy.cut()
    wait_until(lambda: proxy.accepted > before, REACH_S, what="the worker to connect anew")
    consumes.wait(REACH_S)


FAULTS = (
    Fault("broker killed, started again", killed),
    Fault("broker's queues purged", purged),
    Fault("broker's queues deleted", deleted),
    Fault("broker emptied", emptied),
    Fault("broker black-holed", black_holed),
    Fault("broker short of memory", short_of_memory),
    Fault("consumer timeout hit", consumer_timeout),
)
