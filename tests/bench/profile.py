"""Where each microsecond of a job goes: CPU by process and by the worker's threads, time by stage.

CPU is what the kernel counted for each process over a burst of jobs, so it adds up to all that a
job costs on this machine. The stages' times are the worker's own, of the clock and not of the
CPU: they overlap, and each includes waiting for storage or for Python's lock.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.bench import counts, cpu
from tests.bench.report import Figure, told
from tests.bench.rig import Rig, finish, submit, warm_up
from tests.support.stack import FullStack, descendants

NAME = "profile"
JOBS = 40_000
LEAST_US = 1.0  # threads that cost less than this per job are summed up


def measure(rig: Rig) -> list[Figure]:
    """One burst on a warm stack."""
    jobs = 4_000 if rig.quick else JOBS
    bodies = rig.bodies(jobs)
    with rig.stack() as stack, stack.caller() as caller:
        warm_up(rig, caller)
        stages = counts.of_workers(stack)
        device = _device_process(stack)
        processes = _processes(rig, stack, device)
        names = _thread_names(device)
        before, threads = _seconds(processes), cpu.of_threads(device)
        began = time.perf_counter()
        groups = submit(caller, bodies)
        finish(caller, groups)
        seconds = time.perf_counter() - began
        after, threads_after = _seconds(processes), cpu.of_threads(device)
        rig.check(caller, groups[-1:])
        passes = counts.of_workers(stack)
    spent = {name: (after[name] - before[name]) / jobs * 1e6 for name in processes}
    by_thread = {
        names.get(tid, f"thread {tid}"): (end - threads.get(tid, 0.0)) / jobs * 1e6
        for tid, end in threads_after.items()
    }
    total = sum(spent.values())
    detail = {
        "jobs_per_s": round(jobs / seconds),
        "cores_busy": round(total * jobs / 1e6 / seconds, 2),
        "CPU by process": _shares(spent, total),
        "CPU inside the device process": _shares(by_thread, spent["worker: device process"]),
        "time by stage, of the clock": counts.stages(stages, passes),
    }
    return [told(NAME, "CPU of all processes per durable job", round(total), "µs", detail=detail)]


def _processes(rig: Rig, stack: FullStack, device: int) -> dict[str, list[int]]:
    """What counts, by the ids of its processes. The bench's own part is a caller's cost."""
    servers = rig.servers
    return {
        "worker: device process": [device],
        "worker: supervisor": [pid for pid in _tree(stack.pid("worker")) if pid != device],
        "api": _tree(stack.pid("api")),
        "keeper": _tree(stack.pid("keeper")),
        "PostgreSQL": _tree(servers.postgres.pid),
        "RabbitMQ": _tree(servers.rabbitmq.pid),
        "S3 server": _tree(servers.s3.pid),
        "caller (this bench)": [os.getpid()],
    }


def _tree(pid: int) -> list[int]:
    return [pid, *cpu.below(pid)]


def _seconds(processes: dict[str, list[int]]) -> dict[str, float]:
    return {name: sum(map(cpu.of_process, pids)) for name, pids in processes.items()}


def _device_process(stack: FullStack) -> int:
    """The process below the supervisor that has computed most."""
    return max(descendants(stack.pid("worker")), key=cpu.of_process)


def _thread_names(pid: int) -> dict[int, str]:
    """What each thread is for. The kernel knows TensorFlow's; Python tells it none of its own
    before 3.14, so those are asked of py-spy where that happens to be installed."""
    names = {tid: f"{name} ({tid})" for tid, name in cpu.names_of_threads(pid).items()}
    spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if spy is not None:
        dump = [spy, "dump", "--json", "--nonblocking", "--pid", str(pid)]
        done = subprocess.run(dump, capture_output=True, text=True)
        for thread in json.loads(done.stdout) if done.returncode == 0 else []:
            names[thread["os_thread_id"]] = thread["thread_name"] or "unnamed"
    return names


def _shares(spent: dict[str, float], total: float) -> list[list[str]]:
    """The large ones first, the small ones together."""
    table = [["", "µs per job", "share"]]
    small = 0.0
    for name, micros in sorted(spent.items(), key=lambda item: -item[1]):
        if micros < LEAST_US:
            small += micros
            continue
        table.append([name, f"{micros:.1f}", f"{micros / total:.0%}"])
    return [*table, ["the rest", f"{small:.1f}", f"{small / total:.0%}"]]
