"""How a delivery is signed, when it is tried again, and when an endpoint is left alone."""

from __future__ import annotations

import base64
import itertools
import random

import pytest
from standardwebhooks import Webhook

from storage.records.errors import InvalidInput
from storage.records.webhooks import (
    BREAKS_AFTER,
    FIRST_PAUSE_MS,
    JITTER,
    LONGEST_PAUSE_MS,
    MAX_AGE_MS,
    MAX_ATTEMPTS,
    MAX_RETRY_AFTER_MS,
    Event,
    check_secret,
    check_types,
    event_id_of,
    message_id,
    message_id_of,
    new_secret,
    next_pause_ms,
    own_endpoint_id,
    pause_of,
    signature,
)

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, TIMESTAMP_S, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNED = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
HOUR_MS = 3_600_000


class TestSignature:
    def test_it_is_the_specifications_own_example(self):
        assert signature([SECRET], ID, TIMESTAMP_S, BODY) == SIGNED

    def test_while_a_secret_is_replaced_both_are_signed_with(self):
        other = new_secret(random.Random(1).getrandbits)
        both = signature([other, SECRET], ID, TIMESTAMP_S, BODY)
        assert both == f"{signature([other], ID, TIMESTAMP_S, BODY)} {SIGNED}"

    @pytest.mark.parametrize("changed", ["id", "time", "body", "secret"])
    def test_it_covers_id_time_and_body(self, changed: str):
        other = signature(
            [new_secret(random.Random(2).getrandbits) if changed == "secret" else SECRET],
            ID + "x" if changed == "id" else ID,
            TIMESTAMP_S + 1 if changed == "time" else TIMESTAMP_S,
            BODY + b" " if changed == "body" else BODY,
        )
        assert other != SIGNED

    def test_the_reference_library_makes_the_same_one(self):
        from datetime import UTC, datetime

        for seed in range(20):
            secret = new_secret(random.Random(seed).getrandbits)
            when = datetime.fromtimestamp(TIMESTAMP_S, UTC)
            theirs = Webhook(secret).sign(ID, when, BODY.decode())
            assert theirs == signature([secret], ID, TIMESTAMP_S, BODY)


class TestSecrets:
    def test_a_new_one_is_as_the_specification_spells_it(self):
        secret = new_secret(random.Random(3).getrandbits)
        assert check_secret(secret) == secret
        assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32

    @pytest.mark.parametrize("length", [24, 64])
    def test_one_that_is_brought_along_may_have_24_to_64_bytes(self, length: int):
        assert check_secret("whsec_" + base64.b64encode(bytes(length)).decode())

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "whsec_",
            "whsec_????",
            SECRET.removeprefix("whsec_"),
            "whsec_" + base64.b64encode(bytes(23)).decode(),
            "whsec_" + base64.b64encode(bytes(65)).decode(),
            SECRET + "\n",
        ],
    )
    def test_another_is_refused(self, text: str):
        with pytest.raises(InvalidInput) as caught:
            check_secret(text)
        assert caught.value.stable_code == "bad_webhook_secret"


class TestSchedule:
    def test_ten_attempts_over_75_hours(self):
        pauses = [next_pause_ms(number, 0, 0, 0.0) for number in range(1, MAX_ATTEMPTS)]
        minutes = [pause // 60_000 for pause in pauses]
        assert pauses[0] == 5_000
        assert minutes[1:] == [5, 30, 120, 300, 600, 840, 1200, 1440]
        assert 75 * HOUR_MS < sum(pauses) < 76 * HOUR_MS
        assert next_pause_ms(MAX_ATTEMPTS, 0, 0, 0.0) is None

    def test_jitter_only_adds_and_is_bounded(self):
        chance = random.Random(4)
        for number, _ in itertools.product(range(1, MAX_ATTEMPTS), range(50)):
            plain = next_pause_ms(number, 0, 0, 0.0)
            assert plain <= next_pause_ms(number, 0, 0, chance.random()) <= plain * (1 + JITTER)

    def test_with_all_jitter_the_last_attempt_comes_before_it_is_too_old(self):
        age_ms = 0
        for number in range(1, MAX_ATTEMPTS):
            pause = next_pause_ms(number, age_ms, 0, 0.5)
            assert pause is not None
            age_ms += pause

    def test_a_receiver_may_ask_for_a_longer_pause_but_not_for_a_shorter_or_endless_one(self):
        assert next_pause_ms(1, 0, 60_000, 0.0) == 60_000
        assert next_pause_ms(2, 0, 1_000, 0.0) == 300_000
        assert next_pause_ms(1, 0, 10**15, 0.0) == MAX_RETRY_AFTER_MS

    def test_what_waited_too_long_is_given_up(self):
        assert next_pause_ms(1, MAX_AGE_MS, 0, 0.0) is not None
        assert next_pause_ms(1, MAX_AGE_MS + 1, 0, 0.0) is None


class TestBreaker:
    def test_a_few_failures_pause_nothing(self):
        assert [pause_of(failures) for failures in range(BREAKS_AFTER)] == [0] * BREAKS_AFTER

    def test_then_it_is_left_alone_ever_longer_up_to_a_bound(self):
        pauses = [pause_of(failures) for failures in range(BREAKS_AFTER, BREAKS_AFTER + 30)]
        assert pauses[0] == FIRST_PAUSE_MS and pauses[1] == 2 * FIRST_PAUSE_MS
        assert pauses == sorted(pauses) and pauses[-1] == LONGEST_PAUSE_MS


class TestWords:
    def test_the_id_of_a_message_is_the_events(self):
        event = Event("01970000-0000-7000-8000-000000000001", "t", "job.failed", None, 3, 0)
        assert message_id(event) == "evt_01970000000070008000000000000001"

    def test_an_event_is_found_by_its_own_id_and_by_its_messages(self):
        own = "0197abcd-0000-7000-8000-000000000001"
        assert event_id_of(own) == event_id_of(message_id_of(own)) == own
        for wrong in ("", "evt_", own.upper(), own[:-1], "evt_" + own, message_id_of(own) + "0"):
            assert event_id_of(wrong) is None
        assert event_id_of("evt_" + "g" * 32) is event_id_of("evt_évt_" + "0" * 28) is None

    def test_filters_are_known_events_without_doubles(self):
        assert check_types(["job.failed", "job.cancelled", "job.failed"]) == (
            "job.cancelled",
            "job.failed",
        )
        assert check_types(["job.failed", "*"]) == ("*",)
        for wrong in ([], ["job.done"], ["job.failed", "webhook.test"]):
            with pytest.raises(InvalidInput):
                check_types(wrong)

    def test_the_same_url_of_the_same_tenant_is_the_same_endpoint(self):
        first = own_endpoint_id("a", "https://example.com/1")
        assert first == own_endpoint_id("a", "https://example.com/1")
        others = {("b", "https://example.com/1"), ("a", "https://example.com/2"), ("ah", "ttps://")}
        assert first not in {own_endpoint_id(*one) for one in others}
