"""The rules of the house that no reviewer should have to remember."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {
    "storage": ROOT / "storage",
    "producers": ROOT / "producers",
    "workers": ROOT / "workers",
    "forebay": ROOT / "deploy" / "forebay",
}
STDLIB = sys.stdlib_module_names


def sources():
    return sorted(path for folder in OURS.values() for path in folder.rglob("*.py"))


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "deploy" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tree_of(path):
    return ast.parse(path.read_text(), str(path))


def imports_of(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            yield node.module


def test_the_floors_hold():
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def is_environ(node):
    return (
        isinstance(node, ast.Attribute)
        and node.attr in ("environ", "environb", "getenv")
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    )


def environment_reads(path):
    """Lines that look into the environment. Handing it on whole is a composition root's right."""
    tree = tree_of(path)
    hands_on = "forebay" in path.parts
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            if any(alias.name in ("environ", "environb", "getenv") for alias in node.names):
                yield node.lineno
        elif is_environ(node):
            parent = parents[node]
            writes = isinstance(parent, ast.Subscript) and isinstance(parent.ctx, ast.Store)
            writes |= isinstance(parent, ast.Attribute) and parent.attr == "setdefault"
            whole = isinstance(parent, ast.Call | ast.keyword) and node.attr == "environ"
            if not (writes or (hands_on and whole)):
                yield node.lineno


def test_the_environment_is_read_only_in_settings_modules():
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sources()
        if path.name != "settings.py"
        for line in environment_reads(path)
    ]
    assert not found, f"read these in a settings module: {found}"


@pytest.mark.parametrize(
    ("code", "caught"),
    [
        ("import os\nx = os.environ['A']", True),
        ("import os\nx = os.environ.get('A')", True),
        ("import os\nx = os.getenv('A')", True),
        ("import os\nx = 'A' in os.environ", True),
        ("from os import environ", True),
        ("import os\nos.environ['A'] = '1'", False),
        ("import os\nos.environ.setdefault('A', '1')", False),
    ],
)
def test_reading_the_environment_is_noticed(tmp_path, code, caught):
    module = tmp_path / "module.py"
    module.write_text(code)
    assert bool(list(environment_reads(module))) is caught


def test_nothing_pickles():
    """Bytes from a broker, a database or a bucket must not be able to run."""
    unsafe = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
    found = [
        (module_of(path), name)
        for path in sources()
        for name in imports_of(path)
        if name.split(".")[0] in unsafe
    ]
    assert not found


def test_the_lowest_floor_needs_only_the_standard_library():
    found = [
        (module_of(path), name)
        for path in (ROOT / "storage" / "records").rglob("*.py")
        for name in imports_of(path)
        if name.split(".")[0] not in STDLIB and not name.startswith("storage.records")
    ]
    assert not found


def test_the_client_needs_only_httpx_and_the_standard_library():
    found = [
        (module_of(path), name)
        for path in (ROOT / "producers" / "client").rglob("*.py")
        for name in imports_of(path)
        if name.split(".")[0] not in STDLIB
        and name.split(".")[0] != "httpx"
        and not name.startswith("producers.client")
    ]
    assert not found


def test_no_other_distribution_provides_our_names():
    """Our packages are flat: another ``storage`` in the environment would shadow ours or be it."""
    provided = packages_distributions()
    clashes = {
        name: others
        for name in OURS
        if (others := sorted({d for d in provided.get(name, ()) if d.lower() != "forebay"}))
    }
    assert not clashes, f"installed beside us: {clashes}"


def test_our_names_are_imported_from_here():
    for name, folder in OURS.items():
        done = subprocess.run(
            [sys.executable, "-c", f"import {name}; print({name}.__file__)"],
            capture_output=True,
            text=True,
            check=True,
            cwd="/",
        )
        assert Path(done.stdout.strip()) == folder / "__init__.py"


def test_no_folder_says_nothing_about_what_is_in_it():
    vague = {"utils", "util", "common", "helpers", "helper", "misc", "lib", "shared"}
    found = [
        str(path.relative_to(ROOT))
        for top in (*OURS.values(), ROOT / "tests")
        for path in top.rglob("*")
        if path.stem.lower() in vague
    ]
    assert not found


def test_every_module_opens_with_a_docstring():
    found = [
        str(path.relative_to(ROOT)) for path in sources() if not ast.get_docstring(tree_of(path))
    ]
    assert not found


IMPORT_EVERYTHING = """
import importlib, json, os, sys, threading

events = []
def hook(event, args):
    if event in ("socket.__new__", "socket.connect", "socket.bind", "socket.getaddrinfo",
                 "subprocess.Popen", "os.fork", "os.posix_spawn", "os.mkdir", "os.rename",
                 "os.remove", "os.putenv", "sqlite3.connect"):
        events.append(f"{event} {args!r}"[:200])
    elif event == "open" and isinstance(args[0], (str, bytes)) and any(
        letter in str(args[1] or "") for letter in "wax+"
    ):
        events.append(f"open {args[0]!r} for writing")

mine = json.loads(sys.argv[1])
outside = json.loads(sys.argv[2])
for name in outside:  # what others do when they are imported is not ours to answer for
    try:
        importlib.import_module(name)
    except ImportError:
        pass
sys.dont_write_bytecode = True
sys.addaudithook(hook)
found = {}
for name in mine:
    threads, environ, events[:] = threading.active_count(), dict(os.environ), []
    importlib.import_module(name)
    effects = list(events)
    if threading.active_count() != threads:
        effects.append("started a thread")
    if dict(os.environ) != environ:
        effects.append("changed the environment")
    if effects:
        found[name] = effects
print("FOUND" + json.dumps(found))
heavy = sorted({"tensorflow", "keras"} & set(sys.modules))
print("HEAVY" + json.dumps(heavy))
"""


def effects_of_importing(mine, outside, folder):
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EVERYTHING, json.dumps(mine), json.dumps(outside)],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    output = {
        line[:5]: json.loads(line[5:])
        for line in done.stdout.splitlines()
        if line[:5] in ("FOUND", "HEAVY")
    }
    return output["FOUND"], output["HEAVY"]


@pytest.mark.slow
def test_importing_any_of_our_modules_does_nothing():
    """No file, socket, thread, process or environment variable before somebody asks for it."""
    run_by_others = ("__main__.py", "env.py")  # Python's -m and Alembic execute these
    mine = [module_of(path) for path in sources() if path.name not in run_by_others]
    outside = sorted(
        {
            name
            for path in sources()
            for name in imports_of(path)
            if name.split(".")[0] not in OURS
            and name.split(".")[0] not in STDLIB
            and name.split(".")[0] not in ("tensorflow", "keras")
        }
    )
    effects, heavy = effects_of_importing(mine, outside, ROOT)
    assert effects == {}
    assert heavy == [], "TensorFlow is loaded when a device is started, not by an import"


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.socket().close()",
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
        "import os; os.environ['A'] = '1'",
        "open('file', 'w').close()",
        "import subprocess; subprocess.run(['true'])",
    ],
)
def test_an_import_that_does_something_is_noticed(tmp_path, code):
    (tmp_path / "noisy.py").write_text(code)
    effects, _ = effects_of_importing(["noisy"], ["subprocess", "socket"], tmp_path)
    assert effects.keys() == {"noisy"}
