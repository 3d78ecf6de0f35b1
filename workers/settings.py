"""What an operator may turn in a worker: one frozen value, read from the environment once.

Only composition roots call ``from_environment``; everything below them receives the value.
A setting is a name with its unit, a default and one sentence.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from storage.queue.lanes import check_pool
from storage.records.errors import InvalidInput

PREFIX = "FOREBAY_WORKER_"


def _doc(sentence: str, env: str | None = None) -> dict[str, str | None]:
    return {"doc": sentence, "env": env}


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Everything a device process can be told. ``describe`` lists names, defaults, sentences."""

    pool: str = field(
        default="default", metadata=_doc("The pool of models this worker serves; names its queues.")
    )
    device: str = field(
        default="cpu", metadata=_doc("What the process computes on, as sessions and logs show it.")
    )
    node: str = field(
        default="",
        metadata=_doc("Celery node name; empty means made from device, host and process."),
    )
    max_batch: int = field(
        default=512,
        metadata=_doc(
            "Most rows in one pass; a version's own `serving.max_batch` may ask for fewer."
        ),
    )
    device_threads: int = field(
        default=4,
        metadata=_doc(
            "Most passes at once; more than one run only of versions with `serving.instances`."
        ),
    )
    decode_threads: int = field(
        default=0,
        metadata=_doc(
            "Most inputs decoded at once, where one takes long: pictures of a camera. 0 means one"
            " for each core but one, at most 4."
        ),
    )
    model_memory_bytes: int = field(
        default=0,
        metadata=_doc(
            "How much of the device's memory loaded versions may hold together; 0 means what the"
            " runtime finds there."
        ),
    )
    tf_threads: int = field(
        default=0,
        metadata=_doc("Threads that TensorFlow computes with; 0 means one for each core."),
    )
    trainings: int = field(
        default=1,
        metadata=_doc(
            "Most trainings that run at once beside the process, each in one of its own; 0 leaves"
            " them to other workers."
        ),
    )
    prefetch: int = field(default=16, metadata=_doc("Messages held unacknowledged per queue."))
    cache_dir: Path = field(
        default=Path("~/.cache/forebay/models"),
        metadata=_doc("Where artifacts are kept by digest."),
    )
    max_models: int = field(
        default=8, metadata=_doc("Most versions kept loaded; the least recently used one goes.")
    )
    lease_ttl_s: float = field(
        default=15.0, metadata=_doc("How long a session lives without a renewal.")
    )
    renew_every_s: float = field(default=5.0, metadata=_doc("How often the session is renewed."))
    max_claim_bytes: int = field(
        default=64 << 20,
        metadata=_doc(
            "Most input bytes that are brought in at once; four times as much may wait decoded."
        ),
    )
    put_patience_s: float = field(
        default=20.0,
        metadata=_doc(
            "How long a computed batch waits for object storage before its jobs are given back."
        ),
    )
    wait_patience_s: float = field(
        default=30.0,
        metadata=_doc(
            "How long ids wait unclaimed (device busy, version not loaded) before they are let go;"
            " the sweep brings them back."
        ),
    )
    retry_back_off_s: float = field(
        default=2.0, metadata=_doc("Delay of a job's first retry; doubled each time.")
    )
    probe_versions_every_s: float = field(
        default=1.0, metadata=_doc("How often pushed versions are looked for.")
    )
    drain_s: float = field(
        default=30.0, metadata=_doc("How long a graceful stop waits for the running batch.")
    )
    hang_after_s: float = field(
        default=1_800.0,
        metadata=_doc(
            "A forward pass longer than this means a dead device: the process ends itself."
        ),
    )
    deaf_after_s: float = field(
        default=30.0,
        metadata=_doc("A broker connection without consumers for this long ends the process."),
    )
    retention_days: int = field(
        default=30, metadata=_doc("How long results are kept; names the day in pack keys.")
    )
    max_ref_bytes: int = field(
        default=256 << 20, metadata=_doc("Largest object that an input may refer to.")
    )
    ref_prefixes: tuple[str, ...] = field(
        default=(),
        metadata=_doc(
            "Prefixes (s3://…/ or file:///…/) that an input may refer to.", "FOREBAY_REF_PREFIXES"
        ),
    )
    output_prefixes: tuple[str, ...] = field(
        default=(),
        metadata=_doc(
            "Prefixes (s3://…/ or file:///…/) below which bulk jobs may write.",
            "FOREBAY_OUTPUT_PREFIXES",
        ),
    )
    ledger: Path | None = field(
        default=None,
        metadata=_doc("Where the process publishes the ids now on the device, for its supervisor."),
    )
    load_alone: tuple[str, ...] = field(
        default=(),
        metadata=_doc(
            "Versions to load while no pass runs, as a process died of one or the other; told by"
            " its supervisor."
        ),
    )
    parent_pid: int = field(default=0, metadata=_doc("End when this parent ends; 0 means none."))

    def __post_init__(self) -> None:
        check_pool(self.pool, field=PREFIX + "POOL")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> WorkerSettings:
        """Read every setting that the environment names; ``InvalidInput`` names a wrong one."""
        values: dict[str, Any] = {}
        for one in fields(cls):
            name = env_name(one.name, one.metadata["env"])
            text = environ.get(name, "").strip()
            if text:
                values[one.name] = _parse(name, text, str(one.type))
        return cls(**values)

    def node_name(self, pid: int) -> str:
        """The Celery node name: unique for each process start on each host."""
        device = self.device.replace(":", "")
        return self.node or f"{self.pool}-{device}-{pid}@{socket.gethostname()}"


def env_name(name: str, own: str | None) -> str:
    """The variable that sets ``name``."""
    return own or PREFIX + name.upper()


def describe() -> list[tuple[str, str, str]]:
    """(variable, default, sentence) of every setting, for documents and for ``--help``."""
    rows = []
    for one in fields(WorkerSettings):
        assert one.default is not MISSING
        rows.append(
            (env_name(one.name, one.metadata["env"]), str(one.default), one.metadata["doc"])
        )
    return rows


def _parse(name: str, text: str, kind: str) -> Any:
    try:
        match kind:
            case "int":
                return int(text)
            case "float":
                return float(text)
            case "Path" | "Path | None":
                return Path(text).expanduser()
            case "tuple[str, ...]":
                return tuple(part.strip() for part in text.split(",") if part.strip())
            case _:
                return text
    except ValueError:
        raise InvalidInput(f"{name}={text[:80]!r} is not a number", field=name) from None
