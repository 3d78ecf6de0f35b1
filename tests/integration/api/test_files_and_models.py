"""Uploads: files and model versions."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.archives import archive, input_layer, layer, sequential
from tests.support.waiting import wait_until


def keras(width: int = 4, *layers) -> bytes:
    dense = layers or (layer("Dense", name="d", units=2),)
    return archive(sequential(input_layer("x", (None, width)), *dense)).getvalue()


def push(house, name="digits", content=None, options=None, client=None):
    data = {} if options is None else {"options": options}
    files = {"file": ("m.keras", keras() if content is None else content)}
    return (client or house.http).post(f"/v1/models/{name}/versions", files=files, data=data)


def leftovers() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob("forebay-upload-*"))


def test_a_file_comes_back_byte_for_byte(house):
    content = os.urandom(2_500_000)
    name = 'wei\u00df "x".bin'
    files = {"file": (f"../../{name}", content, "application/x-thing")}
    answer = house.http.post("/v1/files", files=files)
    assert answer.status_code == 201
    file = answer.json()
    assert file["digest"] == hashlib.sha256(content).hexdigest()
    assert file["size_bytes"] == len(content) and "/" not in file["filename"]
    assert file["uri"] == f"forebay://files/{file['id']}"
    assert house.http.get(answer.headers["location"]).json() == file
    back = house.http.get(f"/v1/files/{file['id']}/content")
    assert back.content == content
    assert back.headers["content-disposition"].startswith("attachment")
    assert back.headers["x-content-type-options"] == "nosniff"
    job = house.submit(input={"ref": file["uri"]})
    assert job["state"] == "queued"
    wait_until(lambda: not leftovers(), what="temporary files to go")


def test_an_empty_file_is_a_file(house):
    file = house.http.post("/v1/files", files={"file": ("empty", b"")}).json()
    assert house.http.get(f"/v1/files/{file['id']}/content").content == b""


def test_a_wrong_upload_is_refused(house):
    def post(code, status=400, **kwargs):
        answer = house.http.post("/v1/files", **kwargs)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text

    form = {"content-type": "multipart/form-data; boundary=b"}
    post("missing_field", content=b"--b--\r\n", headers=form)
    post("unknown_field", files={"other": ("a", b"x")})
    post("unknown_field", files=[("file", ("a", b"x")), ("file", ("b", b"y"))])
    post("unknown_field", files={"file": ("a", b"x")}, data={"options": "{}"})
    post("unsupported_media_type", 415, json={})
    post("invalid_multipart", content=b"rubbish", headers=form)
    cut = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhello'
    post("invalid_multipart", content=cut, headers=form)
    post("invalid_multipart", content=b"", headers={"content-type": "multipart/form-data"})
    wait_until(lambda: not leftovers(), what="temporary files to go")


def test_an_upload_over_its_limit_is_413(quiet_house):
    house = quiet_house
    house.start(max_file_bytes=1_000_000, max_model_bytes=100)
    try:
        exact = house.http.post("/v1/files", files={"file": ("a", bytes(1_000_000))})
        assert exact.status_code == 201
        for size in (1_000_001, 5_000_000):
            over = house.http.post("/v1/files", files={"file": ("a", io.BytesIO(bytes(size)))})
            assert (over.status_code, over.json()["code"]) == (413, "too_large")
        assert push(house).status_code == 413
        wait_until(lambda: not leftovers(), what="temporary files to go")
    finally:
        house.stop()


def test_a_pushed_model_can_be_used_at_once(house):
    options = '{"labels": ["a", "b"], "top_k": 1}'
    answer = push(house, options=options)
    assert answer.status_code == 201
    version = answer.json()
    assert (version["name"], version["version"], version["state"]) == ("digits", 1, "pending")
    assert version["digest"] == hashlib.sha256(keras()).hexdigest()
    assert version["signature"]["labels"] == ["a", "b"]
    read = house.http.get(answer.headers["location"]).json()
    assert {name: read[name] for name in version} == version  # and what was measured beside it
    assert house.submit(model="digits")["model"] == "digits:1"
    model = house.http.get("/v1/models/digits").json()
    assert model["versions"] == [version] and model["latest_version"] == 1


def test_the_same_push_again_is_the_same_version(house):
    first = push(house).json()
    again = push(house)
    assert (again.status_code, again.json()) == (200, first)
    other = push(house, options='{"labels": ["a", "b"]}')
    assert (other.status_code, other.json()["version"]) == (201, 2)
    back = push(house)  # the bytes of an older version: a roll-back, so a new one
    assert (back.status_code, back.json()["version"]) == (201, 3)
    with house.database.begin() as tx:
        tx.models.mark_ready(back.json()["id"], _loaded(back.json()["signature"]))
    assert push(house).json()["version"] == 3
    broken = push(house, content=keras(5)).json()
    with house.database.begin() as tx:
        tx.models.mark_broken(broken["id"], "no")
    assert push(house, content=keras(5)).json()["version"] == 5


def _loaded(signature):
    return signature | {"outputs": [{"name": "d", "dtype": "float32", "shape": [2]}]}


def test_a_bad_model_is_refused_and_named(house):
    def refused(code, field="file", status=400, **kwargs):
        answer = push(house, **kwargs)
        found = (answer.status_code, answer.json()["code"], answer.json().get("field"))
        assert found == (status, code, field), answer.text

    refused("not_an_archive", content=b"no archive at all")
    refused("not_an_archive", content=keras()[:-30])
    lambda_layer = layer("Lambda", name="l", function="x")
    refused("refused_layer", content=keras(4, lambda_layer))
    refused("untrusted_format", content=b"\x89HDF\r\n\x1a\n" + bytes(100))
    refused("invalid_json", "options", options="{")
    refused("unknown_field", "options.lables", options='{"lables": []}')
    refused("invalid_options", "options.top_k", options='{"top_k": 3}')
    refused("invalid_name", "name", name="Bad Name")
    assert house.http.get("/v1/models/digits").status_code == 404


def test_aliases_move_atomically(house):
    push(house)
    push(house, options='{"labels": ["a", "b"]}')

    def move(version, **more):
        body = {"version": version, **more}
        return house.http.put("/v1/models/digits/aliases/prod", json=body)

    assert move(9).status_code == 404
    assert house.http.get("/v1/models/digits").json()["aliases"] == {}
    assert move(1).json()["version"] == 1
    job = house.submit(model="digits@prod")
    assert job["model"] == "digits:1"
    stale = move(2, expected=2)
    assert stale.status_code == 409
    assert move(2, expected=1).status_code == 200
    assert house.submit(model="digits@prod")["model"] == "digits:2"
    assert house.http.get(f"/v1/jobs/{job['id']}").json()["model"] == "digits:1"
    assert house.http.get("/v1/models/digits").json()["aliases"] == {"prod": 2}
    with ThreadPoolExecutor(8) as pool:
        moves = list(pool.map(lambda _: move(1, expected=2).status_code, range(8)))
    assert sorted(moves) == [200] + [409] * 7
    for body, field in (({"version": 0}, "version"), ({"verson": 1}, "verson"), ({}, "version")):
        answer = house.http.put("/v1/models/digits/aliases/prod", json=body)
        assert (answer.status_code, answer.json()["field"]) == (400, field)


def test_models_are_listed_by_name_in_pages(house):
    for name in ("b", "a", "c"):
        push(house, name=name)
    first = house.http.get("/v1/models", params={"limit": 2}).json()
    assert [model["name"] for model in first["data"]] == ["a", "b"]
    rest = house.http.get("/v1/models", params={"limit": 2, "after": first["next"]}).json()
    assert [model["name"] for model in rest["data"]] == ["c", "vectors"]
    assert not rest["has_more"] and rest["next"] is None


def test_a_foreign_tenants_model_is_unknown(house):
    push(house)
    with house.client(house.key_for("other")) as other:
        assert other.get("/v1/models/digits").status_code == 404
        assert other.get("/v1/models/digits/versions/1").status_code == 404
        assert other.get("/v1/models").json()["data"] == []
        job = {"model": "digits", "input": {"tensor": [1, 2, 3, 4]}}
        assert other.post("/v1/jobs", json=job).json()["code"] == "model_not_found"
        assert push(house, client=other).json()["version"] == 1
