"""What an operator may set of the storage floor: a name, a default and one sentence each.

The only place that reads the variables listed here. Composition roots call
``Settings.from_environment(os.environ)`` once; everything else receives the frozen value.
Keys and endpoint of S3 are not here: boto3 reads its own ``AWS_*``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from storage.places import check_place, embedded_places, without_password
from storage.records.errors import InvalidInput
from storage.records.refs import read_prefix
from storage.records.webhook_guard import read_opening

DEFAULT_HOME = Path("~/.local/share/forebay")
_PLACES = ("database_url", "broker_url", "objects_url")


def _says(env: str, says: str) -> dict[str, Any]:
    return {"env": env, "says": says}


def _setting(env: str, says: str, default: Any, **bounds: float) -> Any:
    return field(default=default, metadata=_says(env, says) | bounds)


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """Where storage is, and how patient it is. Its ``repr`` shows no password."""

    database_url: str = field(
        metadata=_says(
            "FOREBAY_DATABASE_URL",
            "Where the truth is kept: postgresql://… or sqlite:///file; the default lies in the"
            " home.",
        )
    )
    broker_url: str = field(
        metadata=_says(
            "FOREBAY_BROKER_URL",
            "Where wake-ups travel: amqp://…; the default memory:// serves a single process.",
        )
    )
    objects_url: str = field(
        metadata=_says(
            "FOREBAY_OBJECTS_URL",
            "Where packs, models and files lie: s3://bucket/prefix or file:///folder; the default"
            " lies in the home.",
        )
    )
    home: Path = field(
        metadata=_says("FOREBAY_HOME", "The folder of the embedded mode's data and of its lock.")
    )
    ref_prefixes: tuple[str, ...] = _setting(
        "FOREBAY_REF_PREFIXES",
        "Comma-separated s3:// or file:/// prefixes that an input may point into by ref.",
        (),
    )
    output_prefixes: tuple[str, ...] = _setting(
        "FOREBAY_OUTPUT_PREFIXES",
        "Comma-separated s3:// or file:/// prefixes below which bulk jobs may write.",
        (),
    )
    webhook_allow: tuple[str, ...] = _setting(
        "FOREBAY_WEBHOOK_ALLOW",
        "Comma-separated hosts, addresses or networks, each with :port if need be (* is any), that"
        " webhooks may go to although they are private or the port is unusual.",
        (),
    )
    public_url: str = _setting(
        "FOREBAY_PUBLIC_URL",
        "Where callers reach the service, https://forebay.example.com: webhooks' links begin with"
        " it.",
        "",
    )
    lease_ttl_s: float = _setting(
        "FOREBAY_LEASE_TTL_S",
        "How long a worker's session lives without a renewal; its jobs are requeued after that.",
        15.0,
        least=1,
    )
    renew_every_s: float = _setting(
        "FOREBAY_RENEW_EVERY_S",
        "How often a session is renewed; at most half of the lease.",
        5.0,
        least=0.1,
    )
    sweep_every_s: float = _setting(
        "FOREBAY_SWEEP_EVERY_S",
        "How often the keeper looks for lost wake-ups; for dead sessions it looks at least every"
        " 2 s, for passed deadlines every second.",
        5.0,
        least=0.1,
    )
    publish_ttl_s: float = _setting(
        "FOREBAY_PUBLISH_TTL_S",
        "How long a published job may stay unclaimed before it is published again.",
        15.0,
        least=1,
    )
    retention_days: int = _setting(
        "FOREBAY_RETENTION_DAYS",
        "How many days jobs, inputs and results are kept after the end, and uploaded files after"
        " they came.",
        30,
        least=1,
    )
    database_pool_size: int = _setting(
        "FOREBAY_DATABASE_POOL_SIZE",
        "Most open connections to the database for each of writing, reading and claiming, per"
        " process.",
        8,
        least=1,
    )
    confirm_timeout_s: float = _setting(
        "FOREBAY_CONFIRM_TIMEOUT_S",
        "How long the broker may take to confirm what was published.",
        5.0,
        least=0.1,
    )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Read the environment; ``InvalidInput`` (``bad_setting``) names the wrong variable."""
        given = {
            item.name: text
            for item in dataclasses.fields(cls)
            if (text := environ.get(item.metadata["env"], "").strip())
        }
        values: dict[str, Any] = {"home": _home(given.pop("home", ""), environ)}
        values |= _places(given, values["home"])
        for item in dataclasses.fields(cls):
            if item.name in given:
                values[item.name] = _read(item, given[item.name])
        settings = cls(**values)
        if settings.renew_every_s * 2 > settings.lease_ttl_s:
            raise _wrong(
                "FOREBAY_RENEW_EVERY_S",
                f"is {settings.renew_every_s:g} s, but must be at most half of"
                f" FOREBAY_LEASE_TTL_S ({settings.lease_ttl_s:g} s): one late renewal would end"
                " a healthy worker's session",
            )
        return settings

    @property
    def embedded(self) -> bool:
        """Whether everything runs together on this machine, as ``forebay up`` does."""
        return self.broker_url.startswith("memory:")

    def redacted(self) -> dict[str, object]:
        """Every setting by name, fit for a log: passwords are hidden."""
        shown = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return shown | {name: without_password(shown[name]) for name in _PLACES}

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={value!r}" for name, value in self.redacted().items())
        return f"Settings({inner})"


