"""The Celery app of a device process, and a consumer that does only what Forebay needs.

JSON only, acknowledged late, no result backend, no ETA, no gossip: SQL knows the state of every
job, so Celery carries wake-ups and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from celery import Celery
from celery.worker.consumer import Consumer
from kombu import Queue

from storage.queue.envelope import EnvelopeError
from workers import tasks
from workers.messages import require_wake_up
from workers.pool import BatchPool, Joint

log = logging.getLogger(__name__)

_LEFT_OUT = ("delayed_delivery", "gossip", "heart", "agent")
_POLL_S = 0.005
_LOOK_EVERY_S = 0.2
_SHUT_OUT_S = 2.0  # without storage for so long, a worker leaves the messages to others


class WakeUpConsumer(Consumer):  # type: ignore[misc]
    """Celery's consumer without the steps that cost declarations or time."""

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc]
        # delayed_delivery would declare 28 queues; we schedule in SQL.
        default_steps = tuple(
            step
            for step in Consumer.Blueprint.default_steps
            if not any(f".{name}:" in step for name in _LEFT_OUT)
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pausing = False
        if self.hub is None:
            self.loop = _poll

    def register_with_event_loop(self, hub: Any) -> None:
        """Called again after every reconnect."""
        super().register_with_event_loop(hub)
        hub.call_repeatedly(_LOOK_EVERY_S, self._follow_storage)

    def _follow_storage(self) -> None:
        """Consume only while storage answers: another worker's may, and what waits here unclaimed
        would wait as long as the trouble lasts."""
        pipeline, consumer = self.app.forebay_joint.pipeline, self.task_consumer
        if consumer is None or pipeline.stopping:
            return
        shut_out_s = pipeline.shut_out_s
        if self._pausing and not shut_out_s:
            self._pausing = False
            log.info("storage answers again: messages are taken again")
            consumer.consume()
        elif shut_out_s > _SHUT_OUT_S:
            if not self._pausing:
                self._pausing = True
                log.warning("storage does not answer: messages are left to other workers")
                # Without waiting for an answer, which would hold up the heartbeats.
                for tag in consumer._active_tags.values():
                    consumer.channel.basic_cancel(tag, nowait=True)
                consumer._active_tags.clear()
            pipeline.intake.give_back()

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Celery's, for messages that are ours; any other is set aside."""
        self._pausing = False  # the loop begins anew, and with it the consumer
        handle: Callable[[Any], None] = super().create_task_handler(*args, **kwargs)

        def on_message(message: Any) -> None:
            try:
                require_wake_up(message)
            except EnvelopeError as error:
                log.error("a message cannot be read and is set aside: %s", error)
                message.reject_log_error(log, self.connection_errors)
                return
            handle(message)

        return on_message

    def ensure_connected(self, conn: Any) -> Any:
        """Try for ever, in steps that a stop can interrupt; never log where or who."""
        joint: Joint = self.app.forebay_joint

        def on_error(exc: Exception, interval: float) -> None:
            log.warning(
                "the broker does not answer (%s); again in %.0f s", type(exc).__name__, interval
            )

        conn = conn.ensure_connection(
            on_error, None, interval_start=1, interval_max=10, callback=joint.stopper.check
        )
        self.first_connection_attempt = False
        return conn

    def is_deaf(self) -> bool:
        """Connected, yet consuming from nothing: a worker that looks healthy and is useless."""
        connection, consumer = self.connection, self.task_consumer
        if connection is None or not connection.connected or self._pausing:
            return False
        return consumer is None or not any(
            consumer.consuming_from(queue.name) for queue in consumer.queues
        )


def _poll(
    consumer: Any, connection: Any, task_consumer: Any, blueprint: Any, *_: Any, **__: Any
) -> None:
    """The loop for transports without a hub: short looks, so that a stop is seen at once."""
    joint: Joint = consumer.app.forebay_joint
    task_consumer.on_message = consumer.create_task_handler()
    task_consumer.consume()
    consumer.on_ready()
    while blueprint.state == 1 and consumer.connection:  # RUN
        joint.stopper.check()
        consumer.perform_pending_operations()
        try:
            connection.drain_events(timeout=_LOOK_EVERY_S)
        except TimeoutError:
            continue


def build_app(broker_url: str, queues: Sequence[Queue], joint: Joint, *, prefetch: int) -> Celery:
    """A configured app, bound to one pipeline."""
    app = Celery("forebay", broker=broker_url, set_as_current=False, fixups=[])
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_acks_late=True,
        task_ignore_result=True,
        result_backend=None,
        task_queues=list(queues),
        task_default_queue=queues[0].name,
        task_create_missing_queues=False,
        # A process that stands still holds messages until the broker gives it up, after two to
        # three of these: sooner than its lease and the reaper take.
        broker_heartbeat=6,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,
        broker_transport_options=(
            {"polling_interval": _POLL_S} if is_in_process(broker_url) else {}
        ),
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_prefetch_count_reduction=False,
        worker_concurrency=prefetch,
        worker_prefetch_multiplier=1,
        worker_pool=BatchPool,
        worker_consumer=WakeUpConsumer,
        worker_redirect_stdouts=False,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_enable_remote_control=not is_in_process(broker_url),
    )
    app.forebay_joint = joint
    tasks.register(app)
    app.finalize()
    return app


def is_in_process(broker_url: str) -> bool:
    """Whether the broker is a piece of this process's memory."""
    return broker_url.startswith("memory:")
