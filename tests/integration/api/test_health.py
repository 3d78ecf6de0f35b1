"""Liveness, readiness, figures and the documentation page."""

from __future__ import annotations

import re

from storage.records.errors import ObjectsUnavailable


def test_readiness_names_each_part(house):
    answer = house.http.get("/readyz")
    parts = answer.json()["parts"]
    assert answer.status_code == 200 and answer.json()["ready"]
    assert parts["database"] == parts["objects"] == parts["broker"] == {"status": "ok"}
    assert parts["workers"]["status"] == "degraded"
    house.session()
    assert house.http.get("/readyz").json()["parts"]["workers"] == {"status": "ok", "live": 1}


def test_a_broker_that_is_down_degrades_and_nothing_more(house):
    house.broker_trouble = lambda: "the broker does not answer"
    answer = house.http.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["parts"]["broker"]["status"] == "degraded"
    assert house.submit()["state"] == "queued"


def test_an_object_store_that_is_down_makes_it_unready_and_large_inputs_503(house, monkeypatch):
    def down(*_):
        raise ObjectsUnavailable("the object store does not answer")

    monkeypatch.setattr(house.objects, "probe", down)
    monkeypatch.setattr(house.objects, "put", down)
    answer = house.http.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (503, False)
    assert answer.json()["parts"]["objects"]["status"] == "down"
    assert house.submit()["state"] == "queued"  # small inputs need no object store
    items = [{"tensor": [n + 0.123456789] * 4} for n in range(1000)]
    large = {"model": "vectors", "input": {"items": items}}
    refused = house.http.post("/v1/jobs", json=large)
    assert (refused.status_code, refused.json()["code"]) == (503, "objects_unavailable")
    assert int(refused.headers["retry-after"]) >= 1
    assert len(house.http.get("/v1/jobs").json()["data"]) == 1


def test_figures_count_by_route(house):
    house.submit()
    house.http.get("/v1/jobs/nope")
    house.http.get("/nowhere/at/all")
    text = house.http.get("/metrics").text

    def figure(pattern):
        return float(re.search(rf"^{pattern} (\S+)$", text, re.M)[1])

    assert figure("forebay_jobs_submitted_total") == 1
    model = 'class="online",model="vectors:1",pool="default",tenant="default"'
    assert figure(rf"forebay_backlog_jobs\{{{model}\}}") == 1
    route = 'method="GET",route="/v1/jobs/{id}",status="404"'
    assert figure(re.escape(f"forebay_http_requests_total{{{route}}}")) == 1
    assert 'route="none"' in text and "nowhere" not in text


def test_the_documentation_needs_no_network(house):
    page = house.http.get("/docs")
    assert (
        page.status_code == 200 and "default-src 'none'" in page.headers["content-security-policy"]
    )
    assert not re.search(r"(https?:)?//[a-z]", page.text.replace("data:,", ""))
    api = house.http.get("/openapi.json").json()
    assert api["openapi"].startswith("3.1")
    assert house.http.get("/").headers["location"] == "/docs"


def test_the_openapi_is_valid_and_lists_every_route(house):
    from openapi_spec_validator import validate

    api = house.http.get("/openapi.json").json()
    validate(api)
    listed = {(m.upper(), p) for p, methods in api["paths"].items() for m in methods}
    served = {
        (method, route.path)
        for route in house.app.routes
        if getattr(route, "include_in_schema", False)
        for method in route.methods - {"HEAD"}
    }
    assert listed >= {("POST", "/v1/jobs"), ("GET", "/v1/groups/{id}/results")}
    assert not {path for _, path in served} - {path for _, path in listed}


def test_real_answers_fit_their_schemas(house):
    import jsonschema_rs

    api = house.http.get("/openapi.json").json()

    def fits(path, method, answer):
        said = api["paths"][path][method]["responses"]
        response = said.get(str(answer.status_code), said["default"])
        media_type = answer.headers["content-type"].split(";")[0]
        schema = response["content"][media_type]["schema"]
        root = {**schema, "components": api["components"]}
        jsonschema_rs.validator_for(root).validate(answer.json())

    job = {"model": "vectors", "input": {"tensor": [1, 2, 3, 4]}}
    first = house.http.post("/v1/jobs", json=job)
    fits("/v1/jobs", "post", first)
    many = house.http.post("/v1/jobs/many", json={"jobs": [job, {**job, "custom_id": "a"}]})
    fits("/v1/jobs/many", "post", many)
    fits("/v1/jobs/many", "post", house.http.post("/v1/jobs/many", json={"jobs": [job, {}]}))
    house.work([first.json()["id"]])
    fits("/v1/jobs/{id}", "get", house.http.get(f"/v1/jobs/{first.json()['id']}"))
    fits("/v1/jobs/{id}/result", "get", house.http.get(f"/v1/jobs/{first.json()['id']}/result"))
    fits("/v1/jobs/{id}", "get", house.http.get("/v1/jobs/nope"))
    fits("/v1/jobs", "get", house.http.get("/v1/jobs"))
    fits("/v1/groups/{id}", "get", house.http.get(f"/v1/groups/{many.json()['group']}"))
    fits("/v1/models", "get", house.http.get("/v1/models"))
    fits("/v1/models/{name}", "get", house.http.get("/v1/models/vectors"))
    version = house.http.get("/v1/models/vectors/versions/1")
    fits("/v1/models/{name}/versions/{version}", "get", version)
    alias = house.http.put("/v1/models/vectors/aliases/prod", json={"version": 1})
    fits("/v1/models/{name}/aliases/{alias}", "put", alias)
    file = house.http.post("/v1/files", files={"file": ("a", b"x")})
    fits("/v1/files", "post", file)
    fits("/readyz", "get", house.http.get("/readyz"))
