"""What ``deploy/`` says is true: units, image, compose files and guide name what is there.

Each check is shown a tree with one fault, and has to say so: a check that says nothing of a broken
file would say nothing of ours.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from forebay.commands import add_commands
from producers.cli.app import build_app
from storage.settings import Settings
from tests.support.deployment import agreement, commands, composed, image, units
from tests.support.fixtures import missing

ROOT = Path(__file__).parents[2]
Check = Callable[[Path], list[str]]
CHECKS: dict[str, Check] = {
    "systemd reads the units": units.verified,
    "units start verbs that exist": units.commands,
    "systemd waits for a graceful stop": units.stops,
    "the guide's units exist": units.named_in_guide,
    "hadolint passes the Dockerfile": image.linted,
    "the image runs as nobody and stops gracefully": image.shape,
    "the image gets what it is made from": image.copies,
    "the image's packages are the tested ones": image.locks,
    "the compose files keep to the schema": composed.valid,
    "compose starts verbs that exist": composed.commands,
    "the compose file's parts fit": composed.fits,
    "one port": agreement.ports,
    "variables are settings": agreement.variables,
    "the guide's figures exist": agreement.figures,
    "the guide's commands exist": commands.documents,
}


@pytest.fixture(autouse=True)
def tools() -> None:
    if not units.tool_is_there():
        missing("systemd-analyze is not installed (make services)")


@pytest.mark.parametrize("name", CHECKS)
def test_nothing_is_wrong(name: str) -> None:
    assert CHECKS[name](ROOT) == []


@dataclass(frozen=True)
class Fault:
    """``old`` becomes ``new`` in a file; the check must then say ``complaint``."""

    check: str
    file: str
    old: str
    new: str
    complaint: str


API, WORKER = "deploy/systemd/forebay-api.service", "deploy/systemd/forebay-worker@.service"
DOCKERFILE, COMPOSE = "deploy/docker/Dockerfile", "deploy/docker/compose.yaml"
GUIDE = "deploy/OPERATING.md"
FAULTS = [
    Fault("systemd reads the units", WORKER, "KillMode=mixed", "KillMode=some", "kill mode"),
    Fault("systemd reads the units", WORKER, "TimeoutStopSec=", "TimeoutStopSecs=", "Unknown key"),
    Fault("systemd reads the units", API, "/bin/forebay api", "/bin/nothing api", "not executable"),
    Fault("systemd reads the units", API, "\n[Service]", "\n[Sevice]", "Unknown section"),
    Fault("units start verbs that exist", API, "forebay api --host", "forebay serve", "serve"),
    Fault("units start verbs that exist", API, "--port 8080", "--port http", "http"),
    Fault("units start verbs that exist", WORKER, "--devices", "--device-list", "--device-list"),
    Fault("units start verbs that exist", WORKER, "/opt/forebay/", "/usr/", "/usr/"),
    Fault("systemd waits for a graceful stop", WORKER, "StopSec=75", "StopSec=30", "30 s"),
    Fault("systemd waits for a graceful stop", WORKER, "=mixed", "=control-group", "mixed"),
    Fault("systemd waits for a graceful stop", WORKER, "OOMPolicy=", "#", "memory"),
    Fault("systemd waits for a graceful stop", WORKER, "#MemoryMax", "PrivateDevices", "GPU"),
    Fault("systemd waits for a graceful stop", API, "Restart=always", "Restart=no", "for ever"),
    Fault("the guide's units exist", GUIDE, "forebay-keeper", "forebay-worker", "forebay-worker,"),
    Fault("hadolint passes the Dockerfile", DOCKERFILE, "WORKDIR /src", "WORKDIR src", "DL3000"),
    Fault("hadolint passes the Dockerfile", DOCKERFILE, "STOPSIGNAL", "STOPSIG", "STOPSIG"),
    Fault(
        "the image runs as nobody and stops gracefully",
        DOCKERFILE,
        "USER 10001:",
        "USER 0:",
        "root",
    ),
    Fault("the image runs as nobody and stops gracefully", DOCKERFILE, '["api"', '["apis"', "apis"),
    Fault(
        "the image runs as nobody and stops gracefully", DOCKERFILE, "SIGTERM", "SIGINT", "SIGTERM"
    ),
    Fault(
        "the image runs as nobody and stops gracefully", DOCKERFILE, "HEALTHCHECK", "#", "HEALTH"
    ),
    Fault(
        "the image gets what it is made from", DOCKERFILE, "COPY workers", "COPY worker", "worker,"
    ),
    Fault("the image gets what it is made from", DOCKERFILE, "COPY producers", "#", "producers"),
    Fault(
        "the image gets what it is made from", ".dockerignore", "!storage", "", "storage/__init__"
    ),
    Fault("the image gets what it is made from", ".dockerignore", "*\n", "", ".git/config"),
    Fault(
        "the image's packages are the tested ones",
        "deploy/docker/requirements.server.lock.txt",
        "\ncelery==",
        "\ncelery-x==",
        "holds None, but celery",
    ),
    Fault(
        "the image's packages are the tested ones",
        "deploy/docker/requirements.cpu.lock.txt",
        "\nkombu==",
        "\nkombu==9",
        "tested is",
    ),
    Fault("the compose files keep to the schema", COMPOSE, "cap_drop:", "capdrop:", "capdrop"),
    Fault(
        "the compose files keep to the schema", COMPOSE, "retries: 20", "retries: [20]", "retries"
    ),
    Fault("compose starts verbs that exist", COMPOSE, "[keeper]", "[keep]", "keep"),
    Fault("compose starts verbs that exist", COMPOSE, "--devices, auto", "--gpus, all", "--gpus"),
    Fault(
        "compose starts verbs that exist", "deploy/docker/compose.gpu.yaml", "  api:", "  ap:", "ap"
    ),
    Fault("the compose file's parts fit", COMPOSE, "      s3: {", "      s4: {", "s4"),
    Fault("the compose file's parts fit", COMPOSE, "  objects: {}", "", "objects"),
    Fault("the compose file's parts fit", COMPOSE, ":-nothing", "", ""),
    Fault("the compose file's parts fit", COMPOSE, "stop_grace_period: 75s", "init: true", "10 s"),
    Fault("the compose file's parts fit", COMPOSE, "${S3_SECRET_KEY:?see env.example}", "x", "S3"),
    Fault("the compose file's parts fit", COMPOSE, "[CMD, pg_isready", "#", "postgres"),
    Fault(
        "the compose file's parts fit",
        COMPOSE,
        '["scratch:/tmp"]',
        '["scratch:/var/lib/forebay"]',
        "shared",
    ),
    Fault("one port", API, "--port 8080", "--port 8081", "8081"),
    Fault("one port", COMPOSE, "127.0.0.1:8080:8080", "127.0.0.1:8080:8081", "8081"),
    Fault("one port", DOCKERFILE, "127.0.0.1:8080/healthz", "127.0.0.1:8000/healthz", "8000"),
    Fault("one port", DOCKERFILE, "EXPOSE 8080", "", "EXPOSE"),
    Fault("variables are settings", WORKER, "FOREBAY_HOME=", "FOREBAY_HOUSE=", "FOREBAY_HOUSE"),
    Fault("variables are settings", COMPOSE, "FOREBAY_BROKER_URL", "FOREBAY_MQ", "FOREBAY_MQ"),
    Fault("variables are settings", DOCKERFILE, "FOREBAY_HOME=", "FOREBAY_DIR=", "FOREBAY_DIR"),
    Fault("variables are settings", GUIDE, "FOREBAY_DATABASE_POOL_SIZE", "FOREBAY_POOLS", "_POOLS"),
    Fault(
        "the guide's figures exist", GUIDE, "forebay_backlog_seconds", "forebay_lag", "forebay_lag"
    ),
    Fault("the guide's commands exist", GUIDE, "`forebay doctor`", "`forebay doc`", "doc"),
    Fault(
        "the guide's commands exist",
        "README.md",
        "forebay worker --devices",
        "forebay work",
        "work",
    ),
]
FAULTS = [fault for fault in FAULTS if fault.complaint]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.file}: {fault.old.strip()}")
def test_a_fault_is_noticed(fault: Fault, tmp_path: Path) -> None:
    for name in ("deploy", "README.md", "LICENSE", "pyproject.toml", ".dockerignore"):
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, tmp_path / name)
    shutil.copyfile(ROOT / "requirements.lock.txt", tmp_path / "requirements.lock.txt")
    for name in ("storage", "producers", "workers"):
        (tmp_path / name).symlink_to(ROOT / name)
    text = (tmp_path / fault.file).read_text("utf-8")
    assert fault.old in text, "the fault is not one: its text is not in the file"
    (tmp_path / fault.file).write_text(text.replace(fault.old, fault.new))
    found = CHECKS[fault.check](tmp_path)
    assert any(fault.complaint in one for one in found), found


def test_every_check_was_shown_a_fault() -> None:
    assert {fault.check for fault in FAULTS} == set(CHECKS)


def test_the_environments_are_those_of_the_full_mode() -> None:
    """The processes take what the example file and the compose file give them."""
    for given in (
        units.example(ROOT, commented=True),
        composed.environment_of(ROOT, "worker", dict.fromkeys(composed.example(ROOT), "a1")),
    ):
        settings = Settings.from_environment(given)
        assert not settings.embedded
        assert settings.objects_url == "s3://forebay/prod"


def test_there_is_a_unit_for_each_process() -> None:
    verbs = {command.callback.__name__ for command in _app().registered_commands}
    for verb in ("api", "worker", "keeper", "migrate"):
        assert verb in verbs
        started = [
            value
            for name in units.names(ROOT)
            for key, value in units.entries(ROOT, name)
            if key == "ExecStart" and value.split()[1] == verb
        ]
        assert len(started) == 1, verb
        assert any(one["command"][0] == verb for one in composed.ours(ROOT).values()), verb


def _app():
    app = build_app()
    add_commands(app)
    return app
