"""Purchase-100: 197,324 customers, 600 bits each (bought the product or not), one of 100 clusters of buyers.

Made from Kaggle's "Acquire Valued Shoppers" by Shokri et al. 2017 (arXiv 1610.05820, section VI-A); the file of
https://github.com/privacytrustlab/datasets. Its SHA-256 could not be established: the number, length and content of all
lines are checked instead.
"""

import pathlib

import numpy as np

from nanoprune.lab.data.archive import read_members
from nanoprune.lab.data.dataset import Dataset
from nanoprune.lab.data.records import check_count, parse_records
from nanoprune.lab.data.source import GITHUB_LIMIT, SourceFile

NAME = "dataset_purchase.tgz"
MEMBER = "dataset_purchase"
RECORDS = 197_324
BITS = 600
CLASSES = 100
UNPACKED_LIMIT = 1 << 30  # bytes; the lines are 238 million, the archive may hold more
HEADS = {head: label for label in range(CLASSES) for head in (b"%d" % (label + 1), b'"%d"' % (label + 1))}


def load_purchase100(data_dir: pathlib.Path, records: int = RECORDS) -> Dataset:
    """Purchase-100 from `data_dir`/purchase100: x (197324, 600) of zeros and ones, 100 classes, no official split.

    records: how many there must be. Nothing is unpacked to disk. Raises DataError if the file is missing or is not so.
    """
    return Dataset.of("purchase100", *parse_purchase100(FILES[0].read(data_dir), records), CLASSES)


def parse_purchase100(archive: bytes, records: int = RECORDS) -> tuple[np.ndarray, np.ndarray]:
    """Bits (N, 600) uint8 and labels (N,) int64 of the archive; DataError unless they are those of N `records`."""
    limit = records * (2 * BITS + len(b'"100"\n'))
    content = read_members(archive, {MEMBER: limit}, UNPACKED_LIMIT, NAME)[MEMBER]
    x, y = parse_records(content, HEADS, BITS, f"{NAME}:{MEMBER}")
    check_count(len(x), records, f"{NAME}:{MEMBER}")
    return x, y


FILES = (SourceFile("purchase100", NAME, GITHUB_LIMIT, None, parse_purchase100),)
