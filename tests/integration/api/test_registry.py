"""Versions after they were pushed: who pushed them, what is said of them, their end, their card."""

from __future__ import annotations

import pytest

from producers.registry import push_version
from tests.integration.api.test_files_and_models import keras, push

V1 = "/v1/models/digits/versions/1"


@pytest.fixture
def ready(house):
    """``digits:1``, loaded by a worker."""
    version = push(house).json()
    with house.database.begin() as tx:
        tx.models.mark_ready(version["id"], version["signature"])
    return house


def problem(answer):
    body = answer.json()
    return answer.status_code, body["code"], body.get("field")


class TestWhoPushedIt:
    def test_without_a_key_it_was_this_machine(self, house):
        assert push(house).json()["uploader"] == "loopback"

    def test_a_key_shows_as_much_of_itself_as_keys_list_does(self, house):
        key = house.key_for("other")
        with house.client(key) as other:
            uploader = push(house, client=other).json()["uploader"]
        with house.database.read() as tx:
            keys = tx.tenants.keys()
        (shown,) = (one.prefix for one in keys if one.tenant == "other")
        assert uploader == shown and key.startswith(uploader) and len(uploader) < len(key) / 2

    def test_the_operator_is_called_so(self, house, tmp_path):
        file = tmp_path / "m.keras"
        file.write_bytes(keras())
        parts = (house.database, house.objects, "default", "digits", file)
        version = push_version(*parts, trusted=True, licence="MIT", notes="n").version
        assert (version.uploader, version.licence, version.notes) == ("operator", "MIT", "n")

    def test_licence_and_notes_come_beside_the_file(self, house):
        said = {"licence": "Apache-2.0", "notes": "of June\nwith größe"}
        files = {"file": ("m.keras", keras())}
        answer = house.http.post("/v1/models/digits/versions", files=files, data=said)
        assert answer.status_code == 201
        for shown in (answer.json(), house.http.get(V1).json()):
            assert {name: shown[name] for name in said} == said
        again = push(house)
        assert (again.status_code, again.json()["licence"]) == (200, "Apache-2.0")

    @pytest.mark.parametrize(
        ("said", "field"),
        [
            ({"licence": "x" * 201}, "licence"),
            ({"licence": "a\nb"}, "licence"),
            ({"notes": "x" * 4001}, "notes"),
            ({"notes": "\x00"}, "notes"),
            ({"notes": b"\xff\xfe"}, "notes"),
        ],
    )
    def test_what_cannot_be_said_is_refused(self, house, said, field):
        files = {"file": ("m.keras", keras())}
        answer = house.http.post("/v1/models/digits/versions", files=files, data=said)
        assert problem(answer) == (400, "invalid_value", field)
        assert house.http.get("/v1/models/digits").status_code == 404


class TestEditing:
    def test_what_is_said_changes_and_the_rest_stays(self, ready):
        before = ready.http.get(V1).json()
        edited = ready.http.patch(V1, json={"licence": "MIT", "notes": "a\nb"})
        assert edited.status_code == 200
        after = ready.http.get(V1).json()
        assert after == before | {"licence": "MIT", "notes": "a\nb"}
        cleared = ready.http.patch(V1, json={"licence": "", "notes": None}).json()
        assert (cleared["licence"], cleared["notes"]) == (None, "a\nb")

    def test_a_deprecated_version_serves_who_names_it(self, ready):
        other = push(ready, content=keras(5)).json()
        with ready.database.begin() as tx:
            tx.models.mark_ready(other["id"], other["signature"])
        alias = "/v1/models/digits/aliases/prod"
        assert ready.http.put(alias, json={"version": 2}).status_code == 200
        second = "/v1/models/digits/versions/2"
        assert (
            ready.http.patch(second, json={"state": "deprecated"}).json()["state"] == "deprecated"
        )
        assert ready.submit(model="digits")["model"] == "digits:1"
        for model in ("digits:2", "digits@prod"):
            job = ready.submit(model=model, input={"tensor": [1, 2, 3, 4, 5]})
            assert job["model"] == "digits:2"
        canary = ready.http.put("/v1/models/digits/aliases/canary", json={"version": 2})
        assert problem(canary) == (409, "version_deprecated", "version")
        assert ready.http.patch(second, json={"state": "ready"}).json()["state"] == "ready"
        assert ready.submit(model="digits", input={"tensor": [1] * 5})["model"] == "digits:2"

    def test_pushing_the_bytes_of_a_deprecated_version_makes_a_new_one(self, ready):
        ready.http.patch(V1, json={"state": "deprecated"})
        again = push(ready)
        assert (again.status_code, again.json()["version"]) == (201, 2)

    @pytest.mark.parametrize(
        ("body", "code", "field"),
        [
            ({"state": "deleted"}, "invalid_value", "state"),
            ({"state": 1}, "invalid_value", "state"),
            ({"notse": "x"}, "unknown_field", "notse"),
            ({"licence": 1}, "invalid_type", "licence"),
            ({"notes": "x" * 4001}, "invalid_value", "notes"),
        ],
    )
    def test_a_wrong_edit_is_refused(self, ready, body, code, field):
        assert problem(ready.http.patch(V1, json=body)) == (400, code, field)

    def test_a_pending_version_cannot_be_deprecated(self, house):
        push(house)
        answer = house.http.patch(V1, json={"state": "deprecated"})
        assert problem(answer) == (409, "version_not_ready", "state")


