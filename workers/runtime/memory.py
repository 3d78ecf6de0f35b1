"""How much memory there is, how much a model holds and how much a pass takes: measured."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from workers.inference.ports import DeviceOutOfMemory
from workers.runtime.framework import Framework

T = TypeVar("T")

CPU_SHARE, GPU_SHARE = 0.6, 0.85  # of what is there, for models; the rest is for everything else
_KIB = 1024


class Memory(Protocol):
    """One device's memory, as this process sees it."""

    def budget_bytes(self) -> int:
        """What models may hold together."""
        ...

    def held_bytes(self) -> int:
        """What is held now."""
        ...

    def reset_peak(self) -> None:
        """Begin to watch for the most that is held."""
        ...

    def peak_bytes(self) -> int:
        """The most that was held since ``reset_peak``."""
        ...

    def left_bytes(self) -> int | None:
        """What a pass may still take; None where the allocator refuses by itself, unharmed."""
        ...


class AllocatorMemory:
    """What TensorFlow's own allocator tells, on a GPU and, built with oneDNN, on a CPU.

    It keeps what it once took for the next pass. ``host`` is the machine where nobody else says
    no: a process that takes more than there is, is killed there. A GPU's allocator refuses by
    itself, unharmed.
    """

    def __init__(
        self, framework: Framework, name: str, budget_bytes: int, host: HostMemory | None
    ) -> None:
        self._stats: Any = framework.tf.config.experimental
        self._name, self._budget_bytes, self._host = name, budget_bytes, host
        self._kept_bytes = 0

    def budget_bytes(self) -> int:
        return self._budget_bytes

    def held_bytes(self) -> int:
        return int(self._stats.get_memory_info(self._name)["current"])

    def reset_peak(self) -> None:
        self._stats.reset_memory_stats(self._name)

    def peak_bytes(self) -> int:
        peak = int(self._stats.get_memory_info(self._name)["peak"])
        self._kept_bytes = max(self._kept_bytes, peak)
        return peak

    def left_bytes(self) -> int | None:
        if self._host is None:
            return None
        return self._host.left_bytes() + max(0, self._kept_bytes - self.held_bytes())


class HostMemory:
    """The machine's memory, as the process's resident set and what is left over tell it.

    Other threads are measured along with it: a figure may be too large.
    """

    def __init__(self, proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> None:
        self._proc, self._groups = proc, groups
        self._at_start_bytes = self.left_bytes() + self.held_bytes()

    def budget_bytes(self) -> int:
        return int(self._at_start_bytes * CPU_SHARE)

    def held_bytes(self) -> int:
        return self._status("VmRSS")

    def reset_peak(self) -> None:
        with suppress(OSError):  # not allowed everywhere: the peak is that of the whole life then
            (self._proc / "self/clear_refs").write_text("5")

    def peak_bytes(self) -> int:
        return self._status("VmHWM")

    def left_bytes(self) -> int:
        left = _field(self._proc / "meminfo", "MemAvailable")
        return min([left * _KIB, *_left_in_groups(self._proc, self._groups)])

    def _status(self, name: str) -> int:
        return _field(self._proc / "self/status", name) * _KIB


class PassGauge:
    """What passes take, learned from ever larger ones; refuses one that would not fit.

    A unit is an element of the inputs: what a pass takes grows with them at least. A pass that is
    no larger than one that was measured costs nothing here.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._units = 0
        self.most_bytes = 0

    def knows(self, units: int) -> bool:
        """Whether a pass of this size went well before."""
        return units <= self._units

    def watch(self, units: int, run: Callable[[], T]) -> T:
        """Run the largest pass so far, unless it can be told that it does not fit."""
        if self._units:
            left_bytes = self._memory.left_bytes()
            expected_bytes = self.most_bytes * units // self._units
            if left_bytes is not None and expected_bytes > left_bytes:
                raise DeviceOutOfMemory(
                    f"a pass of this size takes about {expected_bytes >> 20} MiB, and"
                    f" {left_bytes >> 20} are left"
                )
        held_bytes = self._memory.held_bytes()
        self._memory.reset_peak()
        result = run()
        taken_bytes = max(0, self._memory.peak_bytes() - held_bytes)
        if units > self._units:
            self._units, self.most_bytes = units, max(self.most_bytes, taken_bytes)
        return result


def open_memory(framework: Framework) -> Memory:
    """The memory of the device that this process computes on."""
    config = framework.tf.config
    if config.get_visible_devices("GPU"):
        budget_bytes = int((gpu_total_bytes() or sys.maxsize) * GPU_SHARE)
        return AllocatorMemory(framework, "GPU:0", budget_bytes, None)
    host = HostMemory()
    try:
        config.experimental.get_memory_info("CPU:0")
    except ValueError:  # a build whose allocator keeps no accounts
        return host
    return AllocatorMemory(framework, "CPU:0", host.budget_bytes(), host)


def gpu_total_bytes(load: Callable[[str], Any] = ctypes.CDLL) -> int:
    """The memory of the first visible GPU, asked of its driver: TensorFlow does not tell."""
    try:
        driver = load("libcuda.so.1")
    except OSError:
        return 0
    handle, total = ctypes.c_int(), ctypes.c_size_t()
    steps: tuple[Callable[[], int], ...] = (
        lambda: driver.cuInit(0),
        lambda: driver.cuDeviceGet(ctypes.byref(handle), 0),
        lambda: driver.cuDeviceTotalMem_v2(ctypes.byref(total), handle),
    )
    if any(step() != 0 for step in steps):
        return 0
    return total.value


def _left_in_groups(proc: Path, groups: Path) -> Iterator[int]:
    """What each control group around this process leaves over, of those that have a limit."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            names, root = ("memory.max", "memory.current", "inactive_file"), groups
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            root = groups / "memory"
        else:
            continue
        inside = root / path.lstrip("/")
        # Inside a container the path may be the host's: only the root of the mount is there.
        for folder in [inside, *inside.parents] if inside.is_dir() else [root]:
            left = _left_in_group(folder, *names)
            if left is not None:
                yield left
            if folder == root:
                break


def _left_in_group(folder: Path, limit: str, usage: str, cached: str) -> int | None:
    try:
        most = int((folder / limit).read_text())
        used = int((folder / usage).read_text())
    except (OSError, ValueError):  # no such file at the root, "max" where there is no limit
        return None
    return max(0, most - used + _field(folder / "memory.stat", cached))


def _field(file: Path, name: str) -> int:
    """A number out of a file of names and numbers; 0 where there is none."""
    try:
        for line in file.read_text().splitlines():
            found, _, rest = line.replace(":", " ", 1).partition(" ")
            if found == name:
                return int(rest.split()[0])
    except (OSError, ValueError, IndexError):
        pass
    return 0