@dataclass(frozen=True, slots=True)
class DocumentedSetting:
    """One row of the settings' table, for the README and for ``forebay doctor``."""

    name: str
    variable: str
    default: str
    says: str


def documented_settings() -> list[DocumentedSetting]:
    """Every setting, in the order to show them."""
    derived = {
        "database_url": "sqlite:///HOME/forebay.db",
        "broker_url": "memory://",
        "objects_url": "file:///HOME/objects",
        "home": str(DEFAULT_HOME),
        "ref_prefixes": "none",
        "output_prefixes": "none",
        "webhook_allow": "none",
        "public_url": "none",
    }
    return [
        DocumentedSetting(
            item.name,
            item.metadata["env"],
            derived.get(item.name, f"{item.default}"),
            item.metadata["says"],
        )
        for item in dataclasses.fields(Settings)
    ]


def _home(text: str, environ: Mapping[str, str]) -> Path:
    path = Path(text) if text else DEFAULT_HOME
    if path.parts[:1] == ("~",):
        path = Path(environ.get("HOME") or Path.home(), *path.parts[1:])
    path = path.absolute()
    if any(sign in str(path) for sign in "?#%\0\n"):
        raise _wrong("FOREBAY_HOME", "must not hold '?', '#', '%' or a line break: URLs name it")
    return path


def _places(given: dict[str, str], home: Path) -> dict[str, str]:
    """The three URLs: all as given, or all derived from the home."""
    variables = {
        item.name: item.metadata["env"]
        for item in dataclasses.fields(Settings)
        if item.name in _PLACES
    }
    missing = [variables[name] for name in _PLACES if name not in given]
    if len(missing) == len(_PLACES):
        return embedded_places(home)
    if missing:
        present = [variables[name] for name in _PLACES if name in given]
        raise _wrong(
            missing[0],
            f"is missing: {' and '.join(present)} {'is' if len(present) == 1 else 'are'} set. Set"
            f" all of {', '.join(variables.values())}, or none of them for the embedded mode",
        )
    for name in _PLACES:
        if reason := check_place(name, given[name]):
            raise _wrong(variables[name], reason)
    return {name: given.pop(name) for name in _PLACES}


def _read(item: dataclasses.Field[Any], text: str) -> object:
    env, default = item.metadata["env"], item.default
    if isinstance(default, tuple):
        read = _LISTS[item.name]
        return tuple(_part(env, read, part) for part in text.split(",") if part.strip())
    if isinstance(default, str):
        return _public_url(env, text)
    try:
        value = int(text) if isinstance(default, int) else float(text)
    except ValueError:
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise _wrong(env, f"is {text[:40]!r}, which is not {kind}") from None
    least = item.metadata["least"]
    if not math.isfinite(value) or value < least:
        raise _wrong(env, f"is {text[:40]}, but must be at least {least:g}")
    return value


def _opening(text: str) -> str:
    read_opening(text)
    return text.strip()


_LISTS: Mapping[str, Callable[[str], str]] = {
    "ref_prefixes": read_prefix,
    "output_prefixes": read_prefix,
    "webhook_allow": _opening,
}


def _part(env: str, read: Callable[[str], str], text: str) -> str:
    try:
        return read(text)
    except InvalidInput as error:
        raise _wrong(env, f"holds a wrong part: {error.message}") from None


def _public_url(env: str, text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise _wrong(env, f"is {text[:200]!r}, but must be like https://forebay.example.com")
    return text.rstrip("/")


def _wrong(variable: str, reason: str) -> InvalidInput:
    return InvalidInput(f"{variable} {reason}", code="bad_setting", field=variable)
