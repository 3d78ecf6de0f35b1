"""Runs one variant of the baseline on given services and measures it at its best.

Everything is queued before the worker starts, the first items are not counted, and the times are
the database's own: submitting and starting cost the baseline nothing, though they cost Forebay.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.bench.baselines.celery_app import TASK, make_app
from tests.bench.digits import Digits


@dataclass(frozen=True)
class Services:
    """Where the baseline finds what Forebay uses as well."""

    database_url: str
    broker_url: str
    objects_url: str
    environment: dict[str, str]  # AWS_* for boto3

    @property
    def bucket(self) -> str:
        """The bucket of ``s3://bucket/prefix``."""
        return urlsplit(self.objects_url).netloc


@dataclass(frozen=True)
class Variant:
    """One way to run a Celery worker."""

    name: str
    pool: str
    concurrency: int
    prefetch: int
    tf_threads: int

    def arguments(self) -> list[str]:
        """The command line after ``python -m celery``."""
        return [
            *("-A", "tests.bench.baselines.celery_app:app", "worker", "-P", self.pool),
            *("-c", str(self.concurrency), "-l", "WARNING", "-n", f"baseline-{self.name}@%h"),
            *("--without-heartbeat", "--without-gossip", "--without-mingle"),
        ]

    @property
    def command(self) -> str:
        """What one would type."""
        return "celery " + " ".join(self.arguments())


VARIANTS = (
    Variant("solo", "solo", 1, 64, 1),
    Variant("prefork", "prefork", 2, 32, 1),
    Variant("threads", "threads", 16, 8, 1),
)


@dataclass(frozen=True)
class Rate:
    """What a run achieved, after everything it wrote was looked at."""

    variant: Variant
    items: int
    counted: int
    seconds: float

    @property
    def items_per_s(self) -> float:
        """Durable items per second."""
        return self.counted / self.seconds


class NotDone(AssertionError):
    """The baseline did not do the work it is compared for."""


def measure(
    services: Services,
    digits: Digits,
    variant: Variant,
    *,
    items: int,
    warm_up: int,
    log: Path,
    deadline_s: float = 300.0,
) -> Rate:
    """Queue ``items``, drain them with a worker of this variant, check, and give the rate."""
    run = uuid.uuid4().hex[:12]
    ids = [str(uuid.uuid4()) for _ in range(items)]
    with _connect(services) as database:
        _write_rows(database, run, ids)
        queue = f"baseline-{run}"
        _publish(services, queue, digits, ids)
        try:
            with _worker(services, digits, variant, run, queue, log) as worker:
                _wait(database, run, items, worker, log, deadline_s)
        finally:
            _drop_queue(services, queue)
        check(services, database, digits, run, ids)
        seconds = database.execute(
            "SELECT extract(epoch FROM max(finished_at) - min(finished_at)) FROM ("
            " SELECT finished_at FROM baseline_jobs WHERE run = %s"
            " ORDER BY finished_at OFFSET %s) AS counted",
            (run, warm_up),
        ).fetchone()[0]
    return Rate(variant, items, items - warm_up - 1, float(seconds))


def check(services: Services, database: Any, digits: Digits, run: str, ids: list[str]) -> None:
    """Every row is done, every object is there, every answer is the model's own."""
    rows = dict(
        database.execute(
            "SELECT id::text, result_key FROM baseline_jobs WHERE run = %s AND state = 'done'"
            " AND started_at <= finished_at",
            (run,),
        ).fetchall()
    )
    if sorted(rows) != sorted(ids):
        raise NotDone(f"{len(rows)} of {len(ids)} rows are done")
    wrong = []
    with closing(open_client(services)) as objects:
        for index, job_id in enumerate(ids):
            try:
                body = objects.get_object(Bucket=services.bucket, Key=rows[job_id])["Body"].read()
            except objects.exceptions.NoSuchKey as error:
                raise NotDone(f"no object for item {index}") from error
            if json.loads(body)["label"] != digits.question(index).label:
                wrong.append(index)
    if wrong:
        raise NotDone(f"{len(wrong)} wrong answers, the first at item {wrong[0]}")