class TestDeleting:
    def test_a_deleted_version_is_shown_and_serves_nobody(self, ready):
        before = ready.http.get(V1).json()
        gone = ready.http.delete(V1)
        assert gone.status_code == 200
        assert (gone.json()["state"], gone.json()["made_from_it"]) == ("deleted", [])
        shown = ready.http.get(V1).json()
        assert shown == before | {"state": "deleted", "deleted_at": gone.json()["deleted_at"]}
        model = ready.http.get("/v1/models/digits").json()
        assert [one["state"] for one in model["versions"]] == ["deleted"]
        body = {"model": "digits:1", "input": {"tensor": [1, 2, 3, 4]}}
        assert problem(ready.http.post("/v1/jobs", json=body)) == (410, "version_deleted", "model")
        many = ready.http.post("/v1/jobs/many", json={"jobs": [body]})
        assert problem(many)[1] == "version_deleted"
        alias = ready.http.put("/v1/models/digits/aliases/x", json={"version": 1})
        assert problem(alias)[1] == "version_deleted"
        for edit in ({"state": "ready"}, {"notes": "x"}):
            assert problem(ready.http.patch(V1, json=edit))[:2] == (410, "version_deleted")
        assert ready.http.delete(V1).json() == gone.json(), "said again it is the same"
        assert push(ready).json()["version"] == 2

    def test_everything_that_depends_on_it_is_named(self, ready):
        ready.http.put("/v1/models/digits/aliases/prod", json={"version": 1})
        job = ready.submit(model="digits")
        answer = ready.http.delete(V1)
        assert problem(answer) == (409, "version_in_use", "version")
        assert answer.json()["errors"] == [
            {"what": "aliases", "count": 1, "names": ["prod"]},
            {"what": "queued_jobs", "count": 1},
        ]
        assert "digits@prod" in answer.json()["detail"]
        assert ready.http.get(V1).json()["state"] == "ready"
        second = push(ready, content=keras(5)).json()["version"]
        ready.http.put("/v1/models/digits/aliases/prod", json={"version": second})
        ready.work([job["id"]])
        assert ready.http.delete(V1).status_code == 200
        assert ready.http.get(f"/v1/jobs/{job['id']}/result").status_code == 200

    def test_a_job_of_a_deleted_version_cannot_be_had_again(self, ready):
        job = ready.submit(model="digits")
        ready.http.post(f"/v1/jobs/{job['id']}/cancel")
        assert ready.http.delete(V1).status_code == 200
        again = ready.http.post(f"/v1/jobs/{job['id']}/retry")
        assert problem(again)[:2] == (410, "version_deleted")

    def test_a_body_is_not_ignored(self, ready):
        answer = ready.http.request("DELETE", V1, json={"force": True})
        assert problem(answer) == (400, "unknown_field", "force")
        assert ready.http.get(V1).json()["state"] == "ready"


class TestTheCard:
    def test_it_is_told_as_json_and_as_markdown(self, ready):
        ready.http.patch(V1, json={"licence": "MIT", "notes": "<b>of June</b>"})
        ready.http.put("/v1/models/digits/aliases/prod", json={"version": 1})
        card = ready.http.get(f"{V1}/card").json()
        assert (card["model"], card["aliases"], card["licence"]) == ("digits:1", ["prod"], "MIT")
        assert card["in_use_by"]["aliases"] == ["prod"]
        assert [one["alias"] for one in card["stood_for"]] == ["prod"]
        assert card["stood_for"][0]["by"] == "loopback"
        assert "evaluations" in card["not_known"] and "licence" not in card["not_known"]
        text = ready.http.get(f"{V1}/card", params={"format": "markdown"})
        assert text.headers["content-type"] == "text/markdown; charset=utf-8"
        assert text.text.startswith("# digits:1\n") and "> \\<b\\>of June" in text.text

    def test_a_deleted_version_still_has_one(self, ready):
        ready.http.delete(V1)
        card = ready.http.get(f"{V1}/card").json()
        assert card["state"] == "deleted" and card["deleted_at"]

    def test_another_form_is_refused(self, ready):
        answer = ready.http.get(f"{V1}/card", params={"format": "html"})
        assert problem(answer) == (400, "invalid_value", "format")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("PATCH", V1, {"notes": "x"}), ("DELETE", V1, None), ("GET", f"{V1}/card", None)],
)
def test_another_tenants_version_is_not_there(ready, method, path, body):
    with ready.client(ready.key_for("rival")) as rival:
        foreign = rival.request(method, path, json=body)
        unknown = rival.request(method, path.replace("digits", "nobody"), json=body)
        assert foreign.status_code == unknown.status_code == 404
        assert foreign.json()["code"] == unknown.json()["code"] == "model_not_found"
        push(ready, client=rival)
        missing = rival.request(method, path.replace("versions/1", "versions/9"), json=body)
        assert (missing.status_code, missing.json()["code"]) == (404, "version_not_found")
    assert ready.http.get(V1).json()["notes"] is None
    assert ready.http.get(V1).json()["state"] == "ready"
