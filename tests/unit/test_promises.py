"""Each promise of the README names the tests that keep it, and they are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"\]\(([^)#]+)\)")


def promises() -> list[str]:
    text = (ROOT / "README.md").read_text()
    section = text.partition("**Promises**")[2].partition("[Install](#install)")[0]
    return [line for line in section.splitlines() if line.startswith("- **")]


def test_every_promise_links_to_tests_that_exist():
    found = promises()
    assert len(found) >= 10
    for promise in found:
        links = _LINK.findall(promise)
        assert links, promise
        for link in links:
            assert link.startswith("tests/"), link
            assert (ROOT / link).is_file(), link


def test_every_link_of_the_documents_leads_somewhere():
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "deploy/OPERATING.md"):
        document = ROOT / name
        for link in _LINK.findall(document.read_text()):
            if "://" not in link:
                assert (document.parent / link).exists(), f"{name}: {link}"
