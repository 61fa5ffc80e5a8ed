"""Checkpoint files: states are restored to the bit; hostile files are refused before they cost much."""

import contextlib
import json
import os
import tracemalloc

import h5py
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nanoprune.errors import DataError, VersionError
from nanoprune.lab.storage.checkpoint import (
    Saved,
    Slot,
    generators_state,
    read_checkpoint,
    restore_generators,
    write_checkpoint,
)
from nanoprune.lab.storage.hdf5 import COLUMNS, Sparse, dense, packed, read_array, sparse, write_array, write_text

FLOATS = st.sampled_from([0.0, -0.0, 1.5, -2.0, np.inf, np.nan])
ARRAYS = st.one_of(
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=20), elements=FLOATS, fill=st.just(0.0)),
    hnp.arrays(bool, hnp.array_shapes(max_dims=2, max_side=20)),
    hnp.arrays(np.int64, hnp.array_shapes(max_dims=2, max_side=9), elements=st.integers(-5, 5)),
)


def bits(array):
    return array.shape, array.dtype, array.tobytes()


# --- arrays ----------------------------------------------------------------------------------------------------------


@given(array=ARRAYS)
@settings(max_examples=80)
def test_an_array_comes_back_to_the_bit_dense_or_sparse(array, tmp_path_factory):
    path = tmp_path_factory.mktemp("a") / "a.h5"
    with h5py.File(path, "w") as file:
        write_array(file, "as it is", array)
        write_array(file, "packed", packed(array), compression="gzip", shuffle=True)
        write_array(file, "sparse", sparse(array))
    with h5py.File(path) as file:
        for name in ("as it is", "packed", "sparse"):
            assert bits(dense(read_array(file, name, path), array.shape, array.dtype, name)) == bits(array)


def test_others_can_read_a_sparse_array_with_scipy():
    """The documented format, by an independent library; more than one row of 65,536, two bytes per index."""
    rng = np.random.default_rng(0)
    array = np.where(rng.random(150_000) < 0.05, rng.standard_normal(150_000), 0).astype(np.float32)
    of = sparse(array)
    assert of.indices.dtype == np.uint16
    assert of.columns == COLUMNS == 65_536
    theirs = scipy.sparse.csr_matrix((of.values, of.indices, of.indptr), shape=(3, COLUMNS)).toarray()
    np.testing.assert_array_equal(theirs.ravel()[:150_000], array)
    assert sparse(array[:256]).indices.dtype == np.uint8


def test_sparse_where_it_is_smaller_and_only_there():
    array = np.zeros(1000, np.float32)
    array[:500] = 1
    assert isinstance(packed(array), Sparse)  # 500 x (4 + 2) bytes and two pointers
    array[:800] = 1
    assert packed(array) is array


def hostile(path, write):
    with h5py.File(path, "w") as file:
        write(file)
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    try:
        with h5py.File(path) as file, pytest.raises(DataError) as error:
            dense(read_array(file, "x", path), (1,), np.float32, "x")
        assert "\n" not in str(error.value)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def contiguous(file):
    file.create_dataset("x", shape=(25_000_000_000,), dtype="f4")  # 100 GB that were never written


def chunked(file):
    file.create_dataset("x", shape=(25_000_000_000,), dtype="f4", chunks=(1000,), compression="gzip")


def large_chunks(file):
    file.create_dataset("x", shape=(10,), maxshape=(None,), dtype="f4", chunks=(900_000_000,), compression="gzip")


def packed_twice(file):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((1_000_000,))
    properties.set_deflate(9)
    properties.set_deflate(9)
    space = h5py.h5s.create_simple((1_000_000,))
    h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_FLOAT, space, properties).write(h5py.h5s.ALL, space, np.zeros(10**6))


def elsewhere(file):
    file.create_dataset("x", shape=(4,), dtype="u1", external=[("/etc/hostname", 0, 4)])


