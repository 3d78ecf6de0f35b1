"""``verify``: what was signed with the secret is told from everything else, and nothing is raised
but what a receiver expects."""

from __future__ import annotations

import base64
import email.message
import json

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import forebay
from producers.client import BadArgument, WebhookVerificationError, verify
from storage.records.webhooks import new_secret, signature

# The test vector of the specification.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, AT = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
HEADERS = {"webhook-id": ID, "webhook-timestamp": str(AT), "webhook-signature": SIGNATURE}


def code_of(headers=HEADERS, body=BODY, secret=SECRET, now=AT, **more) -> str:
    with pytest.raises(WebhookVerificationError) as caught:
        verify(headers, body, secret, now=now, **more)
    assert "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" not in str(caught.value)
    return caught.value.code


def test_the_test_vector_of_the_specification():
    assert verify(HEADERS, BODY, SECRET, now=AT) == {"test": 2432232314}
    assert signature([SECRET], ID, AT, BODY) == SIGNATURE
    assert forebay.verify is verify


@given(
    body=st.dictionaries(st.text(), st.integers() | st.text() | st.none()),
    seeds=st.lists(st.integers(0, 2**256 - 1), min_size=1, max_size=3, unique=True),
    data=st.data(),
)
def test_what_we_sign_is_verified_by_any_of_its_secrets(body, seeds, data):
    raw = json.dumps(body).encode()
    secrets = [new_secret(lambda bits, seed=seed: seed) for seed in seeds]
    header = signature(secrets, ID, AT, raw)
    headers = HEADERS | {"webhook-signature": header}
    one = data.draw(st.sampled_from(secrets))
    assert verify(headers, raw, one, now=AT) == body
    assert verify(headers, raw.decode(), [SECRET, one], now=AT) == body
    assert code_of(headers, raw) == "signature_mismatch"
    place = data.draw(st.integers(0, len(raw) - 1))
    changed = bytearray(raw)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    assert code_of(headers, bytes(changed), secrets) == "signature_mismatch"


@pytest.mark.parametrize(
    "headers",
    [
        {"Webhook-Id": ID, "WEBHOOK-TIMESTAMP": str(AT), "webhook-SIGNATURE": SIGNATURE},
        list(HEADERS.items()),
        [(name.encode(), value.encode()) for name, value in HEADERS.items()],
        httpx.Headers(HEADERS),
        HEADERS | {"webhook-signature": f"v1a,AAAA v1,AAAA {SIGNATURE}"},
        HEADERS | {"webhook-signature": f"  {SIGNATURE}  v1,"},
        HEADERS | {"webhook-signature": f"nonsense , v1 ,,, {SIGNATURE}"},
        HEADERS | {"other": 7, "content-type": "a,b,c"},
    ],
)
def test_headers_as_frameworks_have_them(headers):
    assert verify(headers, BODY, SECRET, now=AT) == {"test": 2432232314}


def test_headers_of_the_servers_of_the_standard_library():
    message = email.message.Message()
    for name, value in HEADERS.items():
        message[name.title()] = value
    assert verify(message, bytearray(BODY), SECRET, now=AT)
    message["Webhook-Id"] = "another"
    assert code_of(message) == "bad_headers"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        *(({name: None}, "missing_headers") for name in HEADERS),
        *(({name: "  "}, "missing_headers") for name in HEADERS),
        *(({name: 7}, "missing_headers") for name in HEADERS),
        ({"webhook-timestamp": "soon"}, "bad_headers"),
        ({"webhook-timestamp": "1614265330.0"}, "bad_headers"),
        ({"webhook-timestamp": "-1614265330"}, "bad_headers"),
        ({"webhook-timestamp": "9" * 5000}, "bad_headers"),
        ({"webhook-timestamp": "١٦١٤٢٦٥٣٣٠"}, "bad_headers"),
        ({"webhook-signature": "v1,é"}, "bad_headers"),
        ({"webhook-signature": "v1"}, "signature_mismatch"),
        ({"webhook-signature": "v1,"}, "signature_mismatch"),
        ({"webhook-signature": SIGNATURE.replace("v1,", "v2,")}, "signature_mismatch"),
        ({"webhook-signature": SIGNATURE.replace(",", "")}, "signature_mismatch"),
        ({"webhook-signature": SIGNATURE[:-2]}, "signature_mismatch"),
        ({"webhook-id": ID + "x"}, "signature_mismatch"),
        ({"webhook-timestamp": str(AT + 1)}, "signature_mismatch"),
        ({"Webhook-ID": "another"}, "bad_headers"),
        (
            {
                "webhook-id": None,
                "webhook-signature": None,
                "svix-id": ID,
                "svix-signature": SIGNATURE,
            },
            "missing_headers",
        ),
    ],
)
def test_headers_that_are_no_signature(change, code):
    assert code_of(HEADERS | change) == code


