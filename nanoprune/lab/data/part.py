"""FILE.part: a file of packed images while it is being filled. It survives being killed at any moment.

HDF5 does not survive that: what is killed while libhdf5 writes can leave a file that it no longer opens, and on a full
disk libhdf5 reports neither the failed write nor the failed close. So libhdf5 writes nothing to the disk here. The
structure of the whole file is laid out in memory, with room for every image, and written once; its first eight bytes,
without which it is no HDF5 file, come last. From then on images, their hashes and the index of what is done are written
to their known places by plain writes, whose errors are raised: first the images, flushed to disk, then the index.
"""

from __future__ import annotations

import errno
import io
import os
import pathlib
import shutil
from collections.abc import Iterator

import h5py
import numpy as np

from nanoprune.errors import DataError
from nanoprune.lab.data.packed import CHUNK, FORMAT
from nanoprune.lab.storage.bounded import DAMAGE, first_line, number_attribute, open_hdf5, stored_array, stored_text
from nanoprune.lab.storage.files import flush_folder, lock
from nanoprune.lab.storage.hdf5 import write_text
from nanoprune.lab.storage.text import printable

BEGUN = b"np pack\n"  # stands in the place of HDF5's signature until the layout is complete
WAITING, KEPT, BROKEN = range(3)  # what became of a file
AGAIN = "remove it to begin again"
PAGE = 1 << 12  # bytes


class Pages(io.RawIOBase):
    """A file in memory that has only the pages that were written: what h5py lays out takes as much, and no more."""

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}
        self.at = self.end = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.at = offset + (0, self.at, self.end)[whence]
        return self.at

    def tell(self) -> int:
        return self.at

    def truncate(self, size: int | None = None) -> int:
        self.end = self.at if size is None else size
        return self.end

    def readinto(self, buffer: memoryview) -> int:
        for start, page, first, last in self._spans(len(buffer)):
            buffer[start : start + last - first] = self.pages.get(page, bytes(PAGE))[first:last]
        self.at += len(buffer)
        return len(buffer)

    def write(self, data: memoryview) -> int:
        data = memoryview(data).cast("B")
        for start, page, first, last in self._spans(len(data)):
            self.pages.setdefault(page, bytearray(PAGE))[first:last] = data[start : start + last - first]
        self.at += len(data)
        self.end = max(self.end, self.at)
        return len(data)

    def _spans(self, count: int) -> Iterator[tuple[int, int, int, int]]:
        """(from where in the data, page, first and last byte there) of the next `count` bytes."""
        start = 0
        while start < count:
            page, first = divmod(self.at + start, PAGE)
            last = min(PAGE, first + count - start)
            yield start, page, first, last
            start += last - first


def layout(paths: list[str], classes: list[str], source: str, side: int) -> Pages:
    """The HDF5 file for one image, (side, 3, side) uint8, of each path: whole, but for the images themselves.

    source: SHA-256, in hex, of what is packed. docs/formats.md has the arrays.
    """
    files, pages = len(paths), Pages()
    with h5py.File(pages, "w") as file:
        file.attrs["format"] = FORMAT
        write_text(file, "source", source)
        file["classes"] = np.array([os.fsencode(name) for name in classes])
        file["files"] = np.array([os.fsencode(path) for path in paths])
        file["counts"] = np.zeros(2, np.int64)
        for name, shape, dtype in _index(files):
            file.create_dataset(name, data=np.zeros(shape, dtype))
        early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        file.create_dataset("images", (files, side, 3, side), "u1", dcpl=early)
    return pages


