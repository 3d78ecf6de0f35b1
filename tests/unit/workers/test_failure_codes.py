"""Every code that a worker ends a job with is in the README, and no other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
STAGES = ("answers", "decoding", "device", "encode", "finish", "payloads", "pipeline", "versions")
SAID = re.compile(
    r'(?:code=|JobError\(\s*|Fault\(|return |^_[A-Z]+ = )"([a-z]+_[a-z_]+)"'
    r'|ItemError\([^)]*code="([a-z_]+)"',
    re.MULTILINE,
)


def codes_in_source() -> set[str]:
    files = [ROOT / f"workers/inference/{stage}.py" for stage in STAGES]
    files.append(ROOT / "workers/supervisor.py")
    found = [match for file in files for match in SAID.findall(file.read_text())]
    # Told as input_lost; and of every job of a version, whatever its load said.
    return {one or other for one, other in found} - {"pack_not_found", "model_broken"}


def codes_in_readme() -> set[str]:
    table = (ROOT / "README.md").read_text().split("Why a job failed", 1)[1].split("</details>")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return {code for cell in cells for code in re.findall(r"`([a-z_]+)`", cell)}


def test_every_code_of_a_worker_is_documented() -> None:
    assert codes_in_source() - codes_in_readme() == set()


def test_nothing_is_documented_that_cannot_happen() -> None:
    in_sql = {"poison", "lost", "run_timeout"}
    assert codes_in_readme() - codes_in_source() - in_sql == set()
    source = "".join(file.read_text() for file in (ROOT / "storage/database/jobs").glob("*.py"))
    assert all(re.search(f"[\"']{code}[\"']", source) for code in in_sql)
