"""API keys: made once, shown once, kept as a hash.

A key is 256 random bits, so one round of SHA-256 is enough: there is no dictionary to try, and a
slow hash would only slow every request. The hash is what the database looks up. Whoever watches
the time of that look-up learns about hashes, which cannot be steered towards a key.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field

KEY_BITS = 256
_MARK = "fbk_"
_SHOWN_CHARS = 12


@dataclass(frozen=True, slots=True)
class NewKey:
    """A fresh key. ``secret`` is for the caller's eyes; store the rest."""

    secret: str = field(repr=False)
    key_hash: str
    prefix: str


def make_key(random_bits: int) -> NewKey:
    """The key for ``random_bits`` (256 of them)."""
    raw = (random_bits & ((1 << KEY_BITS) - 1)).to_bytes(KEY_BITS // 8, "big")
    secret = _MARK + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    return NewKey(secret=secret, key_hash=hash_key(secret), prefix=shown(secret))


def shown(secret: str) -> str:
    """As much of a key as tells it from others."""
    return secret[:_SHOWN_CHARS]


def hash_key(secret: str) -> str:
    """What is stored and looked up."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
