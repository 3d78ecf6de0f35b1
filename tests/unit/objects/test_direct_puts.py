"""The straight way signs as botocore does, and is taken only where that is known to be right."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from storage.objects.s3_direct import DirectPuts, Sent, signed_headers

NOW = dt.datetime(2026, 3, 14, 15, 9, 26, tzinfo=dt.UTC)
SCOPE = "AWS4-HMAC-SHA256 Credential=AKID/20260314/eu-west-1/s3/aws4_request, SignedHeaders=host"


@pytest.mark.parametrize("token", [None, "a-session-token"])
@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8333/bucket/packs/a/2026-01-31/01.pack",
        "https://bucket.s3.eu-west-1.amazonaws.com/p/%C3%A4%20b%2Bc",
    ],
)
def test_the_signature_is_botocores(monkeypatch, url, token):
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: NOW.replace(tzinfo=None))
    keys = ReadOnlyCredentials("AKID", "secret/with+signs", token)
    data = b"some bytes"
    ours = signed_headers(url, data, keys, "eu-west-1", NOW)
    request = AWSRequest("PUT", url, {"If-None-Match": "*"}, data)
    request.context["payload_signing_enabled"] = True
    S3SigV4Auth(keys, "s3", "eu-west-1").add_auth(request)
    theirs = {name.lower(): value for name, value in request.headers.items()}
    assert ours.pop("host")
    assert ours == theirs


class Client:
    """What ``attend`` needs of one of boto3's."""

    def __init__(self):
        self.meta = SimpleNamespace(events=self)

    def register(self, name, handler):
        assert name == "before-send.s3.PutObject"
        self.send = lambda url, **headers: handler(
            request=SimpleNamespace(url=url, headers=headers), operation_name="PutObject"
        )


class Session:
    """What it needs of theirs: no bundle of its own to trust, and keys that have run out."""

    @property
    def _session(self):
        return SimpleNamespace(get_config_variable=lambda name: None)

    def get_credentials(self):
        raise RuntimeError("the token service does not answer")


@pytest.fixture
def client():
    return Client()


@pytest.fixture
def direct(client, monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    made = DirectPuts(lambda: NOW)
    made.attend(client, Session())
    yield made
    made.close()


def test_nothing_is_sent_before_a_put_of_boto3s_has_succeeded(direct, client):
    client.send("http://there/bucket/a", Authorization=SCOPE)
    assert direct.put("b", b"") == (Sent.REFUSED, "")


def test_the_address_is_boto3s_without_the_key(direct, client):
    client.send("http://there:1/bucket/p/%C3%A4%20b", Authorization=SCOPE.encode())
    direct.learn("p/ä b")
    assert (direct._route.base_url, direct._route.region) == ("http://there:1/bucket/", "eu-west-1")


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("http://there/bucket/a", {}),
        ("http://there/bucket/a", {"Authorization": "AWS AKID:old"}),
        ("http://there/bucket/a", {"Authorization": SCOPE.replace("/s3/", "/s3express/")}),
        ("http://there/bucket/a", {"Authorization": SCOPE, "x-amz-s3session-token": "t"}),
        ("http://there/bucket/a", {"Authorization": SCOPE.replace("HMAC", "ECDSA-P256")}),
        ("http://there/bucket/other", {"Authorization": SCOPE}),
        ("http://there/bucket/a?partNumber=1", {"Authorization": SCOPE}),
    ],
)
def test_what_is_not_signed_or_addressed_as_expected_stays_boto3s(direct, client, url, headers):
    client.send(url, **headers)
    direct.learn("a")
    assert direct._route is None


def test_behind_a_proxy_everything_stays_boto3s(direct, client, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    client.send("http://there/bucket/a", Authorization=SCOPE)
    direct.learn("a")
    assert direct._route is None


def test_keys_that_cannot_be_renewed_are_boto3s_to_explain(direct, client):
    client.send("http://there/bucket/a", Authorization=SCOPE)
    direct.learn("a")
    assert direct._route is not None
    assert direct.put("b", b"") == (Sent.REFUSED, "")
