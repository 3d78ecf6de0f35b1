"""Forebay's face: ``from forebay import Forebay``.

The names come from the SDK and are loaded when first asked for, so that the command can show
its help without loading an HTTP client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from producers.client import *  # noqa: F403

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Other lower-case names are submodules, which Python asks for here before it looks.
    if not name[:1].isupper() and name != "verify":
        raise AttributeError(f"module 'forebay' has no attribute {name!r}")
    client = import_module("producers.client")
    if name in client.__all__:
        return getattr(client, name)
    raise AttributeError(f"module 'forebay' has no attribute {name!r}")


def __dir__() -> list[str]:
    return ["__version__", *import_module("producers.client").__all__]
