"""The short way to a handler: the framework's routes, all of them, and nothing else."""

from __future__ import annotations

from typing import cast

from fastapi.routing import APIRoute
from starlette.routing import Match

from producers.api.app import create_app
from producers.api.front import Front
from producers.api.parts import ApiParts
from storage.database import Database
from storage.objects import Objects

SAMPLES = ("x", "many", "0190aaaa-0000-7000-8000-000000000000", "é", "a b")


def test_it_finds_what_the_framework_finds():
    database = Database.open("sqlite:////nowhere/never.db")
    app = create_app(ApiParts(database, cast(Objects, None)))
    front = Front(app)
    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    paths = {
        "/".join(sample if part[:1] == "{" else part for part in route.path.split("/"))
        for route in routes
        for sample in SAMPLES
    }
    paths |= {path + "/" for path in paths} | {"", "/", "//", "/v1/jobs//result", "/v1/nobody"}
    for path in sorted(paths):
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "BREW"):
            scope = {"type": "http", "method": method, "path": path}
            theirs = None
            for route in routes:
                match, found = route.matches(dict(scope))
                if match is Match.FULL:
                    theirs = route, found["path_params"]
                    break
            ours = front.find(method, path)
            assert (ours and (ours[0].route, dict(ours[1]))) == theirs, (method, path)
    database.close()
