"""Location-30: 5,010 users, 446 bits each, one of 30 clusters of places visited.

Check-ins in Bangkok (Yang, Zhang, Qu 2016), prepared by Shokri et al. 2017 (arXiv 1610.05820, section VI-A); the file
of https://github.com/privacytrustlab/datasets.
"""

import io
import pathlib
import tarfile

import numpy as np

from nanoprune.data.dataset import Dataset
from nanoprune.data.source import SourceFile, gunzip
from nanoprune.errors import DataError

FILES = (
    SourceFile(
        "location30",
        "dataset_location.tgz",
        287_293,
        "927203f85a868f8ee17a0ded1dc61699efe602167beabe34fbf45b4b1de94b33",
    ),
)
MIRRORS = (
    "https://github.com/privacytrustlab/datasets/raw/master/",
    "https://raw.githubusercontent.com/privacytrustlab/datasets/master/",
)
MEMBER = "bangkok"
BITS = 446
CLASSES = 30
UNPACKED_LIMIT = 5_000_000  # bytes; the archive unpacks to 4.5 million


def load_location30(data_dir: pathlib.Path, file: SourceFile = FILES[0]) -> Dataset:
    """Location-30 from `data_dir`/location30: x (5010, 446) of zeros and ones, 30 classes, no official split.

    Nothing is unpacked to disk. Raises DataError if the file is missing or not the published one.
    """
    records, labels = parse_location(read_member(file.read(data_dir), file.name), f"{file.name}:{MEMBER}")
    return Dataset.of("location30", records, labels, CLASSES)


def read_member(data: bytes, source: str) -> bytes:
    """The bytes of the one file in the .tgz archive `data`; DataError, naming `source`, if it cannot be had."""
    archive = gunzip(data, UNPACKED_LIMIT, source)
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            member = tar.getmember(MEMBER)
            if not member.isreg() or member.size > len(archive):
                raise DataError(f"{source}: {MEMBER} is not a plain file; expected the published archive")
            return tar.extractfile(member).read()
    except (tarfile.TarError, KeyError, ValueError, ArithmeticError, OSError) as error:
        raise DataError(f"{source}: {MEMBER} cannot be read ({error}); expected the published archive") from error


def parse_location(data: bytes, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Bits (N, 446) uint8 and labels (N,) int64 in 0 .. 29, from lines like `"13",0,1,...,0`.

    Every line is a class from "1" to "30" in quotes, 446 times a comma and a bit, and a line feed. Raises DataError,
    naming `source` and the first line that is not so.
    """
    text = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(text == ord("\n"))  # (N,)
    if len(ends) == 0 or ends[-1] != len(text) - 1:
        raise DataError(f"{source}: expected lines that each end in a line feed, found an end without one")
    starts = np.concatenate([[0], ends[:-1] + 1])
    width = 2 * BITS

    _refuse(ends - starts <= width, source, f"is too short for a class and {BITS} bits")
    tails = np.lib.stride_tricks.sliding_window_view(text, width)[ends - width].reshape(-1, BITS, 2)  # ",0" or ",1"
    bits = tails[:, :, 1] - np.uint8(ord("0"))  # (N, BITS), wraps to more than 1 on anything but a bit
    _refuse(((tails[:, :, 0] != ord(",")) | (bits > 1)).any(axis=1), source, f"does not end in {BITS} times ,0 or ,1")

    label_of = {b'"%d"' % (label + 1): label for label in range(CLASSES)}
    heads = (data[start : end - width] for start, end in zip(starts.tolist(), ends.tolist(), strict=True))
    labels = np.array([label_of.get(head, -1) for head in heads])  # (N,)
    _refuse(labels < 0, source, f'does not start with a class from "1" to "{CLASSES}"')
    return bits, labels


def _refuse(wrong: np.ndarray, source: str, what: str) -> None:
    """DataError if any line is `wrong` (N,), naming the first."""
    if wrong.any():
        raise DataError(f'{source}: line {wrong.argmax() + 1} {what}; expected "class",bit,...,bit')
