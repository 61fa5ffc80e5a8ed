"""Images too many for memory: an HDF5 file that `data pack` wrote, read a chunk at a time.

    images (n, H, C, W) uint8, n >= N, of which the first N are images, in random order
    labels (n,) uint16, chunk_sha256 (chunks, 32) uint8, one for each CHUNK images
    classes (classes,) names; counts (2,) int64: N, and how many of them are the official training set

In files of format 1 all arrays are cut to N, `images` is in chunks of CHUNK images, and an attribute `train` takes the
place of `counts`. Records are pixels / 255, as those of the other image sets; no mean is subtracted.
"""

import hashlib
import os
import pathlib
import threading
from collections import OrderedDict
from collections.abc import Callable

import h5py
import numpy as np

from nanoprune.backend import to_device, to_host, xp
from nanoprune.errors import DataError
from nanoprune.lab.data.dataset import Dataset, arrays_sha256
from nanoprune.lab.storage.bounded import DAMAGE, number_attribute, open_hdf5, stored_array
from nanoprune.lab.storage.text import printable

CHUNKED, FORMAT = 1, 2  # formats: what earlier versions wrote, and this one
CHUNK = 16  # images: 2.4 MB of 224 x 224, read and verified at once
KEPT = 128  # chunks that stay in memory: 308 MB, twice what `batch.shuffled` mixes
MAX_SIDE = 4096
REMEDY = "write it again with 'python cli.py data pack'"


