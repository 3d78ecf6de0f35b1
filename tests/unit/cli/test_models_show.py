"""``forebay models show``: signature, knobs, costs and the curve, of the version that was meant."""

from __future__ import annotations

import json
import sys

import pytest

from producers.cli.curve import BAR, bytes_text, lines_of, seconds_text

DIGEST = "ab" * 32


def passes(bucket: int, mean_s: float, p95_s: float, device: str = "cpu", shape: str = ""):
    return {
        "device": device,
        "shape": shape,
        "bucket": bucket,
        "count": 10 * bucket,
        "mean_s": mean_s,
        "p95_s": p95_s,
        "updated_at": "2026-01-01T00:00:00.000Z",
    }


def version(number: int, **more):
    return {
        "version": number,
        "state": "ready",
        "format": "keras",
        "digest": DIGEST,
        "size_bytes": 412_331,
        "error": None,
        "created_at": "2026-01-01T00:00:00.000Z",
        "signature": {
            "form": "image",
            "inputs": [{"name": "x", "dtype": "float32", "shape": [None, 28, 1]}],
            "outputs": [{"name": "p", "dtype": "float32", "shape": [10]}],
            "labels": [str(n) for n in range(10)],
            "top_k": 3,
            "serving": {"max_batch": 64},
        },
        "serving": {"max_batch": 64, "latency_objective_ms": 50.0, "xla": False, "pad": {}},
        "latency": [passes(8, 0.002, 0.003), passes(1, 0.001, 0.001), passes(64, 0.004, 0.006)],
        "costs": [
            {
                "device": "cpu",
                "device_s_per_job": 0.00002,
                "path_s_per_job": 0.00025,
                "load_s": 1.52,
                "memory_bytes": 35_651_584,
                "safe_rows": 32,
            }
        ],
        **more,
    }


@pytest.fixture
def digits(service):
    service.models["digits"] = {
        "name": "digits",
        "latest_version": 2,
        "aliases": {"prod": 1},
        "versions": [],
    }
    service.versions = {"1": version(1), "2": version(2, latency=[], costs=[])}
    return service


def test_a_version_is_shown_with_all_that_is_known(forebay, digits):
    code, out, _ = forebay("models", "show", "digits:1")
    assert code == 0
    for said in (
        "digits:1  ready",
        "x float32 [?, 28, 1]",
        "p float32 [10]",
        "10 (0, 1, 2, 3, 4, …), the best 3 shown",
        "max_batch=64*  latency_objective_ms=50.0   (* as pushed)",
        "loads in 1.52 s, holds 34.0 MiB, 20.0 µs of device a job",
        "250 µs a job in all (4,000 jobs/s), at most 32 rows fit",
        "latency on cpu",
    ):
        assert said in out, out


def test_the_curve_is_a_table_by_rows_with_bars(forebay, digits):
    out = forebay("models", "show", "digits:1")[1].splitlines()
    table = out[out.index("latency on cpu") + 1 :]
    assert table[0].split() == ["ROWS", "PASSES", "MEAN", "P95", "ROWS/S"]
    assert table[1].split() == ["1", "10", "1.00", "ms", "1.00", "ms", "1,000", "#" * 5]
    assert table[2].split()[-2:] == ["4,000", "#" * 10 + "." * 5]
    assert table[3].split()[-2:] == ["16,000", "#" * 20 + "." * 10]


def test_a_terminal_gets_the_same_drawn(forebay, digits, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    out = forebay("models", "show", "digits:1")[1]
    assert "16,000" in out and "█" in out


def test_a_bare_name_shows_its_versions_and_the_newest(forebay, digits):
    out = forebay("models", "show", "digits")[1]
    assert "prod→1" in out and "digits:2" in out and "no pass has been measured yet" in out


def test_an_alias_shows_its_version(forebay, digits):
    assert "digits:1" in forebay("models", "show", "digits@prod")[1]
    code, _, err = forebay("models", "show", "digits@nope")
    assert code == 2 and "no alias" in err


def test_json_gives_the_rows(forebay, digits):
    one = json.loads(forebay("models", "show", "digits:1", "--json")[1])
    assert [row["bucket"] for row in one["latency"]] == [8, 1, 64]
    whole = json.loads(forebay("models", "show", "digits", "--json")[1])
    assert whole["latest_version"] == 2 and whole["newest"]["version"] == 2


@pytest.mark.parametrize("ref", ["digits:x", "digits:", "nobody", "digits:9"])
def test_what_is_not_there_is_refused(forebay, digits, ref):
    code, _, err = forebay("models", "show", ref)
    assert code == 2 and "Traceback" not in err


def test_a_version_without_measurements_from_an_older_service_is_shown(forebay, digits):
    plain = version(1)
    for name in ("latency", "costs", "serving"):
        del plain[name]
    digits.versions["1"] = plain
    assert forebay("models", "show", "digits:1")[0] == 0


def test_bars_fit_whatever_the_times():
    for rows in ([], [passes(1, 0.0, 0.0)], [passes(1, 1e-9, 1e-9), passes(2, 100.0, 300.0)]):
        assert all(0 < line.solid + line.faint <= BAR for line in lines_of(rows))


def test_seconds_are_told_in_their_unit():
    shown = [seconds_text(s) for s in (0.0, 0.0000214, 0.00121, 0.0456, 0.789, 1.5, 321.0)]
    assert shown == ["0.00 µs", "21.4 µs", "1.21 ms", "45.6 ms", "789 ms", "1.50 s", "321 s"]


def test_sizes_are_told_in_their_unit():
    shown = [bytes_text(size) for size in (0, 700, 13_181, 35_651_584, 700_000_000, 80 << 30)]
    assert shown == ["0 B", "700 B", "12.9 KiB", "34.0 MiB", "668 MiB", "80.0 GiB"]
