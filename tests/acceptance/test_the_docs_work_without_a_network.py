"""``/docs`` in a real browser that can reach nothing but the service itself."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.fixtures import missing
from tests.support.stack import Stack

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture
def chromium() -> str:
    found = os.environ.get("FOREBAY_TEST_CHROMIUM") or next(
        filter(None, map(shutil.which, NAMES)), ""
    )
    if not found:
        missing("no Chromium (make services installs it; FOREBAY_TEST_CHROMIUM names another)")
    return found


def test_the_page_shows_every_route(stack: Stack, chromium: str, tmp_path: Path) -> None:
    api = stack.caller()
    try:
        paths = api.http.get("/openapi.json").json()["paths"]
    finally:
        api.close()
    done = subprocess.run(
        [
            chromium,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--disable-dev-shm-usage", "--disable-extensions", "--no-default-browser-check"),
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--user-data-dir={tmp_path / 'profile'}",
            *("--virtual-time-budget=8000", "--dump-dom", f"{stack.url}/docs"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    page = done.stdout
    assert "/v1/jobs/many" in page, f"{done.stderr[-2000:]}\n{page[:2000]}"
    for path in paths:
        assert path in page, f"{path} is not shown"
    assert "Idempotency-Key" in page
    assert 'data-ready="yes"' in page, "it is not drawn to its end"
    for code in ("not_pausable", "bad_image"):  # of problems, and of what ends in a job's error
        assert f"<code>{code}</code>" in page, f"{code} is not explained"
    for outside in ('src="http', 'href="http', "@import", "url(http"):
        assert outside not in page, "the page loads something from elsewhere"
