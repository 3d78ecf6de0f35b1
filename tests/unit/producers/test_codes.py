"""Every code that the service can answer with is documented, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from producers.api.codes import CODES, JOB_CODES
from producers.api.openapi import ABOUT
from storage.records import errors

ROOT = Path(__file__).parents[3]
# Raised where no caller is answered, or turned into something else before one is.
INSIDE = {
    "bad_envelope",
    "bad_item",
    "bad_setting",
    "bad_webhook_allow",
    "database_not_migrated",
    "invalid_broker_url",
    "invalid_key",
    "invalid_prefix",
    "object_changed",
    "object_corrupt",
    "object_exists",
    "object_not_found",
    "pack_not_writable",
    "queue_mismatch",
    "schema_newer",
    "version_not_in_training",
}
BUILT_FROM_PARTS = {"job_failed", "job_cancelled", "job_expired", "version_deprecated"}


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


def codes_of_work() -> set[str]:
    """What may stand in the error of a job, of an item, of a version."""
    found: set[str] = set()
    folders = (
        "workers/inference",
        "workers/runtime",
        "workers/bulk",
        "workers/training",
        "storage/database/jobs",
        "storage/database/bulk",
        "storage/database/training",
    )
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    alone = (ROOT / "workers/supervisor.py", ROOT / "producers/batch_files.py")
    for path in [*files, *alone]:
        text = path.read_text("utf-8")
        found |= set(re.findall(r'\bcode(?:: ClassVar\[str\])?\s*=\s*"([a-z_]+)"', text))
        found |= set(re.findall(r'\b(?:JobError|Fault)\(\s*"([a-z_]+)"', text))
        found |= set(re.findall(r'\bRowError\([^"]*,\s*"([a-z_0-9]+)"', text))
        found |= set(re.findall(r'^[A-Z_]+ = "([a-z]+_[a-z_]+)"', text, re.MULTILINE))
        found |= set(re.findall(r'return "([a-z]+_[a-z_]+)", "', text))
        found |= set(re.findall(r'\("(bad_[a-z]+)", [A-Z]+\)', text))
        found |= set(re.findall(r'"([a-z]+_changes_answers|unknown_category)"', text))
    return found


def test_every_code_of_work_is_documented():
    turned_into_others = {"pack_not_found", "pack_not_writable", "ref_unavailable", "row_id"}
    assert codes_of_work() - turned_into_others - set(CODES) - set(JOB_CODES) == set()


def test_no_code_of_work_is_documented_that_cannot_happen():
    assert (
        set(JOB_CODES) - codes_of_work() - {"input_not_accessible", "output_not_accessible"}
        == set()
    )
    assert not set(JOB_CODES) & set(CODES)


def test_every_error_of_the_tree_has_a_code_and_a_status():
    for error in vars(errors).values():
        if isinstance(error, type) and issubclass(error, errors.ForebayError):
            assert re.fullmatch(r"[a-z_]+", error.code) and 400 <= error.http_status < 600


def test_the_words_around_the_codes_say_where_to_match():
    assert "`code`" in ABOUT
