"""Settings of the storage floor: documented, checked at once, and never shown with a password."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import pytest

import storage.settings
from storage.objects import open_objects
from storage.objects.directory import DirectoryObjects
from storage.records.errors import InvalidInput
from storage.settings import Settings, documented_settings

FULL = {
    "FOREBAY_DATABASE_URL": "postgresql://forebay:canary-db@db:5432/forebay",
    "FOREBAY_BROKER_URL": "amqp://forebay:canary-mq@mq:5672/vhost",
    "FOREBAY_OBJECTS_URL": "s3://bucket/prefix",
    "HOME": "/home/somebody",
}


def refused(environ):
    with pytest.raises(InvalidInput) as caught:
        Settings.from_environment(environ)
    assert caught.value.stable_code == "bad_setting"
    assert caught.value.field in str(caught.value)
    return caught.value


def test_nothing_set_means_embedded_in_the_home():
    settings = Settings.from_environment({"HOME": "/home/somebody"})
    assert settings.embedded
    assert settings.home == Path("/home/somebody/.local/share/forebay")
    assert settings.database_url == "sqlite:////home/somebody/.local/share/forebay/forebay.db"
    assert settings.broker_url == "memory://"
    assert settings.objects_url == "file:///home/somebody/.local/share/forebay/objects"


def test_the_home_moves_everything_with_it(tmp_path, monkeypatch):
    home = tmp_path / "my home"
    settings = Settings.from_environment({"FOREBAY_HOME": str(home)})
    assert settings.home == home
    assert settings.database_url == f"sqlite:///{home}/forebay.db"
    home.mkdir()
    store = open_objects(settings.objects_url)
    assert isinstance(store, DirectoryObjects)
    store.put("a", b"1")
    assert (home / "objects" / "a").read_bytes() == b"1"
    monkeypatch.chdir(tmp_path)
    assert Settings.from_environment({"FOREBAY_HOME": "here"}).home == tmp_path / "here"
    assert Settings.from_environment({"FOREBAY_HOME": "~/x", "HOME": "/h"}).home == Path("/h/x")


@pytest.mark.parametrize("sign", ["?", "#", "%20"])
def test_a_home_that_a_url_cannot_name_is_refused(sign):
    assert refused({"FOREBAY_HOME": f"/data/a{sign}b"}).field == "FOREBAY_HOME"


def test_all_three_places_mean_the_full_mode():
    settings = Settings.from_environment(FULL)
    assert not settings.embedded
    assert settings.database_url == FULL["FOREBAY_DATABASE_URL"]
    assert settings.broker_url == FULL["FOREBAY_BROKER_URL"]
    assert settings.objects_url == FULL["FOREBAY_OBJECTS_URL"]


@pytest.mark.parametrize("missing", [name for name in FULL if name.endswith("_URL")])
def test_two_of_three_places_are_a_mistake_that_names_the_third(missing):
    environ = {name: value for name, value in FULL.items() if name != missing}
    error = refused(environ)
    assert error.field == missing
    assert "canary" not in str(error)
    assert refused({missing: FULL[missing]}).field != missing


def test_an_empty_variable_counts_as_not_set():
    blank = dict.fromkeys((name for name in FULL if name.endswith("_URL")), " ")
    assert Settings.from_environment({**blank, "HOME": "/h"}).embedded


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("FOREBAY_DATABASE_URL", "mysql://u:canary@db/x"),
        ("FOREBAY_DATABASE_URL", "forebay.db"),
        ("FOREBAY_DATABASE_URL", "sqlite://"),
        ("FOREBAY_DATABASE_URL", "sqlite://relative.db"),
        ("FOREBAY_DATABASE_URL", "postgresql://"),
        ("FOREBAY_DATABASE_URL", "postgresql://u:canary/with/slash@db/x"),
        ("FOREBAY_BROKER_URL", "redis://:canary@mq"),
        ("FOREBAY_BROKER_URL", "mq:5672"),
        ("FOREBAY_BROKER_URL", "amqp://u:canary@mq:port/"),
        ("FOREBAY_OBJECTS_URL", "gs://bucket"),
        ("FOREBAY_OBJECTS_URL", "https://u:canary@s3/bucket"),
        ("FOREBAY_OBJECTS_URL", "s3://AKID:canary@bucket/x"),
        ("FOREBAY_OBJECTS_URL", "file://relative/folder"),
        ("FOREBAY_OBJECTS_URL", "s3://"),
    ],
)
def test_a_url_that_is_not_understood_is_refused_with_an_example(variable, url):
    error = refused({**FULL, variable: url})
    assert error.field == variable
    assert "://" in str(error)
    assert "canary" not in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "postgres://db/x",
        "postgresql+psycopg://u@db/x",
        "postgresql:///x?host=/run/postgresql",
        "sqlite:////data/forebay.db",
    ],
)
def test_every_spelling_of_a_database_is_taken(url):
    assert Settings.from_environment({**FULL, "FOREBAY_DATABASE_URL": url}).database_url == url


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("FOREBAY_LEASE_TTL_S", "soon"),
        ("FOREBAY_LEASE_TTL_S", "0"),
        ("FOREBAY_LEASE_TTL_S", "-15"),
        ("FOREBAY_LEASE_TTL_S", "nan"),
        ("FOREBAY_LEASE_TTL_S", "inf"),
        ("FOREBAY_RETENTION_DAYS", "1.5"),
        ("FOREBAY_RETENTION_DAYS", "0"),
        ("FOREBAY_PUBLISH_TTL_S", "0"),
        ("FOREBAY_REF_PREFIXES", "s3://bucket/ok, /etc"),
        ("FOREBAY_REF_PREFIXES", "file:///"),
        ("FOREBAY_REF_PREFIXES", "file:///data/../etc"),
    ],
)
def test_a_wrong_value_is_refused_by_name(variable, text):
    assert refused({variable: text}).field == variable


def test_a_renewal_must_leave_time_for_a_second_one():
    assert refused({"FOREBAY_RENEW_EVERY_S": "10"}).field == "FOREBAY_RENEW_EVERY_S"
    settings = Settings.from_environment(
        {"FOREBAY_RENEW_EVERY_S": "10", "FOREBAY_LEASE_TTL_S": "20.5"}
    )
    assert (settings.renew_every_s, settings.lease_ttl_s) == (10.0, 20.5)


def test_prefixes_end_where_folders_end():
    settings = Settings.from_environment(
        {"FOREBAY_REF_PREFIXES": "s3://bucket/photos, file:///data/in/ ,"}
    )
    assert settings.ref_prefixes == ("s3://bucket/photos/", "file:///data/in/")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://u:canary@mq:5672/v", "amqp://u:***@mq:5672/v"),
        ("amqp://u:can@ary@mq/v", "amqp://u:***@mq/v"),
        ("amqp://u:can/ary@mq/v", "amqp://u:***@mq/v"),
        ("amqp://:canary@mq", "amqp://:***@mq"),
        (
            "postgresql://db/x?user=u&password=canary&a=b",
            "postgresql://db/x?user=u&password=***&a=b",
        ),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        ("sqlite:////data/forebay.db", "sqlite:////data/forebay.db"),
        ("amqp://mq:5672/v", "amqp://mq:5672/v"),
    ],
)
def test_what_is_shown_hides_the_password_and_nothing_else(url, shown):
    settings = dataclasses.replace(Settings.from_environment(FULL), broker_url=url)
    assert settings.redacted()["broker_url"] == shown


def test_no_way_of_printing_settings_shows_a_password():
    settings = Settings.from_environment(FULL)
    for text in (repr(settings), str(settings), f"{settings}", str(settings.redacted())):
        assert "canary" not in text and "mq:5672" in text
    assert set(settings.redacted()) == {item.name for item in dataclasses.fields(Settings)}


def test_every_setting_is_documented_by_a_sentence():
    documented = documented_settings()
    assert [one.name for one in documented] == [f.name for f in dataclasses.fields(Settings)]
    assert len({one.variable for one in documented}) == len(documented)
    for one in documented:
        assert one.variable.startswith("FOREBAY_")
        assert len(one.says.split()) >= 5 and one.says[0].isupper() and one.says.endswith(".")
        assert one.default


def test_every_variable_that_is_read_is_documented():
    read = set()

    class Watched(dict):
        def get(self, key, default=None):
            read.add(key)
            return super().get(key, default)

    Settings.from_environment(Watched(FULL))
    listed = {one.variable for one in documented_settings()}
    assert {name for name in read if name.startswith("FOREBAY_")} == listed
    source = Path(storage.settings.__file__).read_text()
    named = {
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and str(node.value).startswith("FOREBAY_")
        if str(node.value).replace("_", "").isalnum()
    }
    assert named == listed


def test_every_variable_arrives_in_its_field():
    values = {
        "FOREBAY_LEASE_TTL_S": ("lease_ttl_s", "31", 31.0),
        "FOREBAY_RENEW_EVERY_S": ("renew_every_s", "4", 4.0),
        "FOREBAY_SWEEP_EVERY_S": ("sweep_every_s", "2.5", 2.5),
        "FOREBAY_PUBLISH_TTL_S": ("publish_ttl_s", "9", 9.0),
        "FOREBAY_RETENTION_DAYS": ("retention_days", "7", 7),
        "FOREBAY_DATABASE_POOL_SIZE": ("database_pool_size", "3", 3),
        "FOREBAY_CONFIRM_TIMEOUT_S": ("confirm_timeout_s", "1.5", 1.5),
    }
    settings = Settings.from_environment(
        FULL | {variable: text for variable, (_, text, _) in values.items()}
    )
    for name, _, value in values.values():
        assert getattr(settings, name) == value and type(getattr(settings, name)) is type(value)


def test_settings_cannot_be_changed():
    settings = Settings.from_environment(FULL)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.lease_ttl_s = 1.0  # type: ignore[misc]


def test_what_webhooks_may_reach_is_a_list_that_is_checked_at_the_start():
    given = {"FOREBAY_WEBHOOK_ALLOW": "hook.corp:9000, 10.0.0.0/8 ,[::1]:*", "HOME": "/h"}
    settings = Settings.from_environment(given)
    assert settings.webhook_allow == ("hook.corp:9000", "10.0.0.0/8", "[::1]:*")
    for wrong in ("https://hook.corp", "10.0.0.1/8", "hook.corp,*"):
        assert refused({"FOREBAY_WEBHOOK_ALLOW": wrong}).field == "FOREBAY_WEBHOOK_ALLOW"


def test_the_public_url_is_one_and_ends_without_a_slash():
    given = {"FOREBAY_PUBLIC_URL": "https://forebay.example.com/", "HOME": "/h"}
    assert Settings.from_environment(given).public_url == "https://forebay.example.com"
    assert Settings.from_environment({"HOME": "/h"}).public_url == ""
    for wrong in ("forebay.example.com", "ftp://x", "https://x/?a", "https://x/#a", "https://"):
        assert refused({"FOREBAY_PUBLIC_URL": wrong}).field == "FOREBAY_PUBLIC_URL"
