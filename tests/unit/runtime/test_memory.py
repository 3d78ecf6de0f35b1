"""Memory as the machine and its control groups tell it, and passes that would not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.inference.ports import DeviceOutOfMemory
from workers.runtime.memory import CPU_SHARE, HostMemory, PassGauge, gpu_total_bytes

MIB = 1 << 20


def proc(folder: Path, *, available_mib: int = 1000, groups: str = "0::/\n") -> Path:
    (folder / "self").mkdir(parents=True)
    (folder / "meminfo").write_text(
        f"MemTotal: 99999999 kB\nMemAvailable:   {available_mib * 1024} kB\n"
    )
    (folder / "self/status").write_text("Name: x\nVmHWM:\t 204800 kB\nVmRSS:\t 102400 kB\n")
    (folder / "self/cgroup").write_text(groups)
    return folder


def group(folder: Path, limit: str, usage: str, most: object, used: int, cached: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / limit).write_text(f"{most}\n")
    (folder / usage).write_text(f"{used}\n")
    name = "inactive_file" if limit == "memory.max" else "total_inactive_file"
    (folder / "memory.stat").write_text(f"anon 1\n{name} {cached}\n")


def test_without_groups_it_is_the_machines(tmp_path: Path) -> None:
    memory = HostMemory(proc(tmp_path / "proc"), tmp_path / "none")
    assert memory.left_bytes() == 1000 * MIB
    assert (memory.held_bytes(), memory.peak_bytes()) == (100 * MIB, 200 * MIB)
    assert memory.budget_bytes() == int(1100 * MIB * CPU_SHARE)


def test_the_tightest_group_around_the_process_counts(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    second = ("memory.max", "memory.current")
    group(root / "a/b", *second, "max", 5, 0)
    group(root / "a", *second, 300 * MIB, 250 * MIB, 30 * MIB)
    memory = HostMemory(proc(tmp_path / "proc", groups="0::/a/b\n"), root)
    assert memory.left_bytes() == 80 * MIB


def test_the_first_version_of_groups_is_read_as_well(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    first = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    group(root / "memory", *first, 2**63 - 4096, 5, 0)
    group(root / "memory/job", *first, 100 * MIB, 60 * MIB, 10 * MIB)
    memory = HostMemory(proc(tmp_path / "p", groups="8:pids:/\n4:memory:/job\n"), root)
    assert memory.left_bytes() == 50 * MIB


def test_inside_a_container_the_root_of_the_mount_is_its_own(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    group(root, "memory.max", "memory.current", 70 * MIB, 20 * MIB, 0)
    memory = HostMemory(proc(tmp_path / "p", groups="0::/docker/4711\n"), root)
    assert memory.left_bytes() == 50 * MIB


def test_this_machine_has_some() -> None:
    memory = HostMemory()
    assert memory.held_bytes() > MIB
    assert memory.left_bytes() > MIB
    memory.reset_peak()
    assert memory.peak_bytes() >= memory.held_bytes() // 2


def test_a_machine_without_a_gpus_driver_has_no_gpu_memory() -> None:
    def load(name: str) -> object:
        raise OSError(name)

    assert gpu_total_bytes(load) == 0


class Scales:
    """A memory in which every unit of a pass takes a MiB."""

    def __init__(self, left_mib: int | None) -> None:
        self.left_mib, self.taken_mib = left_mib, 0

    def budget_bytes(self) -> int:
        return 0

    def held_bytes(self) -> int:
        return 7 * MIB

    def reset_peak(self) -> None:
        self.taken_mib = 0

    def peak_bytes(self) -> int:
        return (7 + self.taken_mib) * MIB

    def left_bytes(self) -> int | None:
        return None if self.left_mib is None else self.left_mib * MIB


def run(gauge: PassGauge, scales: Scales, units: int) -> int:
    def work() -> int:
        scales.taken_mib = units
        return units

    return work() if gauge.knows(units) else gauge.watch(units, work)


def test_a_pass_that_would_not_fit_is_not_even_begun() -> None:
    scales = Scales(left_mib=100)
    gauge = PassGauge(scales)
    assert [run(gauge, scales, units) for units in (1, 40, 20, 90)] == [1, 40, 20, 90]
    assert gauge.most_bytes == 90 * MIB
    with pytest.raises(DeviceOutOfMemory, match="110 MiB"):
        run(gauge, scales, 110)
    scales.left_mib = 200
    assert run(gauge, scales, 110) == 110
    assert gauge.knows(110) and not gauge.knows(111)


def test_where_the_allocator_refuses_by_itself_nothing_is_foretold() -> None:
    scales = Scales(left_mib=None)
    gauge = PassGauge(scales)
    assert [run(gauge, scales, units) for units in (1, 10_000)] == [1, 10_000]


def test_a_pass_that_failed_teaches_nothing() -> None:
    gauge = PassGauge(Scales(left_mib=10))

    def fail() -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        gauge.watch(5, fail)
    assert not gauge.knows(5) and gauge.most_bytes == 0
