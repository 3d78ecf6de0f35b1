"""Files and models, by the real client."""

from __future__ import annotations

import openai
import pytest

from tests.integration.openai.batch_hand import jsonl, line, open_client, upload


def test_a_file_is_uploaded_found_and_read_back(client, house):
    data = jsonl([line(f"c{n}") for n in range(5)])
    made = client.files.create(file=("in.jsonl", data), purpose="batch")
    assert made.id.startswith("file-") and len(made.id) == 37
    assert (made.object, made.purpose, made.filename) == ("file", "batch", "in.jsonl")
    assert made.bytes == len(data) and made.expires_at - made.created_at == 30 * 86_400
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).content == data
    # It is an ordinary file of ours.
    digits = made.id.removeprefix("file-")
    our_id = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    assert house.http.get(f"/v1/files/{our_id}").json()["size_bytes"] == len(data)


def test_a_file_larger_than_a_piece_comes_back_whole(client):
    data = jsonl([line(f"c{n}", extra="x" * 1000) for n in range(3000)])
    made = client.files.create(
        file=("in.jsonl", data),
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert len(data) > 3 << 20 and client.files.content(made.id).content == data


def test_files_are_listed_by_pages_in_either_order(client):
    made = [upload(client, [line()]) for _ in range(5)]
    assert [file.id for file in client.files.list(limit=2)] == made[::-1]
    assert [file.id for file in client.files.list(limit=2, order="asc", purpose="batch")] == made
    page = client.files.list(limit=2, after=made[3])
    assert ([file.id for file in page.data], page.has_more) == ([made[2], made[1]], True)
    last = client.files.list(limit=2, after=made[1])
    assert ([file.id for file in last.data], last.has_more) == ([made[0]], False)
    assert client.files.list(purpose="fine-tune").data == []
    with pytest.raises(openai.BadRequestError, match="named by the batch"):
        client.files.list(purpose="batch_output")


def test_what_is_refused_is_told_in_their_envelope(client, house):
    with pytest.raises(openai.BadRequestError) as wrong:
        client.files.create(file=("in.jsonl", b"{}"), purpose="fine-tune")
    assert (wrong.value.param, wrong.value.code) == ("purpose", "invalid_value")
    assert wrong.value.type == "invalid_request_error" and "batch" in wrong.value.message
    for call in (client.files.retrieve, client.files.content):
        for name in ("file-" + "0" * 32, "file-x", "file-out-" + "0" * 32):
            with pytest.raises(openai.NotFoundError) as missing:
                call(name)
            assert missing.value.code == "file_not_found"
    with pytest.raises(openai.APIStatusError) as refused:
        client.files.delete(upload(client, [line()]))
    assert (refused.value.status_code, refused.value.code) == (405, "method_not_allowed")
    for path, status in (("/openai/v1/nothing", 404), ("/openai/v1/files?limit=0", 400)):
        answer = house.http.get(path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/json"
        assert set(answer.json()) == {"error"}
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_form_without_a_purpose_or_a_file_is_refused(house):
    path = "/openai/v1/files"
    answer = house.http.post(path, files={"file": ("a", b"{}")})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "purpose")
    answer = house.http.post(path, files={"purpose": (None, "batch")})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")
    answer = house.http.post(path, files={"file": ("a", b""), "more": (None, "x")})
    assert answer.json()["error"]["code"] == "unknown_field"


def test_a_file_over_the_limit_is_refused_while_it_comes(quiet_house):
    quiet_house.start(max_file_bytes=1000)
    try:
        with (
            open_client(quiet_house) as client,
            pytest.raises(openai.APIStatusError) as refused,
        ):
            client.files.create(file=("in.jsonl", b"x" * 2000), purpose="batch")
        assert (refused.value.status_code, refused.value.code) == (413, "too_large")
    finally:
        quiet_house.stop()


def test_models_are_told_by_name(client, house):
    house.push("digits")
    listed = {model.id: model for model in client.models.list()}
    assert set(listed) == {"vectors", "digits"}
    assert listed["digits"].object == "model" and listed["digits"].owned_by == "default"
    assert client.models.retrieve("digits") == listed["digits"]
    house.http.put("/v1/models/digits/aliases/prod", json={"version": 1}).raise_for_status()
    for name in ("digits:1", "digits@prod"):
        assert client.models.retrieve(name).id == name
    for name in ("digits:2", "none", "digits@test"):
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve(name)
    with pytest.raises(openai.BadRequestError):
        client.models.retrieve("No Name")


def test_a_key_says_who_asks_and_tenants_never_meet(client, house):
    mine = upload(client, [line()])
    with open_client(house, house.key_for("other")) as other:
        assert other.files.list().data == [] and other.models.list().data == []
        with pytest.raises(openai.NotFoundError):
            other.files.content(mine)
        theirs = upload(other, [line()])
        assert [file.id for file in other.files.list()] == [theirs]
    assert [file.id for file in client.files.list()] == [mine]


def test_an_unknown_key_is_no_key_only_where_none_is_needed(client, house):
    assert client.files.list().data == []
    house.service.keyless = False
    with pytest.raises(openai.AuthenticationError) as refused:
        client.files.list()
    assert refused.value.code == "unauthenticated"
    house.service.keyless = True
    foreign = house.http.get(
        "/openai/v1/files", headers={"authorization": "Bearer any", "host": "evil.example"}
    )
    assert (foreign.status_code, foreign.json()["error"]["code"]) == (403, "foreign_host")