def virtual(file):
    layout = h5py.VirtualLayout((10**10,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "y", (10**10,))
    file.create_virtual_dataset("x", layout)


def linked(file):
    file["x"] = h5py.ExternalLink("/tmp/other.h5", "/y")


def linked_inside(file):
    file["y"] = np.zeros(1, np.float32)
    file["x"] = h5py.SoftLink("/y")


def objects(file):
    file.create_dataset("x", data=np.array(["text"], object), dtype=h5py.string_dtype())


def references(file):
    file.create_dataset("x", data=np.array([file.ref], object), dtype=h5py.ref_dtype)


def sparse_of(shape, indptr=(0, 1), indices=(0,), values=(1.0,), columns=65_536):
    def write(file):
        group = file.create_group("x")
        group.attrs["shape"], group.attrs["columns"] = np.array(shape, np.int64), columns
        group["indptr"], group["indices"] = np.array(indptr, np.int64), np.array(indices, np.uint16)
        group["values"] = np.array(values, np.float32)

    return write


def packed_pointers(file):
    sparse_of((1,))(file)
    del file["x/indptr"]
    file["x"].create_dataset("indptr", data=np.zeros(100_000, np.int64), compression="gzip")


HOSTILE = {
    "100 GB that were never written": contiguous,
    "100 GB in chunks": chunked,
    "chunks larger than the array": large_chunks,
    "packed twice": packed_twice,
    "another file's bytes": elsewhere,
    "a view of another file": virtual,
    "a link to another file": linked,
    "a link inside of the file": linked_inside,
    "text": objects,
    "references": references,
    "nothing": lambda file: None,
    "an empty group": lambda file: file.create_group("x"),
    "sparse, 100 GB": sparse_of((25_000_000_000,)),
    "sparse, more than an integer": sparse_of((2**62, 2**62)),
    "sparse, negative": sparse_of((-1,)),
    "sparse, an index beyond the end": sparse_of((1,), indices=(1,)),
    "sparse, an index beyond the row": sparse_of((1,), indices=(9,), columns=4),
    "sparse, twice the same index": sparse_of((1,), indptr=(0, 2), indices=(0, 0), values=(1, 2)),
    "sparse, pointers that fall": sparse_of((1,), indptr=(0, 5, 1)),
    "sparse, pointers beyond the end": sparse_of((1,), indptr=(0, 7)),
    "sparse, more values than indices": sparse_of((1,), values=(1, 2)),
    "sparse, packed pointers": packed_pointers,
    "sparse, rows of no columns": sparse_of((1,), columns=0),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_small_file_cannot_ask_for_more_than_it_holds(case, tmp_path):
    hostile(tmp_path / "x.h5", HOSTILE[case])


# --- checkpoints -----------------------------------------------------------------------------------------------------


def a_state():
    rng = np.random.default_rng(0)
    theta = np.where(rng.random((2, 300)) < 0.1, rng.standard_normal((2, 300)), 0).astype(np.float32)
    return {
        "phase": 1,
        "net": {"theta": theta, "state": np.empty((2, 0), np.float32)},
        "parts": {"mask": {"M": theta != 0}, "nothing": {}},
        "generators": generators_state([np.random.default_rng(3), np.random.default_rng(4)]),
        "status": ["running", "converged"],
    }


def same(a, b, at=""):
    if isinstance(a, dict):
        assert set(a) == set(b), at
        for name in a:
            same(a[name], b[name], f"{at}/{name}")
    elif isinstance(a, np.ndarray):
        assert bits(dense(b, a.shape, a.dtype, at)) == bits(a), at
    else:
        assert a == b, at


def test_a_state_comes_back(tmp_path):
    write_checkpoint(tmp_path / "c.h5", {"method": "prune", "shard": [0, 2]}, a_state())
    about, state = read_checkpoint(tmp_path / "c.h5")
    assert about == {"method": "prune", "shard": [0, 2]}
    same(a_state(), state)


def test_generators_resume_from_plain_integers(tmp_path):
    first = [np.random.default_rng([s, 9]) for s in range(2)]
    for generator in first:
        generator.integers(7, size=3, dtype=np.int32)  # leaves half of a 64-bit draw behind
    state = json.loads(json.dumps(generators_state(first)))
    second = [np.random.default_rng(0) for _ in range(2)]
    restore_generators(second, Saved({"g": state}, 2, "here"), "g")
    for a, b in zip(first, second, strict=True):
        assert a.integers(1000, size=50, dtype=np.int32).tolist() == b.integers(1000, size=50, dtype=np.int32).tolist()
        assert a.standard_normal() == b.standard_normal()


@pytest.mark.parametrize(
    "change",
    [
        {"bit_generator": "MT19937"},
        {"has_uint32": 2},
        {"uinteger": 2**32},
        {"uinteger": -1},
        {"state": {"state": 2**128, "inc": 1}},
        {"state": {"state": 1, "inc": 2}},
        {"state": {"state": 1.5, "inc": 1}},
        {"state": {"state": 1}},
        {"state": []},
    ],
)
def test_an_invalid_generator_state_is_refused(change):
    state = [np.random.default_rng(0).bit_generator.state | change]
    with pytest.raises(DataError, match="here: "):
        restore_generators([np.random.default_rng(0)], Saved({"g": state}, 1, "here"), "g")


def test_another_format_is_refused_with_the_version_that_wrote_it(tmp_path):
    write_checkpoint(tmp_path / "c.h5", {}, a_state())
    with h5py.File(tmp_path / "c.h5", "r+") as file:
        file.attrs["format"] = 7
        del file["nanoprune"]
        write_text(file, "nanoprune", "9.9")
    with pytest.raises(VersionError, match=r"c\.h5: format 7, this version reads 1; use nanoprune 9\.9"):
        read_checkpoint(tmp_path / "c.h5")
    with pytest.raises(VersionError):  # and is no damage, over which an older checkpoint would be taken
        Slot(tmp_path, "c", {}).load()


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_only_its_owner_may_read_a_checkpoint(tmp_path):
    """It has the state of DP-SGD's noise, with which the noise could be removed."""
    before = os.umask(0)
    try:
        slot = Slot(tmp_path, "c", {})
        slot.save(a_state())
        slot.save(a_state())
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (slot.path, slot.before)} == {0o600}


@given(data=st.data())
@settings(max_examples=60)
def test_whatever_is_done_to_a_file_it_is_refused_or_read_as_it_was(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "c.h5"
    write_checkpoint(path, {"a": 1}, a_state())
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    with contextlib.suppress(DataError):
        about, state = read_checkpoint(path)
        assert about == {"a": 1}
        same(a_state(), state)


def test_what_was_changed_by_hand_is_refused(tmp_path):
    for change in ("about", "values", "state"):
        write_checkpoint(tmp_path / "c.h5", {"a": 1}, a_state())
        with h5py.File(tmp_path / "c.h5", "r+") as file:
            if change != "state":
                text = file[change][()].decode()
                del file[change]
                write_text(file, change, text.replace("1", "2"))
            else:
                file["state/net/theta/values"][0] = 7
        with pytest.raises(DataError, match="changed since it was written"):
            read_checkpoint(tmp_path / "c.h5")


def test_values_are_checked_as_they_are_taken():
    saved = Saved({"n": 3, "flag": True, "a": np.zeros((2, 3), np.float32), "bad": np.array([[np.nan]])}, 2, "here")
    assert saved.value("n", int, 0, 3) == 3
    assert saved.array("a", (2, 3)).shape == (2, 3)
    for wrong in (
        lambda: saved.value("n", int, 4),
        lambda: saved.value("n", int, 0, 2),
        lambda: saved.value("flag", int),
        lambda: saved.value("none", str),
        lambda: saved.array("a", (2, 4)),
        lambda: saved.array("a", (2, 3), np.float64),
        lambda: saved.array("n", (2, 3)),
        lambda: saved.array("bad", (1, 1), np.float64),
        lambda: saved.rows("a", most=2),
        lambda: Saved({"long": sparse(np.zeros((2, 1_000_001)))}, 2, "here").rows("long"),
        lambda: saved.each("n", int),
    ):
        with pytest.raises(DataError, match="here: "):
            wrong()


# --- the last two ----------------------------------------------------------------------------------------------------


def numbered(n):
    return {"n": n}


def test_the_last_two_are_kept_and_the_newest_is_read(tmp_path):
    slot = Slot(tmp_path, "prune-0-2", {"method": "prune"})
    assert slot.load() is None
    for n in range(4):
        slot.save(numbered(n))
    assert slot.load() == numbered(3)
    assert sorted(p.name for p in tmp_path.glob("*.h5")) == ["prune-0-2.before.h5", "prune-0-2.h5"]
    assert read_checkpoint(tmp_path / "prune-0-2.before.h5")[1] == numbered(2)


@pytest.mark.parametrize("damage", [b"", b"not HDF5", None])
def test_a_damaged_newest_checkpoint_falls_back_to_the_previous_one_with_a_warning(damage, tmp_path, capsys):
    slot = Slot(tmp_path, "s", {})
    slot.save(numbered(0))
    slot.save(numbered(1))
    content = slot.path.read_bytes()
    slot.path.write_bytes(content[:-300] if damage is None else damage)
    assert slot.load() == numbered(0)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(slot.path) in said
    slot.path.unlink()  # killed between the two renames
    assert slot.load() == numbered(0)
    assert capsys.readouterr().err == ""


def test_a_checkpoint_of_something_else_is_refused_and_what_differs_is_named(tmp_path):
    Slot(tmp_path, "s", {"run": {"seeds": [0, 1]}}).save(numbered(0))
    with pytest.raises(DataError, match=r"run\.seeds was \[0, 1\], is \[0\]"):
        Slot(tmp_path, "s", {"run": {"seeds": [0]}}).load()


def test_no_jump_of_the_clock_makes_a_checkpoint_due_or_keeps_it_from_it(tmp_path, monkeypatch):
    import time

    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    slot = Slot(tmp_path, "s", {}, every=30)
    for clock in (1e12, -1e12, 0):
        monkeypatch.setattr(time, "time", lambda clock=clock: clock)
        assert not slot.due()
    now[0] += 30
    for clock in (1e12, -1e12, 0):
        monkeypatch.setattr(time, "time", lambda clock=clock: clock)
        assert slot.due()
    slot.save(numbered(0))
    assert not slot.due()


def test_a_file_and_its_name_are_flushed_before_the_previous_one_is_removed(tmp_path, monkeypatch):
    """The order of writes: the new content, its name, and only then the renames."""
    slot, calls = Slot(tmp_path, "s", {}), []
    slot.save(numbered(0))
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("flush"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append(os.path.basename(b)), replace(a, b)))
    slot.save(numbered(1))
    assert calls == ["flush", "s.new.h5", "flush", "s.before.h5", "s.h5", "flush"]
