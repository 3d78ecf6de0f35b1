"""The systemd units: as systemd reads them, and against what the processes need."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from forebay.worker import KILL_AFTER_DRAIN_S
from tests.support.deployment.commands import complaint
from workers.settings import WorkerSettings

PROGRAM = "/opt/forebay/bin/forebay"
INSTANCE = "auto"
GPU_BREAKERS = ("PrivateDevices", "ProtectClock", "MemoryDenyWriteExecute", "ProcSubset")


def folder(root: Path) -> Path:
    return root / "deploy/systemd"


def names(root: Path) -> list[str]:
    """The unit files, by name."""
    return sorted(
        path.name for path in folder(root).iterdir() if path.suffix in (".service", ".target")
    )


def verified(root: Path) -> list[str]:
    """What ``systemd-analyze verify`` says of the units, run from this environment's command."""
    with tempfile.TemporaryDirectory() as place:
        for name in names(root):
            text = (folder(root) / name).read_text("utf-8")
            beside = str(Path(sys.executable).with_name("forebay"))
            (Path(place) / name).write_text(text.replace(PROGRAM, beside))
        units = [name.replace("@.", f"@{INSTANCE}.") for name in names(root)]
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no"]
            + [f"{place}/{unit}" for unit in units],
            env={**os.environ, "SYSTEMD_UNIT_PATH": f"{place}:"},  # the colon: and the usual places
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    found = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return found or ([f"systemd-analyze ended with {done.returncode}"] if done.returncode else [])


def entries(root: Path, name: str) -> list[tuple[str, str]]:
    """(key, value) of a unit file, in order."""
    lines = (folder(root) / name).read_text("utf-8").splitlines()
    return [
        (key.strip(), value.strip())
        for line in lines
        if not line.startswith(("#", ";"))
        for key, equals, value in [line.partition("=")]
        if equals
    ]


def commands(root: Path) -> list[str]:
    """Whether every ExecStart is our program with a verb and options that it has."""
    found = []
    for name in names(root):
        for key, value in entries(root, name):
            if key != "ExecStart":
                continue
            program, *argv = shlex.split(value.replace("%i", INSTANCE))
            if program != PROGRAM:
                found.append(f"{name}: starts {program}, not {PROGRAM}")
            wrong = complaint(argv)
            if wrong:
                found.append(f"{name}: {value}: {wrong}")
    return found


def stops(root: Path) -> list[str]:
    """Whether systemd waits longer than the processes need, and leaves deaths to the supervisor."""
    needed_s = WorkerSettings().drain_s + KILL_AFTER_DRAIN_S
    found = []
    for name in names(root):
        said = dict(entries(root, name))
        if said.get("Type") in (None, "oneshot"):
            continue
        stop_s = float(said.get("TimeoutStopSec", "0"))
        if stop_s <= needed_s:
            found.append(f"{name}: waits {stop_s:g} s, a drain may take {needed_s:g} s")
        if said.get("Restart") != "always" or said.get("StartLimitIntervalSec") != "0":
            found.append(f"{name}: is not started again for ever")
        if name.startswith("forebay-worker"):
            if said.get("KillMode") != "mixed":
                found.append(f"{name}: the supervisor alone gets SIGTERM: KillMode=mixed")
            if said.get("OOMPolicy") != "continue":
                found.append(f"{name}: one process' death for memory would stop all of them")
            found += [f"{name}: {key} breaks a GPU worker" for key in GPU_BREAKERS if key in said]
    return found


def environment(root: Path) -> list[tuple[str, str]]:
    """(file, variable) of all that the units and the example set."""
    found = [
        (name, word.partition("=")[0])
        for name in names(root)
        for key, value in entries(root, name)
        if key == "Environment"
        for word in shlex.split(value)
    ]
    return found + [("forebay.env.example", name) for name in example(root)]


def example(root: Path, *, commented: bool = True) -> dict[str, str]:
    """The example environment file's variables; those that are commented out too."""
    text = (folder(root) / "forebay.env.example").read_text("utf-8")
    mark = "#?" if commented else ""
    return dict(re.findall(rf"^{mark}([A-Z][A-Z0-9_]+)=(.*)$", text, re.MULTILINE))


def named_in_guide(root: Path) -> list[str]:
    """Whether each unit that the guide names is there."""
    guide = (root / "deploy/OPERATING.md").read_text("utf-8")
    words = set(re.findall(r"\bforebay-(?:api|worker|keeper|migrate)(?:@[a-z0-9]*)?", guide))
    there = {name.rpartition(".")[0] for name in names(root)}
    return [
        f"OPERATING.md names the unit {word}, which is not there"
        for word in sorted(words)
        if re.sub("@.*", "@", word) not in there
    ]


def tool_is_there() -> bool:
    return shutil.which("systemd-analyze") is not None
