"""The checks of an HDF5 file before an array of it is opened."""

import zlib

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoprune.errors import DataError
from nanoprune.lab.storage import bounded, libhdf5

PARTS = st.lists(st.text("abc\x03\x04", min_size=1, max_size=40), min_size=1, max_size=5)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """So that a layout sometimes crosses the end of a block."""
    monkeypatch.setattr(libhdf5, "BLOCK", 251)


def write(path, parts, virtual, version, texts, userblock=0):
    """A file with arrays, texts of any length, and, with `parts`, a virtual array."""
    with h5py.File(path, "w", libver=version, userblock_size=userblock) as file:
        file["numbers"] = np.full(300, 0x0304, np.uint16)
        for number, text in enumerate(texts):
            file.attrs[f"text{number}"] = text
        if virtual:
            layout = h5py.VirtualLayout((len(parts), 3), "f4")
            for row, name in enumerate(parts):
                layout[row] = h5py.VirtualSource(f"{name}.h5", name, (3,))
            file.create_virtual_dataset("made of others", layout)


@settings(max_examples=80)
@given(PARTS, st.booleans(), st.sampled_from(("earliest", "latest")), PARTS, st.sampled_from((0, 512, 1024)))
def test_a_file_is_refused_if_and_only_if_an_array_of_it_is_virtual(
    tmp_path_factory, parts, virtual, version, texts, userblock
):
    path = tmp_path_factory.getbasetemp() / "x.h5"
    write(path, parts, virtual, version, texts, userblock)
    if not virtual:
        with bounded.open_hdf5(path) as file:
            assert file["numbers"][0] == 0x0304
        return
    with pytest.raises(DataError, match=r"x\.h5: has a virtual dataset, made of parts of others; write it again"):
        bounded.open_hdf5(path)


@settings(max_examples=60)
@given(st.data())
def test_a_virtual_array_is_not_opened_whatever_its_heap(tmp_path_factory, data):
    """libhdf5 would read the bytes in the heap to open it: some make it hang, others crash."""
    path = tmp_path_factory.getbasetemp() / "y.h5"
    write(path, ["a", "b"], True, "earliest", [])
    content = bytearray(path.read_bytes())
    heap = content.find(libhdf5.HEAP) + len(libhdf5.HEAP)
    for _ in range(data.draw(st.integers(1, 20))):
        content[data.draw(st.integers(heap, heap + 120))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with pytest.raises(DataError, match="made of parts of others"):
        bounded.open_hdf5(path)


@settings(max_examples=200)
@given(st.lists(st.integers(0, 6), max_size=5), st.sampled_from((0, 512)))
def test_a_free_list_is_refused_if_and_only_if_it_is_cyclic(tmp_path_factory, hops, userblock):
    """A group's local heap with a random free list; the oracle is Floyd's cycle detection."""
    path = tmp_path_factory.getbasetemp() / "w.h5"
    write(path, [], False, "earliest", [], userblock)
    content = bytearray(path.read_bytes())
    heap = content.find(libhdf5.NAMES)
    size, _, place = (int.from_bytes(content[heap + i : heap + i + 8], "little") for i in (8, 16, 24))
    nodes = [size - 16 * (k + 1) for k in range(5)] + [1, size]  # places near the end, the end of a list, and beyond
    links = dict(zip(nodes, (1,) * 5, strict=False))
    for k, to in enumerate(hops):
        links[nodes[k]] = nodes[to]
    for at, to in links.items():
        spot = userblock + place + at
        content[spot : spot + 16] = to.to_bytes(8, "little") + (16).to_bytes(8, "little")
    content[heap + 16 : heap + 24] = nodes[0].to_bytes(8, "little")
    path.write_bytes(content)

    slow = fast = nodes[0]
    while (fast := links.get(links.get(fast, 1), 1)) != 1 and fast in links:
        slow = links[slow]
        if slow == fast:
            break
    if fast in links:
        with pytest.raises(DataError, match=r"w\.h5: has an endless free list; write it again"):
            bounded.open_hdf5(path)
    else:
        libhdf5.check_structure(path, "")


@settings(max_examples=30)
@given(st.integers(-3, 200), st.sampled_from((0.0, 0.5, 1.0)), st.booleans(), st.booleans(), st.integers(0, 9))
def test_a_chunk_is_read_if_and_only_if_it_unpacks_to_no_more_than_it_is(
    tmp_path_factory, more, noise, shuffle, fletcher, level
):
    """Chunks of 400,000 numbers, some of incompressible noise, and some with more data after them."""
    path, n = tmp_path_factory.getbasetemp() / "z.h5", 400_000
    values = np.random.default_rng(0).random(n, np.float32)
    values[round(noise * n) :] = 0
    with h5py.File(path, "w") as file:
        how = {"compression": "gzip", "compression_opts": level, "shuffle": shuffle, "fletcher32": fletcher}
        item = file.create_dataset("x", data=values, chunks=(n,), **how)
        if more > 0:  # the bytes of the array and then more, packed as one chunk
            longer = zlib.compress(values.tobytes() + bytes(more * 1000), level)
            item.id.write_direct_chunk((0,), longer + bytes(4 * fletcher))
    with bounded.open_hdf5(path) as file:
        small = file["x"].id.get_chunk_info(0).size * bounded.DEFLATE_RATIO <= bounded.FREE
        if more <= 0:
            np.testing.assert_array_equal(bounded.stored_array(file, "x", path)[()], values)
        elif not small:
            with pytest.raises(DataError, match=r"z\.h5: x has a chunk that does not unpack to at most 1,600,064 b"):
                bounded.stored_array(file, "x", path)


def test_a_file_with_too_many_heaps_is_refused_without_a_full_search(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name in "abcde":
            file.create_group(f"{name}/inside")
    bounded.open_hdf5(tmp_path / "x.h5").close()
    monkeypatch.setattr(libhdf5, "LISTED", 5)
    with pytest.raises(DataError, match=r"x\.h5: has an endless free list"):
        bounded.open_hdf5(tmp_path / "x.h5")