def open_client(services: Services) -> Any:
    """An S3 client for looking at what was written."""
    import boto3

    environment = services.environment
    return boto3.session.Session(
        aws_access_key_id=environment.get("AWS_ACCESS_KEY_ID"),
        aws_secret_access_key=environment.get("AWS_SECRET_ACCESS_KEY"),
        region_name=environment.get("AWS_DEFAULT_REGION") or environment.get("AWS_REGION"),
    ).client("s3", endpoint_url=environment.get("AWS_ENDPOINT_URL_S3"))


def _connect(services: Services) -> Any:
    import psycopg

    return psycopg.connect(_plain(services.database_url), autocommit=True)


def _plain(url: str) -> str:
    """The URL as libpq spells it, without SQLAlchemy's name of the driver."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)


def _write_rows(database: Any, run: str, ids: list[str]) -> None:
    database.execute(
        "CREATE TABLE IF NOT EXISTS baseline_jobs (id uuid PRIMARY KEY, run text NOT NULL,"
        " state text NOT NULL, result_key text, created_at timestamptz NOT NULL DEFAULT now(),"
        " started_at timestamptz, finished_at timestamptz)"
    )
    with database.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO baseline_jobs (id, run, state) VALUES (%s, %s, 'queued')",
            [(job_id, run) for job_id in ids],
        )


def _publish(services: Services, queue: str, digits: Digits, ids: list[str]) -> None:
    app = make_app(services.broker_url, queue, 1)
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        app.amqp.queues[queue](connection).declare()
        for index, job_id in enumerate(ids):
            arguments = [job_id, digits.question(index).image]
            app.send_task(TASK, args=arguments, producer=producer, queue=queue)


def _drop_queue(services: Services, queue: str) -> None:
    app = make_app(services.broker_url, queue, 1)
    with app.connection_for_write() as connection:
        app.amqp.queues[queue](connection).delete()


@contextmanager
def _worker(
    services: Services, digits: Digits, variant: Variant, run: str, queue: str, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A Celery worker in a session of its own, gone with its children at the end."""
    environment = {
        **os.environ,
        **services.environment,
        "BASELINE_DATABASE_URL": _plain(services.database_url),
        "BASELINE_BROKER_URL": services.broker_url,
        "BASELINE_BUCKET": services.bucket,
        "BASELINE_PREFIX": f"baseline/{run}",
        "BASELINE_QUEUE": queue,
        "BASELINE_POOL": variant.pool,
        "BASELINE_PREFETCH": str(variant.prefetch),
        "BASELINE_TF_THREADS": str(variant.tf_threads),
        "BASELINE_MODEL": str(digits.model),
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    with log.open("ab") as out:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", *variant.arguments()],
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield worker
    finally:
        # All is committed by now, and a warm shutdown only waits: end the whole group at once.
        _kill_session(worker)


def _kill_session(worker: subprocess.Popen[bytes]) -> None:
    """Whatever is left of the worker's process group."""
    with suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


def _wait(
    database: Any,
    run: str,
    items: int,
    worker: subprocess.Popen[bytes],
    log: Path,
    deadline_s: float,
) -> None:
    give_up = time.monotonic() + deadline_s
    while True:
        done = database.execute(
            "SELECT count(*) FROM baseline_jobs WHERE run = %s AND state = 'done'", (run,)
        ).fetchone()[0]
        if done == items:
            return
        if worker.poll() is not None or time.monotonic() > give_up:
            tail = log.read_text(errors="replace")[-3_000:]
            raise NotDone(f"{done} of {items} items done, worker {worker.poll()}; log:\n{tail}")
        time.sleep(0.25)  # the look is cheap and rare; the times that count are the database's
