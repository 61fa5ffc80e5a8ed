"""Files appear whole or not at all, and only regular files are replaced."""

import contextlib
import hashlib
import multiprocessing
import os
import pathlib
import stat
import subprocess
import sys

import pytest

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.storage.bounded import open_hdf5, read_bounded, read_json
from nanoprune.lab.storage.files import (
    atomic_path,
    check_output,
    check_writable,
    file_sha256,
    remove_temporaries,
    write_json,
)

ROOT = pathlib.Path(__file__).parents[1]


def names(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextlib.contextmanager
def umask(value: int):
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    ("mask", "private", "expected"), [(0o022, False, 0o644), (0o077, False, 0o600), (0, True, 0o600)]
)
def test_a_file_appears_whole_with_the_usual_permissions(tmp_path, mask, private, expected):
    path = tmp_path / "new" / "file.txt"
    with umask(mask), atomic_path(path, private) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert mode(temporary) <= expected
    assert path.read_text() == "whole"
    assert mode(path) == expected
    assert names(path.parent) == ["file.txt"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail_halfway():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    inside = tmp_path / "file" / "x.txt"
    with pytest.raises(DataError, match=r"x\.txt: cannot be written"), atomic_path(inside):
        pass
    with pytest.raises(DataError, match="cannot be written to"):
        check_writable(inside)
    check_writable(tmp_path / "made")
    assert names(tmp_path / "made") == []


# What already exists


@pytest.mark.parametrize("before", [0o600, 0o640, 0o664])
def test_a_file_keeps_its_permissions_whatever_the_umask(tmp_path, before):
    """The report of an audit identifies members, so restricted permissions must be kept."""
    path = tmp_path / "a.json"
    path.write_text("{}")
    path.chmod(before)
    with umask(0o027):
        write_json({"new": 1}, path)
    assert read_json(path, "") == {"new": 1}
    assert mode(path) == before


def test_no_moment_opens_a_closed_file_to_others(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("{}")
    path.chmod(0o600)
    with umask(0), atomic_path(path) as temporary:
        assert mode(temporary) == 0o600


@pytest.mark.parametrize("there", [True, False], ids=["its target is there", "its target is not"])
def test_a_link_stays_a_link_and_what_it_points_to_is_new(tmp_path, there):
    (tmp_path / "store").mkdir()
    target, link = tmp_path / "store" / "a.json", tmp_path / "a.json"
    if there:
        target.write_text("old")
    link.symlink_to("store/a.json")
    write_json([1], link)
    assert link.is_symlink()
    assert read_json(target, "") == [1]
    assert (names(tmp_path), names(tmp_path / "store")) == (["a.json", "store"], ["a.json"])


def special(kind: str, path: pathlib.Path) -> None:
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "link to a device":
            path.symlink_to("/dev/null")
        case "device":
            try:
                os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
            except PermissionError:
                pytest.skip("only root makes devices")
        case "loop":
            path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("pipe", "is a pipe"),
        ("folder", "is a folder"),
        ("device", "is a device"),
        ("link to a device", "is a device"),
        ("loop", "is a symbolic link to itself"),
    ],
)
def test_only_regular_files_are_replaced_or_read(tmp_path, kind, found):
    path = tmp_path / "out.h5"
    special(kind, path)
    before = os.lstat(path)
    for write in (lambda: write_json({}, path), lambda: check_output(path)):
        with pytest.raises(ArgumentError, match=rf"out\.h5: {found}"):
            write()
    now = os.lstat(path)
    assert (now.st_ino, now.st_mode) == (before.st_ino, before.st_mode)
    assert names(tmp_path) == ["out.h5"]
    reads = (lambda: read_bounded(path, 10), lambda: file_sha256(path), lambda: open_hdf5(path))
    for read in reads[:2] if kind == "loop" else reads:  # h5py says itself that a loop cannot be opened
        with pytest.raises(DataError, match=r"out\.h5: cannot be read"):
            read()


def test_a_name_as_long_as_the_file_system_takes_is_written(tmp_path):
    for suffix in (".json", f".{'s' * 200}"):
        path = tmp_path / ("r" * (255 - len(suffix)) + suffix)
        check_output(path)
        write_json(1, path)
        assert read_json(path, "") == 1
    with pytest.raises(ArgumentError, match="file names have at most 255 bytes"):
        check_output(tmp_path / ("é" * 126 + ".json"))  # 131 characters, 257 bytes


def test_a_name_under_which_no_command_would_read_it_is_refused(tmp_path):
    kinds = {".npz": "predictions"}
    for name in ("model.npz", "MODEL.NPZ"):
        with pytest.raises(ArgumentError, match=r"\.npz is read as predictions; give the file another suffix"):
            check_output(tmp_path / "new" / name, kinds)
    assert names(tmp_path) == []
    check_output(tmp_path / "model.h5", kinds)
    check_output(tmp_path / "model", kinds)


def test_hashes_are_those_of_hashlib(tmp_path):
    (tmp_path / "x").write_bytes(b"abc" * 10**6)
    assert file_sha256(tmp_path / "x") == hashlib.sha256(b"abc" * 10**6).hexdigest()
    with pytest.raises(DataError, match="nowhere: cannot be read"):
        file_sha256(tmp_path / "nowhere")


# What killed processes leave


def leave_half_written(folder: pathlib.Path) -> None:
    script = (
        "import os, sys; from nanoprune.lab.storage.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as path: path.write_text('half'); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", script, folder / "out.json"], cwd=ROOT)
    assert killed.returncode == -9


def test_leftovers_of_a_killed_process_are_removed_and_no_other_files(tmp_path):
    leave_half_written(tmp_path)
    assert len(names(tmp_path)) == 1
    users = [".notes.txt.abcdefgh.txt", ".nanoprune", ".nanoprune-notes", ".results.json.a1b2c3d4.json", "results.json"]
    for name in users:
        (tmp_path / name).write_text("a user's")
    check_writable(tmp_path)
    assert names(tmp_path) == sorted(users)


def test_a_file_that_another_process_is_writing_is_not_removed(tmp_path):
    with atomic_path(tmp_path / "out.txt") as temporary:
        temporary.write_text("whole")
        other = multiprocessing.get_context("spawn").Process(target=remove_temporaries, args=(tmp_path,))
        other.start()
        other.join()
        assert other.exitcode == 0
    assert (tmp_path / "out.txt").read_text() == "whole"


def test_a_link_with_the_name_of_a_temporary_file_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("a user's")
    (tmp_path / f".nanoprune-{'0' * 16}.txt").symlink_to("mine")
    remove_temporaries(tmp_path)
    assert (tmp_path / "mine").read_text() == "a user's"


def test_a_file_and_then_its_name_are_flushed(tmp_path, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace

    def flush(handle: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("rename"), replace(a, b)))
    write_json(1, tmp_path / "x.json")
    assert calls == ["file", "rename", "folder"]
