"""Every setting stands in the README with its default and its sentence, and nothing else does."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from producers.client.settings import DEFAULT_URL
from producers.settings import ApiSettings, RelaySettings
from storage.settings import documented_settings
from workers.settings import describe

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text("utf-8")
OTHERS = {
    "FOREBAY_API_URL": (DEFAULT_URL, "Where the SDK and the command find the service."),
    "FOREBAY_API_KEY": ("none", "The key that they show it."),
    "FOREBAY_DEMO_DATA": ("none", "The demo's digits, where pip cannot fetch them."),
}


def shown(default) -> str:
    """A default as people write it."""
    text = str(default)
    home = str(Path.home())
    if text in ("", "()", "None", "none"):
        return "none"
    return text.replace(home, "~")


def rows() -> dict[str, str]:
    """The table's row of each variable. Where two floors read one, the lower's words count."""
    found = dict(OTHERS)
    for name, default, says in describe():
        found[name] = (default, says)
    for kind in (ApiSettings, RelaySettings):
        for item in dataclasses.fields(kind):
            found[item.metadata["env"]] = (item.default, item.metadata["says"])
    for setting in documented_settings():
        found[setting.variable] = (setting.default, setting.says)
    return {
        name: f"| `{name}` | {shown(default)} | {says} |" for name, (default, says) in found.items()
    }


def test_every_setting_is_documented():
    missing = [row for row in rows().values() if row not in README]
    assert not missing, "the README lacks these rows:\n" + "\n".join(missing)


def test_nothing_is_documented_that_is_not_read():
    mentioned = set(re.findall(r"FOREBAY_[A-Z0-9_]+", README))
    assert mentioned <= set(rows())


def test_no_variable_is_read_past_the_settings():
    """What the code names is a setting, or one that the tests and the Makefile use."""
    named = set()
    for floor in ("storage", "producers", "workers", "deploy/forebay"):
        for path in (ROOT / floor).rglob("*.py"):
            named |= set(re.findall(r"FOREBAY_[A-Z0-9_]*[A-Z0-9]", path.read_text("utf-8")))
    assert named - set(rows()) <= {"FOREBAY_WORKER"}, named - set(rows())
