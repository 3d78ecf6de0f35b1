"""Text that both engines can hold: PostgreSQL refuses U+0000 and lone surrogates."""

from __future__ import annotations

from storage.records.errors import InvalidInput

MAX_ERROR_CHARACTERS = 4_000


def refuse_nul(text: str, *, field: str) -> str:
    """A caller's text, or ``InvalidInput``: neither engine takes what one of them cannot hold."""
    if "\x00" in text:
        raise InvalidInput(f"{field} holds a NUL character", code="nul_character", field=field)
    return text


def storable(message: str) -> str:
    """An error's text, mended rather than refused: no NUL, no lone surrogates, not endless."""
    whole = message[:MAX_ERROR_CHARACTERS].replace("\x00", "\ufffd")
    return whole.encode("utf-8", "replace").decode("utf-8")
