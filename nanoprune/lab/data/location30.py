"""Location-30: 5,010 users, 446 bits each, one of 30 clusters of places visited.

Check-ins in Bangkok (Yang, Zhang, Qu 2016), prepared by Shokri et al. 2017 (arXiv 1610.05820, section VI-A); the file
of https://github.com/privacytrustlab/datasets.
"""

import pathlib

from nanoprune.lab.data.archive import read_members
from nanoprune.lab.data.dataset import Dataset
from nanoprune.lab.data.records import parse_records
from nanoprune.lab.data.source import SourceFile

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


HEADS = {b'"%d"' % (label + 1): label for label in range(CLASSES)}


def load_location30(data_dir: pathlib.Path, file: SourceFile = FILES[0]) -> Dataset:
    """Location-30 from `data_dir`/location30: x (5010, 446) of zeros and ones, 30 classes, no official split.

    Nothing is unpacked to disk. Raises DataError if the file is missing or not the published one.
    """
    content = read_members(file.read(data_dir), {MEMBER: UNPACKED_LIMIT}, UNPACKED_LIMIT, file.name)[MEMBER]
    records, labels = parse_records(content, HEADS, BITS, f"{file.name}:{MEMBER}")
    return Dataset.of("location30", records, labels, CLASSES)
