"""``forebay demo`` from end to end, on drawn digits: tests fetch nothing."""

from __future__ import annotations

import json
import os
import random
from types import SimpleNamespace

import numpy as np
import pytest

from forebay import demo
from tests.bench.digits import draw

pytestmark = pytest.mark.slow


def test_the_demo_does_the_main_job_and_tells_what_happened(tmp_path, monkeypatch, capsys):
    from io import BytesIO

    from PIL import Image

    rng = random.Random(5)
    labels = np.array([rng.randrange(10) for _ in range(3000)])
    drawn = [np.asarray(Image.open(BytesIO(draw(rng, int(label))))) for label in labels]
    monkeypatch.setattr(demo, "DIGITS", SimpleNamespace(read=lambda data, cache: b""))
    monkeypatch.setattr(demo, "read_digits", lambda table: (np.stack(drawn), labels))
    # Somebody's own settings and key are not the demo's.
    environ = {**os.environ, "FOREBAY_BROKER_URL": "amqp://x", "FOREBAY_API_KEY": "theirs"}
    monkeypatch.setenv("FOREBAY_API_KEY", "theirs")
    demo.run_demo(None, tmp_path, environ, as_json=True)
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["jobs"] == 1000 and told["accuracy"] > 0.9 and err == ""
    # One at a time it would be 1,000 batches; what came while a batch ran was the next one.
    assert told["batches"] < 200 and told["mean_batch"] == 1000 / told["batches"]
    assert 0 < told["latency_p50_ms"] <= told["latency_p99_ms"] <= 1000 * told["elapsed_s"] + 1
    assert told["worker"]["rows_per_pass"] > 1 and 0.5 < told["worker"]["fill"] <= 1
    assert all(told["worker"]["stages"].values())
    assert told["webhook"]["type"] == "job.succeeded" and 0 < told["webhook"]["within_s"] < 60
    assert told["jobs_per_s"] == pytest.approx(1000 / told["elapsed_s"])
