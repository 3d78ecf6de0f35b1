"""Which devices a worker runs on."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.records.errors import InvalidInput
from workers.devices import CPU, DeviceChoice, choose, discover_gpus


def test_auto_is_one_process_per_gpu_or_the_cpu() -> None:
    assert choose("auto", lambda: [0, 1]) == [
        DeviceChoice("gpu:0", "0"),
        DeviceChoice("gpu:1", "1"),
    ]
    assert choose("auto", list) == [CPU]


def test_devices_can_be_named() -> None:
    assert choose("cpu") == [CPU]
    assert [one.name for one in choose("2,0")] == ["gpu:2", "gpu:0"]


@pytest.mark.parametrize("text", ["", "gpu", "0,", "0,0", "-1", "0;1", "1e3"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        choose(text)
    assert refused.value.field == "devices"


def test_the_cpu_process_sees_no_gpu() -> None:
    assert CPU.cuda_visible_devices == ""


def test_device_files_count_where_the_driver_s_tool_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("nvidia1", "nvidia0", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert discover_gpus(tmp_path) == [0, 1]
