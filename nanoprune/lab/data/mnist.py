"""MNIST: 70,000 handwritten digits of 28x28 pixels (LeCun, Cortes, Burges), in the four IDX files it came in."""

import math
import pathlib
from collections.abc import Sequence

import numpy as np

from nanoprune.errors import DataError
from nanoprune.lab.data.dataset import Dataset
from nanoprune.lab.data.source import SourceFile

FILES = (
    SourceFile(
        "mnist",
        "train-images-idx3-ubyte.gz",
        47_040_016,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    SourceFile(
        "mnist",
        "train-labels-idx1-ubyte.gz",
        60_008,
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    SourceFile(
        "mnist",
        "t10k-images-idx3-ubyte.gz",
        7_840_016,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    SourceFile(
        "mnist", "t10k-labels-idx1-ubyte.gz", 10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
    ),
)
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


def load_mnist(data_dir: pathlib.Path, files: Sequence[SourceFile] = FILES) -> Dataset:
    """MNIST from `data_dir`/mnist, gzip or plain: x (70000, 28, 1, 28), the first 60,000 records for training.

    files: training images, training labels, test images, test labels. Raises DataError if one is missing or not the
    published one.
    """
    train_x, train_y, test_x, test_y = (parse_idx(file.read(data_dir), file.name) for file in files)
    axes = (train_x.ndim, train_y.ndim, test_x.ndim, test_y.ndim)
    if axes != (3, 1, 3, 1) or train_x.shape[1:] != test_x.shape[1:]:
        raise DataError(
            f"mnist: files of shapes {train_x.shape}, {train_y.shape}, {test_x.shape}, {test_y.shape}, "
            "expected images, labels, images, labels, with images of one size"
        )
    images = np.concatenate([train_x, test_x])[:, :, None, :]  # (N, H, 1, W) uint8
    return Dataset.of("mnist", images, np.concatenate([train_y, test_y]), classes=10, scale=255, train=len(train_x))


def parse_idx(data: bytes, source: str) -> np.ndarray:
    """The array in an unpacked IDX file of unsigned bytes with 1 to 4 axes: a read-only uint8 view of `data`.

    Layout: two zero bytes, the element type (8), the number of axes; each axis as four bytes, big end first; the
    elements, last axis fastest. Raises DataError, naming `source`, unless `data` is exactly that, no byte more or less.
    """
    if len(data) < 4 or data[:3] != b"\0\0\x08" or not 1 <= data[3] <= 4:
        raise DataError(
            f"{source}: starts with {data[:4].hex(' ') or 'nothing'}, expected an IDX header of unsigned "
            "bytes, 00 00 08 and 1 to 4 axes"
        )
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise DataError(f"{source}: ends after {len(data)} bytes, inside its IDX header of {start}")
    shape = tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, start, 4))
    if 0 in shape or len(data) != start + math.prod(shape):  # checked in Python integers, before NumPy sees the shape
        raise DataError(f"{source}: {len(data) - start} bytes of elements, but its header says {shape}")
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)