@pytest.mark.parametrize("headers", [None, 7, "webhook-id", ["webhook-id"], [("a", "b", "c")], {}])
def test_what_are_no_headers(headers):
    assert code_of(headers) in ("bad_headers", "missing_headers")


def test_what_is_too_old_or_too_new_is_refused():
    assert verify(HEADERS, BODY, SECRET, now=AT + 300)
    assert verify(HEADERS, BODY, SECRET, now=AT - 300)
    assert code_of(now=AT + 301) == "too_old"
    assert code_of(now=AT - 301) == "too_new"
    assert verify(HEADERS, BODY, SECRET, now=AT + 999, tolerance_s=1000)
    assert code_of(now=AT + 2, tolerance_s=1) == "too_old"
    assert code_of(now=None) == "too_old"  # the machine's own clock


def test_what_is_signed_but_no_event_is_refused():
    for body in (b"", b"[]", b"7", b"{", b"\xff\xfe", b"[" * 100_000):
        headers = HEADERS | {"webhook-signature": signature([SECRET], ID, AT, body)}
        assert code_of(headers, body) == "bad_body"


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_é", "whsec_a", [], None, 7, [SECRET, ""]])
def test_a_secret_that_is_none_is_the_receivers_mistake(secret):
    with pytest.raises(BadArgument):
        verify(HEADERS, BODY, secret, now=AT)


@pytest.mark.parametrize("body", [None, 7, {"test": 2432232314}])
def test_a_body_that_was_parsed_is_the_receivers_mistake(body):
    with pytest.raises(BadArgument):
        verify(HEADERS, body, SECRET, now=AT)


texts = st.one_of(
    st.text(max_size=40),
    st.text("v1,= \t\n0123456789ABCabc+/", max_size=60),
    st.sampled_from([ID, str(AT), SIGNATURE, SIGNATURE + " v1"]),
)


@settings(max_examples=500, deadline=None)
@given(
    headers=st.dictionaries(
        st.sampled_from([*HEADERS, "Webhook-Id", "x"]), texts | st.binary(max_size=20)
    ),
    body=st.binary(max_size=40) | st.text(max_size=40) | st.just(BODY),
)
@example(headers=HEADERS | {"webhook-signature": "v1,a,b v1"}, body=BODY)
@example(headers=HEADERS, body="\ud800")
def test_whatever_comes_the_answer_is_an_event_or_one_kind_of_error(headers, body):
    try:
        event = verify(headers, body, SECRET, now=AT)
    except WebhookVerificationError as error:
        assert not isinstance(error, ValueError) and error.code
    else:
        assert event == {"test": 2432232314} and body in (BODY, BODY.decode())


def test_a_key_that_is_not_the_secrets_own_is_refused():
    other = "whsec_" + base64.b64encode(bytes(24)).decode()
    assert code_of(secret=other) == "signature_mismatch"
    assert code_of(secret=[other, "whsec_" + base64.b64encode(bytes(32)).decode()])
