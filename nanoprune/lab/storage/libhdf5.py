"""Checks for damaged HDF5 files that make libhdf5 hang or crash, made before it opens them. `make fuzz` found them.

Both checks read the bytes of the file themselves, and each searches for one structure only.
"""

from __future__ import annotations

import mmap
import os

import numpy as np

from nanoprune.errors import DataError

START = b"\x89HDF\r\n\x1a\n"  # how an HDF5 file starts
HEAP = b"GCOL\1"  # how a global heap starts
NAMES = b"HEAP\0"  # how the heap of a group's names starts
LISTED = 1_000_000  # the most such heaps, and entries of their free lists, in a file
SCANNED = 1 << 30  # bytes of the largest file that is searched
BLOCK = 1 << 22  # bytes that are searched at a time


def check_structure(path: str | os.PathLike, remedy: str) -> None:
    """Raises DataError where an HDF5 file has a structure that libhdf5 must not read. Files above SCANNED are not
    searched: 190 GB of packed ImageNet would take minutes."""
    if not os.path.isfile(path) or not 0 < (size := os.path.getsize(path)) <= SCANNED:  # a new file does not exist yet
        return
    with open(path, "rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as data:
        places = [0, *(1 << n for n in range(9, size.bit_length()))]  # where libhdf5 searches for a file's start
        base = next((place for place in places if data[place : place + 8] == START), None)
        if base is None:
            return
        endless, heaps = _endless(data, base), data.find(HEAP) >= 0
    if endless or (heaps and _virtual(np.memmap(path, np.uint8, "r"), base)):
        what = "an endless free list" if endless else "a virtual dataset, made of parts of others"
        raise DataError(f"{path}: has {what}; {remedy}")


def _endless(data: mmap.mmap, base: int) -> bool:
    """Whether the free list of a group's local heap is cyclic: libhdf5 follows it until memory is exhausted.

    A heap starts with NAMES. From its eighth byte on it has the size of its data, the offset of the first free block in
    them (1: none), and the address of the data; a free block starts with the offset of the next one (HDF5 File Format
    Specification, III.D). More than LISTED heaps and blocks in all count as endless.
    """
    left, start = LISTED, data.find(NAMES)
    while start >= 0:
        if (left := left - 1) < 0:
            return True
        size, at, place = (int.from_bytes(data[start + i : start + i + 8], "little") for i in (8, 16, 24))
        seen = set()
        while at != 1 and at + 16 <= size and base + place + at + 16 <= len(data):
            left -= 1
            if at in seen or left < 0:
                return True
            seen.add(at)
            at = int.from_bytes(data[base + place + at : base + place + at + 8], "little")
        start = data.find(NAMES, start + 1)
    return False


def _virtual(data: np.ndarray, base: int) -> bool:
    """Whether the file (size,) uint8 has a virtual dataset. Opening one can make libhdf5 hang (HDFGroup/hdf5 issue
    1707) or crash.

    Its layout is a version, from 4 on, the class 3, and the address of a global heap, in eight bytes from the file's
    base (HDF5 File Format Specification, IV.A.2.i); a heap starts with HEAP, or libhdf5 refuses it.
    """
    for start in range(0, len(data), BLOCK):
        part = data[start : start + BLOCK + 9]
        layouts = np.flatnonzero((part[:-9] >= 4) & (part[1:-8] == 3))  # (n,) candidates
        heaps = part[layouts[:, None] + np.arange(2, 10)].view("<u8")[:, 0] + np.uint64(base)  # (n,)
        heaps = heaps[heaps <= len(data) - len(HEAP)].astype(np.int64)
        if (data[heaps[:, None] + np.arange(len(HEAP))] == np.frombuffer(HEAP, np.uint8)).all(1).any():
            return True
    return False
