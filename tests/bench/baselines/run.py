"""Runs one variant of the baseline on given services and measures it at its best.

``measure`` queues everything before the workers start and does not count the first items, so that
submitting and starting cost the baseline nothing, though they cost Forebay. With
``measure_with_submits`` its submits count as Forebay's do. The times are the database's own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.bench.baselines.celery_app import TASK, make_app
from tests.bench.digits import Digits

SUBMIT_AT_ONCE = 1_000
STALL_S = 20.0
MOST_STALLS = 5


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
    """One way to run Celery workers."""

    name: str
    pool: str
    concurrency: int
    prefetch: int
    tf_threads: int
    app: str = "tests.bench.baselines.celery_app"
    workers: int = 1

    def arguments(self, worker: int = 0) -> list[str]:
        """The command line after ``python -m celery``."""
        return [
            *("-A", f"{self.app}:app", "worker", "-P", self.pool),
            *("-c", str(self.concurrency), "-l", "WARNING"),
            *("-n", f"baseline-{self.name}-{worker}@%h"),
            *("--without-heartbeat", "--without-gossip", "--without-mingle"),
        ]

    @property
    def command(self) -> str:
        """What one would type."""
        times = f" (in {self.workers} processes)" if self.workers > 1 else ""
        return "celery " + " ".join(self.arguments()) + times


PLAIN = (
    Variant("solo", "solo", 1, 64, 1),
    Variant("prefork", "prefork", 2, 32, 1),
    Variant("threads", "threads", 16, 8, 1),
)
_COALESCED = "tests.bench.baselines.celery_coalesced"
COALESCED = (
    Variant("coalesced", "solo", 1, 512, 0, _COALESCED),
    Variant("coalesced-in-two", "solo", 1, 512, 0, _COALESCED, workers=2),
)


@dataclass(frozen=True)
class Rate:
    """What a run achieved, after everything it wrote was looked at."""

    variant: Variant
    counted: int
    seconds: float

    @property
    def items_per_s(self) -> float:
        """Durable items per second."""
        return self.counted / self.seconds


class NotDone(AssertionError):
    """The baseline did not do the work it is compared for."""


class Stalled(NotDone):
    """Its worker lives and does nothing any more."""


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
    """Queue ``items``, drain them with workers of this variant, check, and give the rate."""
    with _connect(services) as database, _queue(services) as queue:
        ids = _write_rows(database, queue, items)
        _publish(services, queue, digits, ids)
        with _workers(services, digits, variant, queue, log) as workers:
            _wait(database, queue, items, workers, log, deadline_s)
        check(services, database, digits, queue, ids)
        counted, seconds = database.execute(
            "WITH first AS (SELECT finished_at AS at FROM baseline_jobs WHERE run = %s"
            " ORDER BY finished_at OFFSET %s LIMIT 1)"
            " SELECT count(*), extract(epoch FROM max(finished_at) - max(first.at))"
            " FROM baseline_jobs, first WHERE run = %s AND finished_at > first.at",
            (queue, warm_up, queue),
        ).fetchone()
    return Rate(variant, counted, float(seconds))


def measure_with_submits(
    services: Services,
    digits: Digits,
    variant: Variant,
    *,
    items: int,
    warm_up: int,
    log: Path,
    deadline_s: float = 300.0,
) -> Rate:
    """The same while the items are submitted, as Forebay's are: rows written 1,000 in a
    transaction, then a ``send_task`` for each over one open connection. From the first of it to
    the last item done."""
    with (
        _connect(services) as database,
        _queue(services) as queue,
        _workers(services, digits, variant, queue, log) as workers,
    ):
        ids = _send(services, database, queue, digits, range(warm_up))
        _wait(database, queue, warm_up, workers, log, deadline_s)
        began = database.execute("SELECT clock_timestamp()").fetchone()[0]
        ids += _send(services, database, queue, digits, range(warm_up, warm_up + items))
        _wait(database, queue, warm_up + items, workers, log, deadline_s)
        check(services, database, digits, queue, ids)
        seconds = database.execute(
            "SELECT extract(epoch FROM max(finished_at) - %s) FROM baseline_jobs WHERE run = %s",
            (began, queue),
        ).fetchone()[0]
    return Rate(variant, items, float(seconds))


def until_it_ends(variant: Variant, run: Callable[[], Rate], stalls: list[str]) -> Rate:
    """A run that comes to rest before its end is not held against Celery: it runs again, and
    ``stalls`` says so. Raises ``Stalled`` when there are more than ``MOST_STALLS`` of them."""
    while True:
        try:
            return run()
        except Stalled as stalled:
            stalls.append(f"{variant.name}: {stalled}")
            if len(stalls) > MOST_STALLS:
                raise


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
    found: dict[str, Any] = {}  # coalesced answers share an object
    with closing(open_client(services)) as objects:
        for index, job_id in enumerate(ids):
            key = rows[job_id]
            try:
                if key not in found:
                    body = objects.get_object(Bucket=services.bucket, Key=key)["Body"]
                    found[key] = json.loads(body.read())
            except objects.exceptions.NoSuchKey as error:
                raise NotDone(f"no object for item {index}") from error
            answer = found[key].get(job_id, found[key])
            if answer.get("label") != digits.question(index).label:
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


def _write_rows(database: Any, run: str, count: int) -> list[str]:
    ids = [str(uuid.uuid4()) for _ in range(count)]
    database.execute(
        "CREATE TABLE IF NOT EXISTS baseline_jobs (id uuid PRIMARY KEY, run text NOT NULL,"
        " state text NOT NULL, result_key text, created_at timestamptz NOT NULL DEFAULT now(),"
        " started_at timestamptz, finished_at timestamptz)"
    )
    with database.transaction(), database.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO baseline_jobs (id, run, state) VALUES (%s, %s, 'queued')",
            [(job_id, run) for job_id in ids],
        )
    return ids


def _send(
    services: Services, database: Any, queue: str, digits: Digits, questions: range
) -> list[str]:
    app = make_app(services.broker_url, queue, 1)
    sent: list[str] = []
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        for start in questions[::SUBMIT_AT_ONCE]:
            now = range(start, min(start + SUBMIT_AT_ONCE, questions.stop))
            ids = _write_rows(database, queue, len(now))
            for job_id, index in zip(ids, now, strict=True):
                arguments = [job_id, digits.question(index).image]
                app.send_task(TASK, args=arguments, producer=producer, queue=queue)
            sent += ids
    return sent


def _publish(services: Services, queue: str, digits: Digits, ids: list[str]) -> None:
    """What ``send_task`` would send, made once and not once per item: it is not what is timed."""
    app = make_app(services.broker_url, queue, 1)
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        message = app.amqp.as_task_v2("", TASK, args=["", ""])
        for index, job_id in enumerate(ids):
            producer.publish(
                ([job_id, digits.question(index).image], {}, message.body[2]),
                headers={**message.headers, "id": job_id, "root_id": job_id, "argsrepr": None},
                exchange=queue,
                routing_key=queue,
                serializer="json",
                delivery_mode=2,
                correlation_id=job_id,
            )


@contextmanager
def _queue(services: Services) -> Iterator[str]:
    """A queue of this run's own; its name is the run's."""
    queue = f"baseline-{uuid.uuid4().hex[:12]}"
    app = make_app(services.broker_url, queue, 1)
    with app.connection_for_write() as connection:
        app.amqp.queues[queue](connection).declare()
    try:
        yield queue
    finally:
        with app.connection_for_write() as connection:
            app.amqp.queues[queue](connection).delete()


@contextmanager
def _workers(
    services: Services, digits: Digits, variant: Variant, queue: str, log: Path
) -> Iterator[list[subprocess.Popen[bytes]]]:
    with ExitStack() as running:
        yield [
            running.enter_context(_worker(services, digits, variant, queue, log, number))
            for number in range(variant.workers)
        ]


@contextmanager
def _worker(
    services: Services,
    digits: Digits,
    variant: Variant,
    queue: str,
    log: Path,
    number: int,
) -> Iterator[subprocess.Popen[bytes]]:
    """A Celery worker in a session of its own, gone with its children at the end."""
    environment = {
        **os.environ,
        **services.environment,
        "BASELINE_DATABASE_URL": _plain(services.database_url),
        "BASELINE_BROKER_URL": services.broker_url,
        "BASELINE_BUCKET": services.bucket,
        "BASELINE_PREFIX": f"baseline/{queue}",
        "BASELINE_QUEUE": queue,
        "BASELINE_APP": variant.app,
        "BASELINE_POOL": variant.pool,
        "BASELINE_PREFETCH": str(variant.prefetch),
        "BASELINE_TF_THREADS": str(variant.tf_threads),
        "BASELINE_MODEL": str(digits.model),
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    with log.open("ab") as out:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", *variant.arguments(number)],
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
    workers: Sequence[subprocess.Popen[bytes]],
    log: Path,
    deadline_s: float,
) -> None:
    give_up = time.monotonic() + deadline_s
    latest, since = 0, time.monotonic()
    while True:
        done = database.execute(
            "SELECT count(*) FROM baseline_jobs WHERE run = %s AND state = 'done'", (run,)
        ).fetchone()[0]
        if done == items:
            return
        if done != latest:
            latest, since = done, time.monotonic()
        if done and time.monotonic() - since > STALL_S:
            raise Stalled(f"{done} of {items} items done, and no more for {STALL_S:g} s")
        ended = [worker.returncode for worker in workers if worker.poll() is not None]
        if ended or time.monotonic() > give_up:
            tail = log.read_text(errors="replace")[-3_000:]
            raise NotDone(f"{done} of {items} items done, ended workers: {ended}; log:\n{tail}")
        time.sleep(0.25)  # the look is cheap and rare; the times that count are the database's
