"""A model that is no model, or that could harm, is refused or found broken, and says why."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest

from tests.support import zoo as animals
from tests.support.caller import Caller, only_output, tensor
from tests.support.stack import EmbeddedStack, FullStack, Stack
from tests.support.zoo import Zoo

BOMB_BYTES = 600 << 20


def not_an_archive(_: Zoo) -> bytes:
    return b"this is a letter, not a model" * 40


def truncated(zoo: Zoo) -> bytes:
    return zoo.echo.read_bytes()[:-300]


def no_config(_: Zoo) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    return out.getvalue()


def a_lambda(zoo: Zoo) -> bytes:
    return zoo.lambda_layer.read_bytes()


def a_bomb(zoo: Zoo) -> bytes:
    return animals.bomb(zoo.echo, BOMB_BYTES)


def a_foreign_class(zoo: Zoo) -> bytes:
    """An archive whose config names a function of the standard library."""
    out = io.BytesIO()
    with zipfile.ZipFile(zoo.echo) as sound, zipfile.ZipFile(out, "w") as bad:
        for name in sound.namelist():
            content = sound.read(name)
            if name == "config.json":
                config = json.loads(content)
                layer = config["config"]["layers"][1]
                layer.update(module="os", class_name="system")
                content = json.dumps(config).encode()
            bad.writestr(name, content)
    return out.getvalue()


def an_h5(_: Zoo) -> bytes:
    return b"\x89HDF\r\n\x1a\n" + bytes(2_000)


REFUSED: list[tuple[Callable[[Zoo], bytes], str]] = [
    (not_an_archive, "not_an_archive"),
    (truncated, "not_an_archive"),
    (no_config, "bad_archive"),
    (a_lambda, "refused_layer"),
    (a_foreign_class, "refused_layer"),
    (a_bomb, "archive_bomb"),
    (an_h5, "untrusted_format"),
]


@pytest.mark.parametrize(("make", "code"), REFUSED, ids=lambda x: getattr(x, "__name__", ""))
def test_it_is_refused_at_the_door(
    caller: Caller, zoo: Zoo, make: Callable[[Zoo], bytes], code: str
) -> None:
    answer = caller.http.post(
        "/v1/models/bad/versions", files={"file": ("model.keras", make(zoo), "application/zip")}
    )
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == code
    assert problem.get("field") == "file"
    assert "Traceback" not in answer.text
    assert caller.http.get("/v1/models/bad").status_code == 404, "nothing was stored"


def test_options_that_do_not_fit_are_refused_by_name(caller: Caller, zoo: Zoo) -> None:
    for options, field in (
        ({"colour": "red"}, "options.colour"),
        ({"input": "smell"}, "options.input"),
        ({"input": "image"}, "options.input"),
        ({"labels": "dark"}, "options.labels"),
    ):
        answer = caller.http.post(
            "/v1/models/bad/versions",
            files={"file": ("model.keras", zoo.pair.read_bytes())},
            data={"options": json.dumps(options)},
        )
        assert answer.status_code == 400, (options, answer.text)
        assert answer.json()["field"] == field


def test_a_version_whose_weights_do_not_fit_is_broken_and_its_jobs_fail_with_the_reason(
    caller: Caller, zoo: Zoo
) -> None:
    out = io.BytesIO()
    with (
        zipfile.ZipFile(zoo.echo) as sound,
        zipfile.ZipFile(zoo.picture) as other,
        zipfile.ZipFile(out, "w") as bad,
    ):
        for name in sound.namelist():
            source = other if name.endswith(".h5") else sound
            bad.writestr(name, source.read(name))
    caller.push("mixed_up", out.getvalue())
    early = caller.http.post("/v1/jobs", json={"model": "mixed_up:1", "input": tensor(1, 2)})
    version = caller.settle_version("mixed_up", 1)
    assert version["state"] == "broken"
    assert version["error"]
    if early.status_code == 202:  # it was pending still
        job = caller.finish(early.json()["id"])
        assert job["state"] == "failed"
        assert job["error"]["code"]
    late = caller.http.post("/v1/jobs", json={"model": "mixed_up:1", "input": tensor(1, 2)})
    assert (late.status_code, late.json()["code"]) == (422, "version_broken")
    assert only_output(caller.ask("echo", tensor(1, 2))) == [1, 2], "the worker goes on"


def test_an_artifact_that_changed_in_storage_is_never_loaded(
    stack: Stack, caller: Caller, zoo: Zoo
) -> None:
    version = caller.push("changed", _unlike_any_other(zoo.double), {"input": "tensor"})
    assert caller.settle_version("changed", 1)["state"] == "ready"
    stack.stop("up" if stack.mode == "embedded" else "worker")
    _replace_in_storage(stack, version["digest"], zoo.echo.read_bytes())
    for cached in (stack.folder / "cache").rglob(f"{version['digest']}*"):
        cached.unlink()
    stack.start_worker()
    answer = caller.http.post("/v1/jobs", json={"model": "changed:1", "input": tensor(1, 2)})
    assert answer.status_code == 202, answer.text
    job = caller.finish(answer.json()["id"])
    assert job["state"] == "failed"
    assert job["error"]["code"] == "digest_mismatch"
    assert only_output(caller.ask("echo", tensor(1, 2))) == [1, 2], "the worker goes on"


def _unlike_any_other(archive: Path) -> bytes:
    """The same model in other bytes: equal artifacts of a tenant may share one object."""
    out = io.BytesIO(archive.read_bytes())
    with zipfile.ZipFile(out, "a") as same:
        same.comment = b"to be changed"
    return out.getvalue()


def _replace_in_storage(stack: Stack, digest: str, content: bytes) -> None:
    """Write over the object that holds the artifact with this digest."""
    replaced = 0
    if isinstance(stack, EmbeddedStack):
        for path in (stack.home / "objects").rglob("*"):
            if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest:
                _write_over(path, content)
                replaced += 1
    else:
        assert isinstance(stack, FullStack)
        replaced = _replace_in_bucket(stack, digest, content)
    assert replaced, "the stored artifact was not found"


def _write_over(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def _replace_in_bucket(stack: FullStack, digest: str, content: bytes) -> int:
    environment = stack.services.environment()
    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL_S3"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
    )
    try:
        bucket = stack.services.objects_url.split("/")[2]
        replaced = 0
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for entry in page.get("Contents", ()):
                if "model" not in entry["Key"]:
                    continue
                body = client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
                if hashlib.sha256(body).hexdigest() == digest:
                    client.put_object(Bucket=bucket, Key=entry["Key"], Body=content)
                    replaced += 1
        return replaced
    finally:
        client.close()
