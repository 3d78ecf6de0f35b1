"""The flights are those that are known, or it is said why they cannot be had."""

from __future__ import annotations

import subprocess

import pytest

from tests.show import flights_data


def test_an_archive_with_another_digest_is_thrown_away(tmp_path, monkeypatch):
    def download(command, **_):
        wanted = (tmp_path / "wanted.txt").read_text()
        assert "--require-hashes" in command and flights_data.ARCHIVE_SHA256 in wanted
        (tmp_path / flights_data.ARCHIVE).write_bytes(b"something else")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(flights_data.subprocess, "run", download)
    with pytest.raises(flights_data.NoFlights, match="wrong SHA-256"):
        flights_data.find_flights(tmp_path)
    assert not (tmp_path / flights_data.ARCHIVE).exists()


def test_no_network_is_said_in_pips_own_words(tmp_path, monkeypatch):
    def fail(command, **_):
        return subprocess.CompletedProcess(command, 1, "", "noise\nERROR: no network\n")

    monkeypatch.setattr(flights_data.subprocess, "run", fail)
    with pytest.raises(flights_data.NoFlights, match="no network"):
        flights_data.find_flights(tmp_path)


def test_a_rows_id_is_the_byte_at_which_its_line_begins(tmp_path):
    table = tmp_path / "flights.csv"
    table.write_text("carrier,dep_delay\nUA,2\né,NA\nB6,3\n")
    assert [(name, row["carrier"]) for name, row in flights_data.read_flights(table)] == [
        ("0:18", "UA"),
        ("0:23", "é"),
        ("0:29", "B6"),
    ]
