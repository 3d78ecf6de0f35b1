"""The compose files: against the specification's schema, and whether their parts fit together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from jsonschema.validators import validator_for

from forebay.worker import KILL_AFTER_DRAIN_S
from tests.support.deployment.commands import complaint
from workers.settings import WorkerSettings

FILES = ("compose.yaml", "compose.gpu.yaml")
_VARIABLE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)(:[?-][^}]*)?\}")
_SECRET = re.compile(r"PASS|SECRET|TOKEN|_URL$")


def read(root: Path, name: str = FILES[0]) -> dict[str, Any]:
    return yaml.safe_load((root / "deploy/docker" / name).read_text("utf-8"))


def valid(root: Path) -> list[str]:
    """By the Compose Specification's JSON schema."""
    schema = get_builtin_schema("vendor.compose-spec")
    validator = validator_for(schema)(schema)
    return [
        f"{name}: {'/'.join(map(str, error.absolute_path))}: {error.message[:200]}"
        for name in FILES
        for error in validator.iter_errors(read(root, name))
    ]


def ours(root: Path) -> dict[str, dict[str, Any]]:
    """The services that run our image."""
    services = read(root)["services"]
    return {name: one for name, one in services.items() if one["image"].startswith("forebay:")}


def commands(root: Path) -> list[str]:
    """Whether each service's command is one of ours, and the GPU file names the same services."""
    found = []
    for name, service in ours(root).items():
        wrong = complaint(service["command"])
        if wrong:
            found.append(f"compose.yaml: {name}: {service['command']}: {wrong}")
    on_gpu = set(read(root, FILES[1])["services"])
    if on_gpu != set(ours(root)):
        found.append(f"compose.gpu.yaml: has {sorted(on_gpu)}, not {sorted(ours(root))}")
    return found


def fits(root: Path) -> list[str]:
    """What one part says of another: dependencies, health, volumes, networks, variables."""
    whole = read(root)
    services = whole["services"]
    found = []
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            if other not in services:
                found.append(f"{name} depends on {other}, which is not there")
            elif how["condition"] == "service_healthy" and not _looked_at(services[other]):
                found.append(f"{name} waits for the health of {other}, which has no check")
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            if not source.startswith((".", "/")) and source not in whole["volumes"]:
                found.append(f"{name} mounts {source}, which is not declared")
        for network in service.get("networks", []):
            if network not in whole["networks"]:
                found.append(f"{name} is on {network}, which is not declared")
        if name != "migrate" and service.get("restart") != "unless-stopped":
            found.append(f"{name} is not started again")
        for variable, value in service.get("environment", {}).items():
            if _SECRET.search(variable) and not _public(str(value)):
                found.append(f"{name}: {variable} holds a secret in clear text")
    needed_s = WorkerSettings().drain_s + KILL_AFTER_DRAIN_S
    for name, service in ours(root).items():
        grace = float(str(service.get("stop_grace_period", "10s")).removesuffix("s"))
        if grace <= needed_s:
            found.append(f"{name}: has {grace:g} s to stop, a drain may take {needed_s:g} s")
        if any("/var/lib/forebay" in one for one in service["volumes"]):
            found.append(f"{name}: its home is shared with other containers")
    asked = {match[1] for match in _VARIABLE.finditer(_text(root))}
    told = set(example(root))
    found += [f"env.example lacks {one}" for one in sorted(asked - told)]
    found += [f"env.example has {one}, which nothing asks for" for one in sorted(told - asked)]
    return found


def _looked_at(service: Mapping[str, Any]) -> bool:
    check = service.get("healthcheck", {})
    return bool(check.get("test")) and not check.get("disable")


def _public(value: str) -> bool:
    """Without a password of its own: it comes from outside, or there is none in the address."""
    return bool(_VARIABLE.search(value)) or ("@" not in value and "://" in value)


def _text(root: Path) -> str:
    return "".join((root / "deploy/docker" / name).read_text("utf-8") for name in FILES)


def example(root: Path) -> dict[str, str]:
    text = (root / "deploy/docker/env.example").read_text("utf-8")
    return dict(re.findall(r"^([A-Z][A-Z0-9_]*)=(.*)$", text, re.MULTILINE))


def environment(root: Path) -> Iterator[tuple[str, str]]:
    """(file, variable) of what our services get."""
    for service in ours(root).values():
        for variable in service.get("environment", {}):
            yield "compose.yaml", variable


def environment_of(root: Path, service: str, given: Mapping[str, str]) -> dict[str, str]:
    """A service's environment with ``given`` in place of the variables."""
    said = ours(root)[service]["environment"]
    return {
        name: _VARIABLE.sub(lambda match: given[match[1]], str(value))
        for name, value in said.items()
    }
