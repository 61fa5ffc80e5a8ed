"""Texas-100: 67,330 hospital stays, 6,169 bits each (causes, diagnoses, patient), one of the 100 commonest procedures.

Made from the discharge data of the Texas Department of State Health Services by Shokri et al. 2017 (arXiv 1610.05820,
section VI-A); the file of https://github.com/privacytrustlab/datasets. Its SHA-256 could not be established: the
number, length and content of all lines are checked instead.
"""

import pathlib

import numpy as np

from nanoprune.lab.data.archive import read_members
from nanoprune.lab.data.dataset import Dataset
from nanoprune.lab.data.purchase100 import HEADS
from nanoprune.lab.data.records import check_count, parse_records
from nanoprune.lab.data.source import GITHUB_LIMIT, SourceFile

NAME = "dataset_texas.tgz"
FEATURES, LABELS = "texas/100/feats", "texas/100/labels"
RECORDS = 67_330
BITS = 6_169
CLASSES = 100
UNPACKED_LIMIT = 1 << 31  # bytes; the lines are 831 million, the archive may hold more


def load_texas100(data_dir: pathlib.Path, records: int = RECORDS) -> Dataset:
    """Texas-100 from `data_dir`/texas100: x (67330, 6169) of zeros and ones, 100 classes, no official split.

    records: how many there must be. Nothing is unpacked to disk. Raises DataError if the file is missing or is not so.
    """
    return Dataset.of("texas100", *parse_texas100(FILES[0].read(data_dir), records), CLASSES)


def parse_texas100(archive: bytes, records: int = RECORDS) -> tuple[np.ndarray, np.ndarray]:
    """Bits (N, 6169) uint8 and labels (N,) int64 of the archive; DataError unless they are those of N `records`."""
    limits = {FEATURES: records * 2 * BITS, LABELS: records * len(b'"100"\n')}
    members = read_members(archive, limits, UNPACKED_LIMIT, NAME)
    # a line of features is a first bit, and the other 6,168 with a comma before each
    rest, first = parse_records(members[FEATURES], {b"0": 0, b"1": 1}, BITS - 1, f"{NAME}:{FEATURES}")
    _, y = parse_records(members[LABELS], HEADS, 0, f"{NAME}:{LABELS}")
    for count, name in ((len(rest), FEATURES), (len(y), LABELS)):
        check_count(count, records, f"{NAME}:{name}")
    return np.concatenate([first[:, None].astype(np.uint8), rest], axis=1), y  # (N, 6169), (N,)


FILES = (SourceFile("texas100", NAME, GITHUB_LIMIT, None, parse_texas100),)