class Packed:
    """The first `count` images of a packed file, used like an array: x[index] gathers records, x.shape is (N, H, C, W).

    Safe to share among threads; each process keeps its own chunks, up to KEPT. A chunk's SHA-256 is checked when it is
    first read. Raises DataError, naming the file, where it is damaged.
    """

    dtype = np.dtype(np.float32)
    ndim = 4

    def __init__(self, images: h5py.Dataset, count: int, chunk_sha256: np.ndarray, path: str) -> None:
        self.images, self.chunk_sha256, self.path = images, chunk_sha256, path
        self.shape = (count, *images.shape[1:])
        self.block = CHUNK  # records that are read together: what `batch.shuffled` shuffles as one
        self._verified = np.zeros(len(chunk_sha256), bool)
        self._chunks: OrderedDict[int, np.ndarray] = OrderedDict()  # least recently used first
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """Elements in all."""
        return int(np.prod(self.shape, dtype=object))

    @property
    def kept_bytes(self) -> int:
        """The most bytes of images that a process keeps in memory."""
        return min(KEPT * CHUNK, len(self)) * int(np.prod(self.shape[1:]))

    def min(self) -> float:
        """The smallest value that a byte / 255 can have."""
        return 0.0

    def max(self) -> float:
        """The largest."""
        return 1.0

    def __getitem__(self, index: object) -> object:
        """The records `index` (...) as float32 (..., H, C, W) in [0, 1], on the device that the index is on."""
        on_device = isinstance(index, xp.ndarray)
        rows = np.arange(len(self))[to_host(index) if on_device else index]  # (...); raises IndexError as an array does
        found = np.empty((rows.size, *self.shape[1:]), np.float32)  # (n, H, C, W)
        flat = rows.ravel()
        order = np.argsort(flat, kind="stable")  # chunk after chunk, as they lie in the file
        chunks, starts = np.unique(flat[order] // CHUNK, return_index=True)
        for chunk, places in zip(chunks.tolist(), np.split(order, starts[1:]), strict=True):
            found[places] = np.true_divide(self._chunk(chunk)[flat[places] % CHUNK], 255, dtype=np.float32)
        found = found.reshape(*rows.shape, *self.shape[1:])
        return to_device(found) if on_device else found

    def _chunk(self, number: int) -> np.ndarray:
        """The images of one chunk, (CHUNK, H, C, W) uint8 or fewer, from memory or else from the file."""
        with self._lock:
            if number in self._chunks:
                self._chunks.move_to_end(number)
                return self._chunks[number]
            pixels = self._read(number, self._verified[number])
            self._verified[number] = True
            self._chunks[number] = pixels
            if len(self._chunks) > KEPT:
                self._chunks.popitem(last=False)
            return pixels

    def _read(self, number: int, verified: bool = False) -> np.ndarray:
        """The images of one chunk from the file, compared with their hash."""
        try:
            pixels = self.images[number * CHUNK : min((number + 1) * CHUNK, len(self))]
        except DAMAGE as error:
            raise DataError(f"{printable(self.path)}: chunk {number} cannot be read; {REMEDY}") from error
        if not verified and hashlib.sha256(pixels.data).digest() != self.chunk_sha256[number].tobytes():
            raise DataError(f"{printable(self.path)}: chunk {number} is damaged, its SHA-256 is another; {REMEDY}")
        return pixels

    def read_back(self, checked: Callable[[int, int], None]) -> None:
        """Read and verify all images; checked(done, total) is called as they are. Raises DataError on damage."""
        for number in range(len(self.chunk_sha256)):
            self._read(number)
            checked(min((number + 1) * CHUNK, len(self)), len(self))


def load_imagenet(data_dir: pathlib.Path) -> Dataset:
    """ImageNet from `data_dir`/imagenet/imagenet.h5, packed from the user's own copy; see `load_packed`."""
    path = data_dir / "imagenet" / "imagenet.h5"
    if not path.is_file():
        raise DataError(
            f"imagenet: {path} not found; pack a copy of the images with "
            f"'python cli.py data pack imagenet --src DIR --out {path}'"
        )
    return load_packed(path, "imagenet")


def load_packed(path: str | os.PathLike, name: str, locking: bool | None = None) -> Dataset:
    """The data set `name` in a packed file, whose images stay there; official training records first.

    Every size is checked against the file's before memory is taken. locking: as in `open_hdf5`. Raises DataError,
    naming the file, where it is damaged or another one.
    """
    try:
        file = open_hdf5(path, REMEDY, locking)
    except DAMAGE as error:
        raise DataError(f"{printable(path)}: cannot be read as HDF5; {REMEDY}") from error
    try:
        count, train = _check(file, path)
        labels = file["labels"][:count].astype(np.int64)  # (N,)
        chunk_sha256 = file["chunk_sha256"][: -(-count // CHUNK)]  # (chunks, 32)
        x = Packed(file["images"], count, chunk_sha256, os.fspath(path))
        labels.setflags(write=False)
        return Dataset(name, x, labels, len(file["classes"]), train, arrays_sha256(chunk_sha256, labels))
    except DataError:
        file.close()
        raise
    except DAMAGE as error:
        file.close()
        raise DataError(f"{printable(path)}: not a file of packed images; {REMEDY}") from error


def _check(file: h5py.File, path: str | os.PathLike) -> tuple[int, int]:
    """The numbers of images and of those for training. DataError unless the arrays have the shapes and types that they
    must have, and no more values than the file can hold."""
    version = number_attribute(file, "format", path, REMEDY)
    if version not in (CHUNKED, FORMAT):
        raise DataError(f"{path}: format {version}, this version reads {CHUNKED} and {FORMAT}; {REMEDY}")
    images, labels, hashes, classes = (
        stored_array(file, name, path, REMEDY) for name in ("images", "labels", "chunk_sha256", "classes")
    )
    room, *sides = images.shape
    expected = {
        "images": (images, "uint8", (room, *sides), (CHUNK, *sides) if version == CHUNKED else None),
        "labels": (labels, "uint16", (room,), None),
        "chunk_sha256": (hashes, "uint8", (-(-room // CHUNK), 32), None),
        "classes": (classes, classes.dtype.name, (len(classes),), None),
    }
    for name, (found, dtype, shape, chunks) in expected.items():
        if (found.dtype.name, found.shape, found.chunks) != (dtype, shape, chunks) or found.compression:
            raise DataError(f"{path}: {name} is {found.dtype} {found.shape}, expected {dtype} {shape}; {REMEDY}")
    if len(sides) != 3 or not all(0 < side <= MAX_SIDE for side in sides) or sides[1] != 3:
        raise DataError(f"{path}: images of shape {tuple(sides)}, expected (H, 3, W); {REMEDY}")
    promised = sum(found.size * found.dtype.itemsize for found, *_ in expected.values())
    if promised > os.path.getsize(path):
        raise DataError(f"{path}: promises {promised} bytes, more than the file holds; {REMEDY}")
    if version == CHUNKED:
        return room, number_attribute(file, "train", path, REMEDY)
    return _counts(file, room, path)


def _counts(file: h5py.File, room: int, path: str | os.PathLike) -> tuple[int, int]:
    counts = stored_array(file, "counts", path, REMEDY)
    if (counts.dtype, counts.shape) != (np.dtype(np.int64), (2,)):
        raise DataError(f"{path}: counts is {counts.dtype} {counts.shape}, expected int64 (2,); {REMEDY}")
    count, train = map(int, counts[()])
    if not 0 < train <= count <= room:
        raise DataError(f"{path}: counts are {count} and {train} of {room} images: not finished, or damaged; {REMEDY}")
    return count, train