def _index(files: int) -> list[tuple[str, tuple[int, ...], str]]:
    """Name, shape and type of the arrays that are filled while the images are."""
    return [("state", (files,), "u1"), ("labels", (files,), "<u2"), ("chunk_sha256", (-(-files // CHUNK), 32), "u1")]


def _whole_chunks(state: np.ndarray) -> np.ndarray:
    """`state` (files,) up to the last complete chunk, WAITING after it: a kill can tear the write of the index."""
    waiting = np.flatnonzero(state == WAITING)  # (n,)
    if not len(waiting):
        return state
    kept = np.flatnonzero(state[: waiting[0]] == KEPT)  # (m,)
    whole = len(kept) // CHUNK * CHUNK
    done = kept[whole - 1] + 1 if whole else 0
    return np.where(np.arange(len(state)) < done, state, np.uint8(WAITING))


class Part:
    """The file, locked and open for plain writes, as a context. state (files,) uint8: what became of each JPEG file.

    Raises DataError, naming it, where another process is filling it, it was begun from other images, is damaged, or
    there is no room for it.
    """

    def __init__(self, path: pathlib.Path, paths: list[str], classes: list[str], source: str, side: int) -> None:
        self.path = path
        self.handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            self._lock()
            if os.pread(self.handle, len(BEGUN), 0) in (b"", BEGUN):  # new, or killed before the layout was complete
                self._begin(layout(paths, classes, source, side))
            self.places, self.state = self._check(len(paths), source, side)
        except BaseException:
            os.close(self.handle)
            raise

    def __enter__(self) -> Part:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.handle)

    def _lock(self) -> None:
        busy = DataError(f"{printable(self.path)}: another 'data pack' is at work on it; wait for its end")
        try:
            lock(self.handle)
        except BlockingIOError:
            raise busy from None
        except OSError:  # a file system without locks
            pass
        if not self.is_there():  # the other one finished and renamed it in between
            raise busy

    def is_there(self) -> bool:
        """Whether the file that is open is still the one under its name."""
        try:
            return os.path.samestat(os.fstat(self.handle), os.stat(self.path))
        except FileNotFoundError:
            return False

    def _begin(self, pages: Pages) -> None:
        """Reserve the room and write the layout, its signature last."""
        free = shutil.disk_usage(self.path.parent).free
        if pages.end > free:
            self.path.unlink()
            raise DataError(
                f"{printable(self.path)}: the images take {pages.end >> 20} MiB, but {free >> 20} MiB are free"
            )
        os.ftruncate(self.handle, 0)
        self.write(0, BEGUN)
        try:
            self._reserve(pages.end)
        except OSError:
            self.path.unlink()
            raise
        for page, content in pages.pages.items():
            start = len(BEGUN) if page == 0 else 0
            self.write(page * PAGE + start, memoryview(content)[start : pages.end - page * PAGE])
        self.flush()
        self.write(0, pages.pages[0][: len(BEGUN)])
        self.flush()
        flush_folder(self.path.parent)

    def _reserve(self, size: int) -> None:
        """Give the file its whole size on disk, so that a disk that fills up later takes nothing from it."""
        try:
            os.posix_fallocate(self.handle, 0, size)
        except AttributeError:  # macOS: the writes themselves fail there where the disk is full
            os.ftruncate(self.handle, size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
            os.ftruncate(self.handle, size)

    def _check(self, files: int, source: str, side: int) -> tuple[dict[str, int], np.ndarray]:
        """Where each array begins in the file, in bytes, and `state`. DataError unless the file is laid out for these
        images."""
        path = self.path
        try:
            with open_hdf5(path, AGAIN, locking=False) as file:
                version = number_attribute(file, "format", path, AGAIN)
                if version != FORMAT:
                    raise DataError(f"{path}: format {version}, this version resumes {FORMAT}; {AGAIN}")
                if stored_text(file, "source", path, AGAIN) != source:
                    raise DataError(f"{path}: begun from other images; {AGAIN}")
                expected = [("images", (files, side, 3, side), "u1"), ("counts", (2,), "<i8"), *_index(files)]
                places = {name: self._place(file, name, shape, dtype) for name, shape, dtype in expected}
                state = file["state"][()]  # (files,)
        except DAMAGE as error:
            raise DataError(f"{path}: not begun by 'data pack' ({first_line(error)}); {AGAIN}") from error
        if (state > BROKEN).any():
            raise DataError(f"{path}: its index does not say what is done; {AGAIN}")
        return places, _whole_chunks(state)

    def _place(self, file: h5py.File, name: str, shape: tuple[int, ...], dtype: str) -> int:
        found = stored_array(file, name, self.path, AGAIN)
        if (found.shape, found.dtype, found.chunks) != (shape, np.dtype(dtype), None):
            raise DataError(f"{self.path}: {name} is {found.dtype} {found.shape}, expected {dtype} {shape}; {AGAIN}")
        place = found.id.get_offset()
        if place is None or place + found.nbytes > os.fstat(self.handle).st_size:
            raise DataError(f"{self.path}: {name} lies beyond the end of the file; {AGAIN}")
        return place

    def put(self, name: str, first: int, values: np.ndarray) -> None:
        """Write `values` (n, ...) as entries first .. first + n - 1 of the array `name`. Raises OSError."""
        values = np.ascontiguousarray(values)
        self.write(self.places[name] + first * values[:1].nbytes, values.reshape(-1).view(np.uint8).data)

    def write(self, place: int, data: bytes | bytearray | memoryview) -> None:
        """Write all of `data` at byte `place`. Raises OSError."""
        data = memoryview(data)
        while data:
            written = os.pwrite(self.handle, data, place)
            place, data = place + written, data[written:]

    def flush(self) -> None:
        """Wait until what was written is on the disk. Raises OSError."""
        os.fsync(self.handle)
