"""``forebay doctor``: is each configured part reachable and usable, and what to do if not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata

from forebay.checks import Ailing, Check, Finding, examine
from forebay.composition import open_database
from producers.cli.output import say, say_json
from storage.database import Database
from storage.places import embedded_places, without_password
from storage.records.duties import DutyNote
from storage.records.jobs import Millis
from storage.settings import Settings

LEAST_FREE_BYTES = 1 << 30
KEEPER_SILENT_S = 30.0  # the quickest duties run every second, and are noted every five
KEEPER_LAGS_S = 30.0
DEVICES_S = 90.0  # importing TensorFlow on a cold disk
ASK_DEVICES = (
    "from workers.runtime.framework import start;"
    "print(*(one.name for one in start('gpu:0').tf.config.list_physical_devices()))"
)
MARKS = {True: "ok", False: "NOT OK", None: "-"}


def run_doctor(settings: Settings, environ: Mapping[str, str], *, as_json: bool) -> bool:
    """Print the findings; whether nothing is broken."""
    database = open_database(settings)
    findings = examine(_checks(settings, database, environ))
    database.close()
    good = all(finding.ok is not False for finding in findings)
    if as_json:
        mode = "embedded" if settings.embedded else "full"
        say_json({"ok": good, "mode": mode, "findings": [one.as_json() for one in findings]})
    else:
        for finding in findings:
            _print(finding)
    return good


def _print(finding: Finding) -> None:
    say(f"{MARKS[finding.ok]:<7} {finding.part:<9} {finding.says}")
    if finding.ok is not True and finding.advice:
        say(f"{'':17} → {finding.advice}")


def _checks(settings: Settings, database: Database, environ: Mapping[str, str]) -> list[Check]:
    return [
        Check("python", _python, "install Python 3.11 or newer"),
        Check(
            "device",
            lambda: _devices(environ),
            "install TensorFlow here to run workers: pip install 'forebay[cpu]' or '[gpu]'",
            fatal=settings.embedded,
        ),
        Check("home", lambda: _home(settings), "free some space, or move FOREBAY_HOME"),
        Check(
            "database",
            lambda: _database(settings, database),
            f"check FOREBAY_DATABASE_URL ({without_password(settings.database_url)}), and that the"
            " server runs and lets this host in",
        ),
        Check(
            "broker",
            lambda: _broker(settings, environ),
            f"check FOREBAY_BROKER_URL ({without_password(settings.broker_url)}), and that RabbitMQ"
            " runs, knows this user and has the virtual host",
        ),
        Check(
            "objects",
            lambda: _objects(settings),
            f"check FOREBAY_OBJECTS_URL ({settings.objects_url}); S3 needs AWS_ACCESS_KEY_ID,"
            " AWS_SECRET_ACCESS_KEY and, away from AWS, AWS_ENDPOINT_URL_S3",
        ),
        Check(
            "api",
            lambda: _api(),
            "start it with: forebay up" if settings.embedded else "start it with: forebay api",
            fatal=False,
        ),
        Check("workers", lambda: _workers(settings, database), "", fatal=False),
        Check("keeper", lambda: _keeper(settings, database), "", fatal=False),
    ]


def _python() -> str:
    version = ".".join(map(str, sys.version_info[:3]))
    return f"{version}, forebay {_version('forebay') or 'from a source folder'}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _devices(environ: Mapping[str, str]) -> str:
    """Ask in a process of its own: the doctor stays light, and survives a driver that does not."""
    names = ("tensorflow", "tensorflow-cpu", "tensorflow_cpu")
    found = next((version for name in names if (version := _version(name))), None)
    if found is None:
        raise Ailing(
            "TensorFlow is not installed here",
            "pip install 'forebay[cpu]' (or '[gpu]'); a host that runs no worker needs none",
        )
    command = [sys.executable, "-P", "-c", ASK_DEVICES]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", **environ}
    try:
        done = subprocess.run(
            command, env=quiet, capture_output=True, text=True, timeout=DEVICES_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        advice = "a GPU driver may hang: see nvidia-smi"
        raise Ailing(f"TensorFlow {found} does not get ready", advice) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1][:200]
        advice = "python -c 'import tensorflow' shows the whole message"
        raise Ailing(f"TensorFlow {found} cannot start: {last}", advice)
    return f"TensorFlow {found}; {', '.join(done.stdout.split())}"


def _home(settings: Settings) -> str:
    folder = settings.home
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    says = f"{free / (1 << 30):.1f} GiB free for {settings.home}"
    if free < LEAST_FREE_BYTES:
        raise Ailing(f"only {says}", "free some space, or move FOREBAY_HOME")
    return says


def _database(settings: Settings, database: Database) -> str:
    where = without_password(settings.database_url)
    if settings.embedded and not (settings.home / "forebay.db").exists():
        return f"{where}, made at the first start"
    database.ping()
    if not database.schema_is_current():
        advice = "forebay migrate"
        if settings.embedded:
            advice += " (forebay up does it by itself)"
        raise Ailing("it answers, but its schema is not the one this version needs", advice)
    from storage.records.tenants import DEFAULT_TENANT

    with database.begin() as tx:  # a write that changes nothing
        tx.tenants.ensure(DEFAULT_TENANT)
    return f"{where}, schema current, writable"


def _broker(settings: Settings, environ: Mapping[str, str]) -> str:
    where = without_password(settings.broker_url)
    if settings.embedded:
        return f"{where}, inside forebay up"
    from forebay.composition import worker_settings
    from storage.queue import topology

    pool = worker_settings(settings, environ).pool
    topology.declare(settings.broker_url, [pool])
    return f"{where}, queues of the pool {pool!r} usable"


def _objects(settings: Settings) -> str:
    from storage.objects import open_objects

    in_home = settings.objects_url == embedded_places(settings.home)["objects_url"]
    if settings.embedded and in_home and not settings.home.exists():
        return f"{settings.objects_url}, made at the first start"
    objects = open_objects(settings.objects_url)
    try:
        objects.probe()
    finally:
        objects.close()
    return f"{settings.objects_url}, written, read and deleted"


def _api() -> str:
    from producers.client import Forebay, Refused, Unreachable

    with Forebay(patience_s=0.0, timeout_s=5.0) as client:
        try:
            client.ready()
        except Unreachable as error:
            raise Ailing(
                f"nothing answers at {client.url}",
                "if it should: forebay up, or forebay api; FOREBAY_API_URL says where it is",
            ) from error
        except Refused as error:
            advice = "the parts above say what is down"
            raise Ailing(f"{client.url} is up but not ready: {error.message}", advice) from error
        return f"{client.url}, ready"


def _workers(settings: Settings, database: Database) -> str:
    if settings.embedded and not (settings.home / "forebay.db").exists():
        raise Ailing("none", "forebay up")
    with database.read() as tx:
        sessions = tx.sessions.live()
    if not sessions:
        start = "forebay up" if settings.embedded else "forebay worker"
        raise Ailing("none is alive: jobs are accepted and wait", f"start one with: {start}")
    shown = ", ".join(f"{one.node} ({one.device})" for one in sessions[:8])
    more = f" and {len(sessions) - 8} more" if len(sessions) > 8 else ""
    return f"{len(sessions)} alive: {shown}{more}"


def _keeper(settings: Settings, database: Database) -> str:
    start = "forebay up" if settings.embedded else "forebay keeper"
    if settings.embedded and not (settings.home / "forebay.db").exists():
        raise Ailing("none", start)
    with database.read() as tx:
        notes, now = tx.duties.notes(), tx.now()
    return keeping(notes, now, start)


def keeping(notes: Sequence[DutyNote], now: Millis, start: str) -> str:
    """What is known of the keepers' duties; raises when none runs, or one falls behind."""
    if not notes:
        raise Ailing("none ever ran: lost work is not found and webhooks wait", f"start: {start}")
    silent_s = (now - max(one.ran_at for one in notes)) / 1000
    if silent_s > KEEPER_SILENT_S:
        raise Ailing(
            f"none ran for {silent_s:,.0f} s: lost work is not found and webhooks wait",
            f"start one with: {start}",
        )
    behind = [one for one in notes if one.lag_ms(now) > KEEPER_LAGS_S * 1000]
    if behind:
        shown = ", ".join(f"{one.name} by {one.lag_ms(now) / 1000:,.0f} s" for one in behind)
        advice = "its log says why; start a second keeper if this one is merely busy"
        raise Ailing(f"it runs, but is behind: {shown}", advice)
    return f"{len(notes)} duties done, the last {max(0.0, silent_s):.0f} s ago"
