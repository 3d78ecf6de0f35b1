"""The plain baseline's Celery application and its one task, and what the coalesced one shares."""

from __future__ import annotations

import base64
import io
import json
import os
import threading
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.signals import worker_init, worker_process_init
from kombu import Exchange, Queue

TASK = "baseline.infer"
_here = threading.local()
_model: dict[str, Any] = {}


def queue_of(name: str) -> Queue:
    """A durable quorum queue, as Forebay's own."""
    exchange = Exchange(name, type="direct", durable=True)
    return Queue(name, exchange, routing_key=name, queue_arguments={"x-queue-type": "quorum"})


def make_app(broker_url: str, queue: str, prefetch: int) -> Celery:
    """The application, tuned for throughput without giving up durability."""
    app = Celery("baseline", broker=broker_url)
    app.conf.update(
        task_queues=[queue_of(queue)],
        task_default_queue=queue,
        task_acks_late=True,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=prefetch,
        worker_send_task_events=False,
        worker_disable_rate_limits=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={"confirm_publish": False},
    )
    app.task(name=TASK)(infer)
    return app


def infer(job_id: str, image: str) -> None:
    """One item, durably: running, scored, stored, done."""
    connection = database()
    connection.execute(
        "UPDATE baseline_jobs SET state = 'running', started_at = clock_timestamp()"
        " WHERE id = %s AND state = 'queued'",
        (job_id,),
    )
    key = f"{os.environ['BASELINE_PREFIX']}/{job_id}.json"
    body = json.dumps(answer(_score(image))).encode()
    objects().put_object(Bucket=os.environ["BASELINE_BUCKET"], Key=key, Body=body)
    connection.execute(
        "UPDATE baseline_jobs SET state = 'done', result_key = %s,"
        " finished_at = clock_timestamp() WHERE id = %s AND state = 'running'",
        (key, job_id),
    )


def answer(scores: list[float]) -> dict[str, Any]:
    """What is stored for one item."""
    best = max(range(len(scores)), key=scores.__getitem__)
    return {"outputs": {"scores": scores}, "label": str(best)}


def database() -> Any:
    """This executor's connection; autocommit makes each update a transaction of its own."""
    if not hasattr(_here, "database"):
        import psycopg

        _here.database = psycopg.connect(os.environ["BASELINE_DATABASE_URL"], autocommit=True)
    return _here.database


def objects() -> Any:
    """This executor's S3 client: kept alive, without the checks that cost time for nothing."""
    if not hasattr(_here, "objects"):
        import boto3
        from botocore.config import Config
        from botocore.handlers import add_expect_header

        config = Config(
            parameter_validation=False,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            tcp_keepalive=True,
            s3={"addressing_style": "path", "payload_signing_enabled": False},
        )
        client = boto3.session.Session().client("s3", config=config)
        # One round trip less: boto3 would ask "100-continue?" before each small body.
        client.meta.events.unregister("before-call.s3", add_expect_header)
        _here.objects = client
    return _here.objects


def pixels_of(image: str) -> Any:
    """Decoded as Forebay's image input is: 28 × 28 × 1, from 0 to 1."""
    import numpy as np
    from PIL import Image

    picture = Image.open(io.BytesIO(base64.b64decode(image)), formats=("PNG",))
    return (np.asarray(picture, dtype=np.float32) / np.float32(255))[:, :, None]


def _score(image: str) -> list[float]:
    """Decode and score by the function traced at start."""
    row = _model["constant"](pixels_of(image)[None])
    scores: list[float] = _model["forward"](row)[0].numpy().tolist()
    return scores


def traced(rows: int) -> tuple[Any, Callable[[Any], Any]]:
    """The model loaded and traced for batches of ``rows``, and warm: (to a tensor, forward)."""
    import keras
    import tensorflow as tf

    threads = int(os.environ.get("BASELINE_TF_THREADS", "0"))
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    model = keras.saving.load_model(os.environ["BASELINE_MODEL"], compile=False)
    shape = (rows, *model.inputs[0].shape[1:])
    forward = tf.function(lambda rows: model(rows, training=False)).get_concrete_function(
        tf.TensorSpec(shape, tf.float32)
    )
    for _ in range(20):
        forward(tf.zeros(shape))
    _model["keeps"] = model
    return tf.constant, forward


def load_model(**_: Any) -> None:
    """Once per process, before the first task."""
    _model["constant"], _model["forward"] = traced(1)


def from_environment() -> Celery:
    """The application of the worker that ``run`` starts."""
    return make_app(
        os.environ["BASELINE_BROKER_URL"],
        os.environ["BASELINE_QUEUE"],
        int(os.environ["BASELINE_PREFETCH"]),
    )


def _wire_worker() -> Celery:
    """What ``celery -A`` finds; prefork children load the model after the fork, not before."""
    if os.environ["BASELINE_POOL"] == "prefork":
        worker_process_init.connect(load_model)
    else:
        worker_init.connect(load_model)
    return from_environment()


if os.environ.get("BASELINE_APP") == __name__:
    app = _wire_worker()
