"""The baseline that the bench divides by really does the durable work it claims to do."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from tests.bench.baselines.run import (
    COALESCED,
    PLAIN,
    NotDone,
    Rate,
    Services,
    check,
    measure,
    measure_with_submits,
    open_client,
    until_it_ends,
)
from tests.bench.digits import Digits, make
from tests.support.s3 import Buckets

ITEMS, WARM_UP = 24, 4


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    return make(tmp_path_factory.mktemp("digits"))


@pytest.fixture
def services(
    broker_url: str, postgres_database_url: str, s3_objects_url: str, buckets: Buckets
) -> Services:
    return Services(postgres_database_url, broker_url, s3_objects_url, buckets.env())


def test_it_writes_every_row_and_every_object_and_answers_right(
    services: Services, digits: Digits, tmp_path: Path
) -> None:
    assert _run(services, digits, "prefork", tmp_path).items_per_s > 0
    with psycopg.connect(services.database_url) as database:
        rows = database.execute("SELECT state, result_key FROM baseline_jobs").fetchall()
    assert len(rows) == ITEMS
    assert {state for state, _ in rows} == {"done"}
    with closing(open_client(services)) as client:
        found = client.list_objects_v2(Bucket=services.bucket, Prefix="baseline/")["Contents"]
        assert {key for _, key in rows} <= {entry["Key"] for entry in found}


def test_the_coalesced_one_writes_every_row_and_answers_right_in_few_objects(
    services: Services, digits: Digits, tmp_path: Path
) -> None:
    items = 300  # two full batches and one that lingers
    log = tmp_path / "coalesced.log"
    measure_with_submits(services, digits, COALESCED[0], items=items, warm_up=WARM_UP, log=log)
    with psycopg.connect(services.database_url) as database:
        count, keys, states = database.execute(
            "SELECT count(*), count(DISTINCT result_key), array_agg(DISTINCT state)"
            " FROM baseline_jobs"
        ).fetchone()
    assert (count, states) == (items + WARM_UP, ["done"])
    assert keys < items / 10


def test_a_baseline_that_skips_work_is_found_out(
    services: Services, digits: Digits, tmp_path: Path
) -> None:
    _run(services, digits, "threads", tmp_path)
    with psycopg.connect(services.database_url, autocommit=True) as database:
        run = database.execute("SELECT min(run) FROM baseline_jobs").fetchone()[0]
        keys = dict(database.execute("SELECT id::text, result_key FROM baseline_jobs").fetchall())
        ids = sorted(keys)
        with pytest.raises(NotDone, match="rows are done"):
            check(services, database, digits, run, [*ids, "00000000-0000-0000-0000-000000000000"])
        other = tuple(replace(question, label="none") for question in digits.questions)
        with pytest.raises(NotDone, match="wrong answers"):
            check(services, database, replace(digits, questions=other), run, ids)
        with closing(open_client(services)) as client:
            client.delete_object(Bucket=services.bucket, Key=keys[ids[0]])
        with pytest.raises(NotDone, match="no object"):
            check(services, database, digits, run, ids)


def _run(services: Services, digits: Digits, name: str, folder: Path) -> Rate:
    variant = next(variant for variant in (*PLAIN, *COALESCED) if variant.name == name)
    log = folder / f"{name}.log"

    def run() -> Rate:
        with psycopg.connect(services.database_url, autocommit=True) as database:
            database.execute("DROP TABLE IF EXISTS baseline_jobs")  # of a run that came to rest
        return measure(services, digits, variant, items=ITEMS, warm_up=WARM_UP, log=log)

    return until_it_ends(variant, run, [])
