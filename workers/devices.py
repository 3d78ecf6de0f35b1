"""Which devices there are, found without TensorFlow: importing it would take them.

``auto`` is one process per GPU, or one for the CPU where there is none.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from storage.records.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """One device of this machine, and what a process on it must see."""

    name: str  # "cpu", "gpu:0"
    cuda_visible_devices: str  # empty: none

    @property
    def slug(self) -> str:
        """The name where colons do not belong."""
        return self.name.replace(":", "")


CPU = DeviceChoice("cpu", "")


def choose(text: str, discover: Callable[[], list[int]] | None = None) -> list[DeviceChoice]:
    """``auto``, ``cpu``, or GPU numbers such as ``0,1``."""
    wanted = text.strip().lower()
    if wanted == "cpu":
        return [CPU]
    if wanted == "auto":
        return [_gpu(number) for number in (discover or discover_gpus)()] or [CPU]
    if not re.fullmatch(r"\d{1,3}(,\d{1,3})*", wanted):
        raise InvalidInput(
            f"{text[:80]!r} names no devices: write auto, cpu, or GPU numbers such as 0,1",
            field="devices",
        )
    numbers = [int(part) for part in wanted.split(",")]
    if len(set(numbers)) != len(numbers):
        raise InvalidInput(f"{text[:80]!r} names a device twice", field="devices")
    return [_gpu(number) for number in numbers]


def discover_gpus(dev: Path = Path("/dev")) -> list[int]:
    """The GPUs that the driver lists; without its tool, those that have a device file."""
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        return [int(line) for line in listed.stdout.split() if line.isdigit()]
    except (OSError, subprocess.SubprocessError):
        files = (re.fullmatch(r"nvidia(\d+)", path.name) for path in dev.glob("nvidia*"))
        return sorted(int(match[1]) for match in files if match)


def _gpu(number: int) -> DeviceChoice:
    return DeviceChoice(f"gpu:{number}", str(number))
