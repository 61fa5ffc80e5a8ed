"""Files appear whole or not at all."""

import os

import pytest

from nanoprune.errors import DataError
from nanoprune.lab.storage.files import atomic_path, check_writable


def test_a_file_appears_whole_with_the_usual_permissions(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask
    assert list(path.parent.iterdir()) == [path]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail_halfway():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    inside = tmp_path / "file" / "x.txt"
    with pytest.raises(DataError, match=r"x\.txt: cannot be written"), atomic_path(inside):
        pass
    with pytest.raises(DataError, match="cannot be written to"):
        check_writable(inside)
    check_writable(tmp_path / "made")
    assert list((tmp_path / "made").iterdir()) == []
