"""The services that tests stand on are real, private, and can be killed and started again."""

from __future__ import annotations

import os

import boto3
import kombu
import psycopg
import pytest


def roundtrip_message(url):
    with kombu.Connection(url, connect_timeout=5) as connection:
        queue = connection.SimpleQueue("probe")
        queue.put({"n": 1})
        assert queue.get(timeout=5).payload == {"n": 1}
        queue.close()


def test_each_test_has_a_vhost_of_its_own(vhosts, broker_url):
    other = vhosts.url(vhosts.create())
    roundtrip_message(broker_url)
    with kombu.Connection(other) as connection, pytest.raises(connection.channel_errors):
        connection.default_channel.queue_declare("probe", passive=True)


def test_postgres_is_version_18_and_empty(postgres_database_url):
    with psycopg.connect(postgres_database_url) as connection:
        assert connection.info.server_version // 10_000 == 18
        tables = connection.execute(
            "select count(*) from pg_tables where schemaname = 'public'"
        ).fetchone()
        assert tables == (0,)


def test_s3_is_reached_by_botos_own_variables(s3_objects_url):
    bucket, _, prefix = s3_objects_url.removeprefix("s3://").partition("/")
    client = boto3.client("s3")
    client.put_object(Bucket=bucket, Key=f"{prefix}/a", Body=b"hello")
    assert client.get_object(Bucket=bucket, Key=f"{prefix}/a")["Body"].read() == b"hello"
    client.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rabbitmq", "postgres", "s3"])
def test_a_killed_service_comes_back_on_the_same_address(name, request):
    service = request.getfixturevalue(name)
    url, pid = service.url, service.pid
    service.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    service.start()
    assert service.url == url and service.pid != pid
