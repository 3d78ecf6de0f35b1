"""Time-ordered identifiers: UUID version 7 (RFC 9562 §5.7).

Time-ordered keys keep inserts at the right edge of every index and make ``ORDER BY id`` the
order of arrival, which is what keyset pages and retention by range rely on.
"""

from __future__ import annotations

import re

ID_PATTERN = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_ID = re.compile(ID_PATTERN)
FIRST_ID = "00000000-0000-0000-0000-000000000000"  # before every id that is drawn
LAST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"  # and after


def uuid7(unix_ms: int, random_bits: int) -> str:
    """The id for ``unix_ms`` (48 bits) and ``random_bits`` (74 bits, higher ones are ignored)."""
    rand_a = (random_bits >> 62) & 0xFFF
    rand_b = random_bits & 0x3FFF_FFFF_FFFF_FFFF
    value = (unix_ms & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def uuid7_series(count: int, unix_ms: int, random_bits: int) -> list[str]:
    """``count`` ascending ids of one millisecond: a random seed, counted up (RFC 9562 §6.2).

    The seed's top bit is cleared, which leaves room for more ids than a request may hold.
    """
    seed = random_bits & ((1 << 73) - 1)
    return [uuid7(unix_ms, seed + index) for index in range(count)]


def is_id(text: str) -> bool:
    """Whether ``text`` is spelled as our ids are (lower-case, dashed)."""
    return _ID.fullmatch(text) is not None


def unix_ms_of(identifier: str) -> int:
    """The millisecond in which the id was made."""
    return int(identifier[:8] + identifier[9:13], 16)
