"""CIFAR-10 and CIFAR-100: 60,000 colour images of 32x32 pixels (Krizhevsky 2009), in the official binary form.

A record is its labels, a byte each (CIFAR-100: the coarse one, which is left aside, and the fine one), and 3,072
pixels: the red, green and blue planes, row-major. Pixels are scaled to [0, 1] and no mean is subtracted.
"""

import hashlib
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from nanoprune.errors import DataError
from nanoprune.lab.data.archive import read_members
from nanoprune.lab.data.dataset import Dataset
from nanoprune.lab.data.source import SourceFile
from nanoprune.lab.storage.bounded import read_bounded

SIDE, CHANNELS = 32, 3
PIXELS = CHANNELS * SIDE * SIDE
MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)


@dataclass(frozen=True)
class Cifar:
    """One of the two data sets as it was published.

    folder: in the archive. files: name -> SHA-256, the test set last. labels: bytes of labels a record, the last of
    which counts. train, test: records. copies: SHA-256 of all labels -> the name of a copy with other pixels.
    """

    title: str
    archive: SourceFile
    folder: str
    files: Mapping[str, str]
    classes: int
    labels: int
    train: int = 50_000
    test: int = 10_000
    copies: Mapping[str, str] = field(default_factory=dict)

    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        record = self.labels + PIXELS
        *parts, last = self.files
        return {name: self.train // len(parts) * record for name in parts} | {last: self.test * record}


CIFAR10 = Cifar(
    title="CIFAR-10",
    archive=SourceFile(
        "cifar10",
        "cifar-10-binary.tar.gz",
        170_052_171,
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ),
    folder="cifar-10-batches-bin",
    files={
        "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    },
    classes=10,
    labels=1,
    copies={"64812449da13136ee90104854afd09e1033abd7e1892ba94b7e1d5bbaba29b43": "CIFAR-10 (JPEG copy)"},
)
CIFAR100 = Cifar(
    title="CIFAR-100",
    archive=SourceFile(
        "cifar100",
        "cifar-100-binary.tar.gz",
        168_513_733,
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    ),
    folder="cifar-100-binary",
    files={
        "train.bin": "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
        "test.bin": "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
    },
    classes=100,
    labels=2,
)


def load_cifar10(data_dir: pathlib.Path) -> Dataset:
    """CIFAR-10 from `data_dir`/cifar10: x (60000, 32, 3, 32), 10 classes; see `load_cifar`."""
    return load_cifar(data_dir, CIFAR10)


def load_cifar100(data_dir: pathlib.Path) -> Dataset:
    """CIFAR-100 from `data_dir`/cifar100: x (60000, 32, 3, 32), the 100 fine classes; see `load_cifar`."""
    return load_cifar(data_dir, CIFAR100)


def load_cifar(data_dir: pathlib.Path, of: Cifar) -> Dataset:
    """The data set from its archive, or from the .bin files unpacked by hand; the official training records first.

    Files whose SHA-256 are the published ones are the official ones. Others must be a known copy, known by the SHA-256
    of all its labels (its pixels may depend on the JPEG decoder that wrote them): the data set's `title` says so, and
    the results with it. Raises DataError if a file is missing, damaged, or neither.
    """
    folder = data_dir / of.archive.dataset
    files = {name: _unpacked(folder, of, name) for name in of.files}
    if of.archive.find(data_dir) is None and any(files.values()):
        contents = {name: _read(path, of, name, folder) for name, path in files.items()}
    else:
        limits = {f"{of.folder}/{name}": size for name, size in of.sizes().items()}
        members = read_members(of.archive.read(data_dir), limits, sum(limits.values()) + (1 << 20), of.archive.name)
        contents = {name: members[f"{of.folder}/{name}"] for name in of.files}
    parts = [parse_cifar(contents[name], of, name) for name in of.files]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    title = of.title
    if any(hashlib.sha256(contents[name]).hexdigest() != sha256 for name, sha256 in of.files.items()):
        found = hashlib.sha256(labels.tobytes()).hexdigest()
        if found not in of.copies:
            raise DataError(
                f"{folder}: neither the official files of {of.title} nor a copy that is known "
                f"(SHA-256 of the labels {found[:16]}...); run 'python cli.py data fetch {of.archive.dataset}'"
            )
        title = of.copies[found]
    return Dataset.of(of.archive.dataset, images, labels, of.classes, scale=255, train=of.train, title=title)


def parse_cifar(data: bytes | memoryview, of: Cifar, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, C, W) uint8 and labels (N,) uint8 of one file; DataError, naming `source`, if it is not so."""
    record = of.labels + PIXELS
    if len(data) == 0 or len(data) % record:
        raise DataError(f"{source}: {len(data)} bytes, expected a multiple of the {record} of a record")
    table = np.frombuffer(data, np.uint8).reshape(-1, record)  # (N, labels + pixels)
    labels = table[:, of.labels - 1]  # (N,)
    if labels.max() >= of.classes:
        row = int((labels >= of.classes).argmax())
        raise DataError(f"{source}: label {labels[row]} in record {row + 1}, expected 0 to {of.classes - 1}")
    planes = table[:, of.labels :].reshape(-1, CHANNELS, SIDE, SIDE)  # (N, C, H, W)
    return np.ascontiguousarray(planes.swapaxes(1, 2)), labels  # (N, H, C, W)


def _unpacked(folder: pathlib.Path, of: Cifar, name: str) -> pathlib.Path | None:
    """Where a file lies that was unpacked by hand; None if it does not."""
    places = (folder / of.folder / name, folder / name)
    return next((path for path in places if path.is_file()), None)


def _read(path: pathlib.Path | None, of: Cifar, name: str, folder: pathlib.Path) -> bytes:
    """A file that was unpacked by hand; DataError if it is missing or has not the published length."""
    if path is None:
        raise DataError(f"{of.archive.dataset}: {name} not found in {folder / of.folder}; put all of its files there")
    size = of.sizes()[name]
    data = read_bounded(path, size)
    if len(data) != size:
        raise DataError(f"{path}: {len(data)} bytes, expected {size}")
    return data
