"""Who may come in, and that whatever goes wrong is said in one way."""

from __future__ import annotations

import socket

import pytest

from producers.api import auth
from producers.api.app import ApiServer, create_app
from producers.api.parts import ApiParts
from tests.support.waiting import wait_until

JOB = {"model": "vectors", "input": {"tensor": [1, 2, 3, 4]}}


def raw(house, text: bytes, *, hang_up: bool = False) -> bytes:
    host, port = house.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as caller:
        caller.sendall(text)
        if hang_up:
            caller.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := caller.recv(65536):
            answer += piece
    return answer


def test_a_key_names_its_tenant_and_only_its_hash_is_kept(house):
    key = house.key_for("acme")
    house.push(tenant="acme")
    with house.client(key) as acme:
        job = house.submit(acme)
    with house.database.read() as tx:
        assert tx.jobs.get("acme", job["id"]) is not None
        assert tx.jobs.get("default", job["id"]) is None
        stored = [entry.prefix for entry in tx.tenants.keys("acme")]
    assert key.startswith(stored[0]) and len(stored[0]) < 16


def test_a_wrong_key_is_refused_even_on_loopback(house):
    for header in ("Bearer nobody-knows-this", "Basic YTpi", "Bearer", "Bearer a b", "bearer é"):
        answer = house.http.get("/v1/jobs", headers={"Authorization": header.encode("latin-1")})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), header
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_revoked_key_is_refused_soon(house, monkeypatch):
    monkeypatch.setattr(auth, "KNOWN_TTL_S", 0.3)
    key = house.key_for("acme")
    with house.client(key) as acme:
        assert acme.get("/v1/jobs").status_code == 200
        with house.database.begin() as tx:
            tx.tenants.revoke(tx.tenants.keys("acme")[0].id)
        wait_until(lambda: acme.get("/v1/jobs").status_code == 401, 10, every_s=0.2)


def test_keyless_needs_a_loopback_name_and_no_proxy(house):
    for headers, status, code in (
        ({"Host": "evil.example"}, 403, "foreign_host"),
        ({"Host": "127.0.0.1.evil.example"}, 403, "foreign_host"),
        ({"X-Forwarded-For": "10.0.0.1"}, 401, "unauthenticated"),
        ({"Forwarded": "for=10.0.0.1"}, 401, "unauthenticated"),
    ):
        answer = house.http.get("/v1/jobs", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code), headers
    for host in ("localhost", "localhost:80", "[::1]:8080", "127.0.0.1"):
        assert house.http.get("/v1/jobs", headers={"Host": host}).status_code == 200


def test_keyless_changes_come_from_no_other_origin(house):
    job = house.submit()
    path = f"/v1/jobs/{job['id']}/cancel"
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
    ):
        answer = house.http.post(path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "cross_site"), headers
    same = {"Origin": house.url, "Sec-Fetch-Site": "same-origin"}
    assert house.http.post(path, headers=same).json()["state"] == "cancelled"


def test_a_service_that_listens_elsewhere_asks_for_a_key(house):
    house.service.keyless = False  # what ApiServer sets for any host but loopback
    assert house.http.get("/v1/jobs").status_code == 401
    with house.client(house.key_for("acme")) as acme:
        assert acme.get("/v1/jobs").status_code == 200
    assert house.http.get("/healthz").status_code == 200


def test_keyless_is_off_unless_serving_decides_it():
    assert ApiParts.__dataclass_fields__["keyless"].default is False


def test_only_loopback_hosts_are_keyless(quiet_house):
    hosts = {"127.0.0.1": True, "::1": True, "localhost": True}
    hosts |= {"0.0.0.0": False, "::": False, "10.0.0.1": False}
    for host, keyless in hosts.items():
        app = create_app(ApiParts(quiet_house.database, quiet_house.objects))
        ApiServer(app, host, 0)
        assert app.state.service.keyless is keyless, host


def test_every_refusal_is_a_problem_with_a_code(house):
    for method, path, status, code in (
        ("GET", "/nowhere", 404, "no_such_route"),
        ("GET", "/v1", 404, "no_such_route"),
        ("GET", "/v1/jobs/", 404, None),
        ("DELETE", "/v1/jobs", 405, "method_not_allowed"),
        ("PATCH", "/v1/models/vectors", 405, "method_not_allowed"),
        ("GET", "/v1/jobs/not-an-id", 404, "job_not_found"),
        ("GET", "/v1/jobs/%00", 404, "job_not_found"),
        ("GET", "/v1/groups/0190AAAA-0000-7000-8000-000000000000", 404, "group_not_found"),
        ("GET", "/v1/files/x", 404, "file_not_found"),
        ("GET", "/v1/models/nobody", 404, "model_not_found"),
        ("GET", "/v1/models/%F0%9F%98%80", 400, "invalid_name"),
        ("GET", "/v1/models/vectors/versions/x", 404, "version_not_found"),
        ("GET", "/v1/models/vectors/versions/99999999999999999999", 404, "version_not_found"),
        ("GET", "/v1/jobs?limit=0", 400, "out_of_range"),
        ("GET", "/v1/jobs?limit=1&limit=2", 400, "repeated_parameter"),
        ("GET", "/v1/jobs?nope=1", 400, "unknown_parameter"),
    ):
        answer = house.http.request(method, path)
        assert answer.status_code == status, (path, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert {"type", "title", "status", "detail", "code"} <= set(problem)
        assert code is None or problem["code"] == code, path
    allow = house.http.delete("/v1/jobs").headers["allow"]
    assert {"GET", "POST"} <= set(allow.split(", "))


def test_the_unforeseen_is_an_incident_without_a_trace(house, caplog):
    def explode(*_):
        raise RuntimeError("a secret detail")

    house.service.read = explode
    answer = house.http.get("/v1/jobs")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text and "Traceback" not in answer.text
    assert answer.json()["incident"] in caplog.text and "a secret detail" in caplog.text


def test_broken_http_harms_nobody(house):
    job = b'{"model":"vectors","input":{"tensor":[1,2,3,4]}}'
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += b"Connection: close\r\n"
    length = b"Content-Length: %d\r\n\r\n"
    cut = raw(house, head + length % 5000 + job, hang_up=True)  # says more than it sends
    assert b" 202 " not in cut and b" 500 " not in cut
    more = raw(house, head + length % (len(job) - 5) + job)
    assert b" 400 " in more  # says less: the rest is not its body
    assert b" 400 " in raw(house, head + b"Content-Length: -1\r\n\r\n" + job)
    assert b" 400 " in raw(house, head + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n" + job)
    assert b" 413 " in raw(house, head + length % (1 << 40) + job)
    assert b" 400 " in raw(house, b"\x16\x03\x01\x02\x00rubbish\r\n\r\n")
    assert house.http.get("/v1/jobs").json()["data"] == []
    assert house.submit()["state"] == "queued"


def test_an_answered_body_without_end_is_cut_off(house):
    host, port = house.url.removeprefix("http://").split(":")
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    piece = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as caller:
        caller.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                caller.sendall(piece)
    assert house.submit()["state"] == "queued"


def test_compressed_bodies_are_refused_rather_than_unpacked(house):
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    answer = house.http.post("/v1/jobs", content=b"\x1f\x8b", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_idempotency_keys_are_checked(house):
    for key in ("", "a b", "k" * 256, "\u00e9"):
        headers = [(b"Idempotency-Key", key.encode("latin-1"))]
        answer = house.http.post("/v1/jobs", json=JOB, headers=headers)
        assert (answer.status_code, answer.json()["field"]) == (400, "Idempotency-Key"), key
