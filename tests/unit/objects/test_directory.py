"""Objects in a folder: nothing half-written shows, nothing escapes, what is stored stays."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from storage.objects.directory import STAGING, STALE_AFTER_S, DirectoryObjects
from storage.records.errors import (
    Conflict,
    NotFound,
    ObjectsMisconfigured,
    ObjectsUnavailable,
)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "objects"


@pytest.fixture
def objects(root):
    return DirectoryObjects(root)


def fails_with(monkeypatch, name, number, *, only=lambda *args, **kwargs: True):
    real = getattr(os, name)

    def call(*args, **kwargs):
        if only(*args, **kwargs):
            raise OSError(number, os.strerror(number))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, name, call)


def path_of(fd):
    return str(Path(f"/proc/self/fd/{fd}").readlink())


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_a_put_is_on_the_disk_before_it_returns(objects, root, monkeypatch):
    done = []

    def record(name, describe):
        real = getattr(os, name)

        def call(*args, **kwargs):
            done.append((name, describe(*args, **kwargs)))
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, call)

    def below(fd):
        return os.path.relpath(path_of(fd), root)

    record("fsync", below)
    record("link", lambda source, target, **kwargs: target)
    record("mkdir", lambda name, *args, **kwargs: str(name))
    objects.put("a/b/c", b"1")

    def at(entry):
        return done.index(entry)

    (staged,) = [name for verb, name in done if verb == "fsync" and "/" in name and STAGING in name]
    assert at(("fsync", staged)) < at(("link", "c")) < at(("fsync", "a/b"))
    assert done[-1] == ("fsync", "a/b")
    assert at(("mkdir", "b")) < at(("fsync", "a")) < at(("link", "c"))
    assert at(("mkdir", str(root))) < at(("fsync", ".."))
    assert ("fsync", ".") in done


def test_a_half_written_object_is_never_seen(objects, root, monkeypatch):
    objects.probe()
    seen = []
    real = os.fsync

    def look(fd):
        if STAGING in path_of(fd):
            seen.append((objects.exists("a"), files_in(root)))
        real(fd)

    monkeypatch.setattr(os, "fsync", look)
    objects.put("a", b"1")
    assert len(seen) == 1 and seen[0][0] is False
    assert [name for name in seen[0][1] if not name.startswith(STAGING)] == []
    assert files_in(root) == ["a"]


def test_a_writer_killed_in_the_middle_leaves_no_object(root):
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from storage.objects.directory import DirectoryObjects\n"
        "os.link = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"
        "DirectoryObjects(Path(sys.argv[1])).put('a', b'1')\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(root)], timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    objects = DirectoryObjects(root)
    assert not objects.exists("a")
    assert [name.startswith(STAGING) for name in files_in(root)] == [True]
    objects.put("a", b"2")
    assert objects.get("a") == b"2"


def test_what_dead_writers_left_goes_after_a_day_and_not_before(root):
    DirectoryObjects(root).probe()
    young, old = root / STAGING / "young", root / STAGING / "old"
    for path in (young, old):
        path.write_bytes(b"left")
    written_s = old.stat().st_mtime - STALE_AFTER_S - 60
    os.utime(old, (written_s, written_s))
    DirectoryObjects(root).put("a", b"1")
    assert files_in(root) == [f"{STAGING}/young", "a"]


@pytest.mark.parametrize("planted", ["folder", "file", "dangling", "loop"])
def test_a_symbolic_link_leads_nowhere(objects, root, tmp_path, planted):
    objects.probe()
    outside = tmp_path / "outside"
    outside.mkdir()
    secret = outside / "secret"
    secret.write_bytes(b"secret")
    link, key = root / "link", "link"
    if planted == "folder":
        link.symlink_to(outside)
        key = "link/secret"
    else:
        link.symlink_to({"file": secret, "dangling": outside / "no", "loop": link}[planted])
    for read in (objects.get, objects.size, lambda key: objects.get_range(key, 0, 1)):
        with pytest.raises(NotFound):
            read(key)
    assert not objects.exists(key)
    for name in (key, "link/new"):
        with pytest.raises(Conflict):
            objects.put(name, b"overwritten")
    objects.delete(["link/secret"])
    assert secret.read_bytes() == b"secret"
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_the_root_itself_may_be_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "objects").symlink_to(tmp_path / "disk")
    objects = DirectoryObjects(tmp_path / "objects")
    objects.put("a/b", b"1")
    assert (tmp_path / "disk" / "a" / "b").read_bytes() == b"1"


def test_folders_and_pipes_are_no_objects(objects, root):
    objects.put("folder/a", b"1")
    os.mkfifo(root / "pipe")
    for key in ("folder", "pipe", "folder/a/below"):
        with pytest.raises(NotFound):
            objects.get(key)
        assert not objects.exists(key)
    for key in ("folder", "folder/a/below"):
        with pytest.raises(Conflict):
            objects.put(key, b"2")
    objects.delete(["folder"])
    assert objects.get("folder/a") == b"1"


def test_a_full_disk_is_an_outage_that_leaves_nothing(objects, root, monkeypatch):
    objects.probe()
    fails_with(monkeypatch, "write", errno.ENOSPC)
    with pytest.raises(ObjectsUnavailable) as caught:
        objects.put("a", b"1")
    monkeypatch.undo()
    assert caught.value.retryable and "room" in str(caught.value) and str(root) in str(caught.value)
    assert files_in(root) == []
    objects.put("a", b"1")


def test_a_folder_that_cannot_be_made_durable_takes_the_object_back(objects, root, monkeypatch):
    objects.put("f/other", b"1")
    fails_with(
        monkeypatch,
        "fsync",
        errno.EIO,
        only=lambda fd: path_of(fd).endswith("/f"),
    )
    with pytest.raises(ObjectsUnavailable):
        objects.put("f/a", b"1")
    monkeypatch.undo()
    assert not objects.exists("f/a")
    objects.put("f/a", b"1")


@pytest.mark.parametrize(
    ("number", "advice"), [(errno.EACCES, "user"), (errno.EROFS, "write"), (errno.EPERM, "user")]
)
def test_refused_access_says_who_must_change_what(objects, monkeypatch, number, advice):
    objects.probe()
    fails_with(monkeypatch, "open", number)
    with pytest.raises(ObjectsMisconfigured) as caught:
        objects.probe()
    assert advice in str(caught.value) and not caught.value.retryable


def test_a_file_system_without_hard_links_is_refused_by_the_probe(objects, monkeypatch):
    fails_with(monkeypatch, "link", errno.EOPNOTSUPP)
    with pytest.raises(ObjectsMisconfigured, match="hard links"):
        objects.probe()


def test_a_disk_that_is_away_never_looks_like_lost_objects(objects, root):
    objects.put("a", b"1")
    root.rename(root.with_name("unmounted"))
    reads = [
        lambda: objects.get("a"),
        lambda: objects.exists("a"),
        lambda: objects.size("a"),
        lambda: objects.delete(["a"]),
    ]
    for read in reads:
        with pytest.raises(ObjectsUnavailable):
            read()
    root.with_name("unmounted").rename(root)
    assert objects.get("a") == b"1"


def test_a_root_below_a_missing_folder_is_not_made(tmp_path):
    objects = DirectoryObjects(tmp_path / "no" / "objects")
    with pytest.raises(ObjectsMisconfigured, match="mount"):
        objects.probe()
    assert list(tmp_path.iterdir()) == []


def test_a_new_root_is_for_its_owner_alone(objects, root):
    objects.put("a", b"1")
    assert root.stat().st_mode & 0o077 == 0


def test_open_files_do_not_pile_up(objects):
    objects.put("a/b", b"1" * 1000)
    before = open_files()
    for number in range(50):
        objects.get("a/b")
        objects.exists("no/such")
        objects.put(f"a/{number}", b"1")
        with pytest.raises(Conflict):
            objects.put(f"a/{number}", b"1")
        objects.delete([f"a/{number}"])
    assert open_files() == before


def test_a_list_shows_neither_links_nor_hidden_files_nor_what_is_no_file(objects, root, tmp_path):
    objects.put("a/seen", b"1")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"x")
    (root / "a" / "link").symlink_to(tmp_path / "outside" / "secret")
    (root / "folder-link").symlink_to(tmp_path / "outside")
    (root / "a" / ".hidden").write_bytes(b"x")
    (root / ".staging" / "half").write_bytes(b"x")
    (root / "a" / "empty-folder").mkdir()
    os.mkfifo(root / "a" / "pipe")
    (root / "a" / "back\\slash").write_bytes(b"x")
    (root / os.fsdecode(b"not-utf8-\xff")).write_bytes(b"x")
    assert [one.key for one in objects.list("")] == ["a/seen"]
    assert list(objects.list("folder-link/")) == list(objects.list("a/link/")) == []


def test_a_file_that_was_changed_from_outside_has_another_etag(objects, root):
    objects.put("a", b"one")
    before = objects.info("a")
    os.utime(root / "a", ns=(1, 1))
    (root / "a").write_bytes(b"two")
    after = objects.info("a")
    assert before.etag != after.etag and list(objects.list("")) == [after]


def test_a_list_that_is_left_unfinished_keeps_no_file_open(objects):
    for n in range(20):
        objects.put(f"f{n}/x", b"1")
    before = open_files()
    listing = objects.list("")
    next(listing)
    assert open_files() == before
    objects.delete([f"f{n}/x" for n in range(20)])
    assert list(listing) == []  # gone by now


def test_a_folder_that_is_not_there_is_never_taken_for_an_empty_one(objects):
    with pytest.raises(ObjectsUnavailable):
        list(objects.list(""))
