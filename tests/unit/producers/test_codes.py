"""Every code that the service can answer with is documented, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from producers.api.codes import CODES
from producers.api.openapi import ABOUT
from storage.records import errors

ROOT = Path(__file__).parents[3]
# Raised where no caller is answered, or turned into something else before one is.
INSIDE = {
    "bad_envelope",
    "bad_item",
    "bad_setting",
    "database_not_migrated",
    "invalid_broker_url",
    "invalid_key",
    "invalid_prefix",
    "object_corrupt",
    "object_exists",
    "object_not_found",
    "pack_not_writable",
    "queue_mismatch",
    "schema_newer",
}
BUILT_FROM_PARTS = {"job_failed", "job_cancelled", "job_expired"}


def codes_in_source() -> set[str]:
    found: set[str] = set()
    files = [*(ROOT / "storage").rglob("*.py"), *(ROOT / "producers").glob("*.py")]
    for path in [*files, *(ROOT / "producers/api").glob("*.py")]:
        text = path.read_text("utf-8")
        found |= set(re.findall(r'\bcode(?:: str|: ClassVar\[str\])?\s*=\s*"([a-z_]+)"', text))
        found |= set(re.findall(r'\bproblem\(\s*[\w.]+,\s*"([a-z_]+)"', text))
        found |= set(re.findall(r'else "(invalid_[a-z_]+)"', text))
    return found


def test_every_code_is_documented():
    assert codes_in_source() - INSIDE - set(CODES) == set()


def test_nothing_is_documented_that_cannot_happen():
    assert set(CODES) - codes_in_source() - BUILT_FROM_PARTS == set()


def test_every_error_of_the_tree_has_a_code_and_a_status():
    for error in vars(errors).values():
        if isinstance(error, type) and issubclass(error, errors.ForebayError):
            assert re.fullmatch(r"[a-z_]+", error.code) and 400 <= error.http_status < 600


def test_the_words_around_the_codes_say_where_to_match():
    assert "`code`" in ABOUT
