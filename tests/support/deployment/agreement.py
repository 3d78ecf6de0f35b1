"""What several files say at once: ports, variables, figures."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from producers.api.metric_names import FAMILIES
from producers.api.metrics import Metrics
from producers.client.settings import DEFAULT_URL
from tests.support.deployment import composed, image, units

OF_OTHERS = {  # variables of the system, the interpreter and libraries
    "HOME",
    "PATH",
    "PYTHONUNBUFFERED",
    "PYTHONDONTWRITEBYTECODE",
    "PIP_DISABLE_PIP_VERSION_CHECK",
    "PIP_NO_CACHE_DIR",
    "TF_CPP_MIN_LOG_LEVEL",
    "NVIDIA_DRIVER_CAPABILITIES",
    "CUDA_CACHE_PATH",
    "MPLCONFIGDIR",
}
# Figures that the guide may name before the page has them. Empty is right once it has.
_ROW = re.compile(r"^\| `(FOREBAY_[A-Z0-9_]+)` \|", re.MULTILINE)


def ports(root: Path) -> list[str]:
    """Whether everything that names the API's port names one, the SDK's default."""
    said = {"the SDK": urlsplit(DEFAULT_URL).port}
    for name, text in image.instructions(root):
        if name in ("EXPOSE", "HEALTHCHECK", "CMD"):
            for found in re.findall(r"(?:^|127\.0\.0\.1:|\"--port\", \")(\d{2,5})\b", text):
                said[f"Dockerfile's {name}"] = int(found)
    api = composed.ours(root)["api"]
    said["compose.yaml's command"] = int(api["command"][api["command"].index("--port") + 1])
    for published in api["ports"]:
        said[f"compose.yaml's port {published}"] = int(published.rpartition(":")[2])
    for key, value in units.entries(root, "forebay-api.service"):
        if key == "ExecStart":
            said["forebay-api.service"] = int(value.partition("--port ")[2].split()[0])
    missing = {"Dockerfile's EXPOSE", "Dockerfile's HEALTHCHECK", "Dockerfile's CMD"} - set(said)
    found = [f"{place} names no port" for place in sorted(missing)]
    if len(set(said.values())) > 1:
        found.append(f"the ports differ: {said}")
    return found


def variables(root: Path) -> list[str]:
    """Whether every variable is a setting in the README's tables, boto3's, or a library's."""
    documented = set(_ROW.findall((root / "README.md").read_text("utf-8")))
    guide = (root / "deploy/OPERATING.md").read_text("utf-8")
    named = {
        *units.environment(root),
        *image.environment(root),
        *composed.environment(root),
        *(("OPERATING.md", name) for name in re.findall(r"\bFOREBAY_[A-Z0-9_]+", guide)),
    }
    return [
        f"{place}: {name} is no setting"
        for place, name in sorted(named)
        if name not in documented | OF_OTHERS and not name.startswith("AWS_")
    ]


def figures(root: Path) -> list[str]:
    """Whether every figure that the guide names is on the page of ``/metrics``."""
    guide = (root / "deploy/OPERATING.md").read_text("utf-8")
    there = set(FAMILIES) | {one.name for one in Metrics().registry.collect()}
    found = []
    for name in sorted(set(re.findall(r"\bforebay_[a-z_]*[a-z]", guide))):
        plain = re.sub("_(total|bucket|sum|count)$", "", name)
        if not {name, plain} & there:
            found.append(f"OPERATING.md names the figure {name}, which /metrics does not have")
    return found
