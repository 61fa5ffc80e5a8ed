"""Images too many for memory: a chunked HDF5 file that `data pack` wrote, read a chunk at a time.

    images (N, H, C, W) uint8, in chunks of CHUNK images, which lie in the file in random order
    chunk_sha256 (chunks, 32) uint8, labels (N,) uint16, classes (classes,) names; attributes `format` and `train`

Records are pixels / 255, as those of the other image sets; no mean is subtracted.
"""

import hashlib
import os
import pathlib
import threading
from collections import OrderedDict

import h5py
import numpy as np

from nanoprune.backend import to_device, to_host, xp
from nanoprune.errors import DataError
from nanoprune.lab.data.dataset import Dataset, arrays_sha256
from nanoprune.lab.storage.bounded import DAMAGE, number_attribute, open_hdf5, stored_array

FORMAT = 1
CHUNK = 16  # images: 2.4 MB of 224 x 224, read and verified at once
KEPT = 128  # chunks that stay in memory: 308 MB, twice what `batch.shuffled` mixes
MAX_SIDE = 4096
REMEDY = "write it again with 'python cli.py data pack'"


class Packed:
    """The images of a packed file, to `Records` what an array is: x[index] gathers records, x.shape is (N, H, C, W).

    Safe to share among threads; of processes each keeps its own chunks, up to KEPT. A chunk's SHA-256 is checked when
    it is first read. Raises DataError, naming the file, where it is damaged.
    """

    dtype = np.dtype(np.float32)
    ndim = 4

    def __init__(self, images: h5py.Dataset, chunk_sha256: np.ndarray, path: str) -> None:
        self.images, self.chunk_sha256, self.path = images, chunk_sha256, path
        self.shape = images.shape
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
        """What a process keeps in memory, at most."""
        return min(KEPT * CHUNK, len(self)) * int(np.prod(self.shape[1:]))

    def min(self) -> float:
        """The least value that a byte / 255 can have."""
        return 0.0

    def max(self) -> float:
        """The greatest."""
        return 1.0

    def __getitem__(self, index: object) -> object:
        """The records `index` (...) as float32 (..., H, C, W) in [0, 1], on the device that the index is on."""
        on_device = isinstance(index, xp.ndarray)
        rows = np.arange(len(self))[to_host(index) if on_device else index]  # (...); refuses what an array would
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
            try:
                pixels = self.images[number * CHUNK : (number + 1) * CHUNK]
            except DAMAGE as error:
                raise DataError(f"{self.path}: chunk {number} cannot be read; {REMEDY}") from error
            if not self._verified[number]:
                if hashlib.sha256(pixels.data).digest() != self.chunk_sha256[number].tobytes():
                    raise DataError(f"{self.path}: chunk {number} is damaged, its SHA-256 is another; {REMEDY}")
                self._verified[number] = True
            self._chunks[number] = pixels
            if len(self._chunks) > KEPT:
                self._chunks.popitem(last=False)
            return pixels


def load_imagenet(data_dir: pathlib.Path) -> Dataset:
    """ImageNet from `data_dir`/imagenet/imagenet.h5, packed from the user's own copy; see `load_packed`."""
    path = data_dir / "imagenet" / "imagenet.h5"
    if not path.is_file():
        raise DataError(
            f"imagenet: {path} not found; pack a copy of the images with "
            f"'python cli.py data pack imagenet --src DIR --out {path}'"
        )
    return load_packed(path, "imagenet")


def load_packed(path: str | os.PathLike, name: str) -> Dataset:
    """The data set `name` in a packed file, whose images stay there; official training records first.

    Every size is checked against the file's before memory is taken. Raises DataError, naming the file, where it is
    damaged or another one.
    """
    try:
        file = open_hdf5(path, REMEDY)
    except DAMAGE as error:
        raise DataError(f"{path}: cannot be read as HDF5; {REMEDY}") from error
    try:
        _check(file, path)
        labels, chunk_sha256 = file["labels"][()].astype(np.int64), file["chunk_sha256"][()]  # (N,), (chunks, 32)
        x = Packed(file["images"], chunk_sha256, os.fspath(path))
        sha256 = arrays_sha256(chunk_sha256, labels)
        labels.setflags(write=False)
        return Dataset(name, x, labels, len(file["classes"]), number_attribute(file, "train", path, REMEDY), sha256)
    except DataError:
        file.close()
        raise
    except DAMAGE as error:
        file.close()
        raise DataError(f"{path}: not a file of packed images; {REMEDY}") from error


def _check(file: h5py.File, path: str | os.PathLike) -> None:
    """DataError unless the four data sets have the shapes and types they must, and no more than the file can hold."""
    version = number_attribute(file, "format", path, REMEDY)
    if version != FORMAT:
        raise DataError(f"{path}: format {version}, this version reads {FORMAT}; {REMEDY}")
    images, labels, hashes, classes = (
        stored_array(file, name, path, REMEDY) for name in ("images", "labels", "chunk_sha256", "classes")
    )
    count, *sides = images.shape
    expected = {
        "images": (images, "uint8", (count, *sides), (CHUNK, *sides)),
        "labels": (labels, "uint16", (count,), None),
        "chunk_sha256": (hashes, "uint8", (-(-count // CHUNK), 32), None),
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
