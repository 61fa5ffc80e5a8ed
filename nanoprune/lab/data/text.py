"""Texts as sequences of tokens: whole numbers, padded with 0 to a fixed length.

No vocabulary is fitted: characters have fixed numbers and words are hashed, so that no token says which words or
letters the members have.

names: 20,050 surnames of 18 languages, collected for PyTorch's tutorials by S. Robertson (spro/practical-pytorch, MIT).
agnews: the official test part of AG News, 7,600 articles of 4 topics (Zhang, Zhao & LeCun 2015, arXiv 1509.01626).
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import pathlib
import re
import zlib
from collections.abc import Sequence

import numpy as np

from nanoprune.errors import DataError
from nanoprune.lab.data.archive import read_members
from nanoprune.lab.data.dataset import Dataset
from nanoprune.lab.data.source import SourceFile
from nanoprune.lab.storage.bounded import first_line, read_bounded
from nanoprune.lab.storage.unpack import unpacked

PADDING = 0

NAMES = SourceFile(
    "names",
    "names.tar",
    1 << 20,  # the most bytes that it may unpack to: archives of the same files differ
    None,
    home="https://github.com/spro/practical-pytorch (data/names, as one archive of names/LANGUAGE.txt)",
)
NAMES_SHA256 = "d1b931fabf0fc686e74ee1cfc4635a775a1e7d73d64902dde12a5f48b56e87ac"
LANGUAGES = (
    *("Arabic", "Chinese", "Czech", "Dutch", "English", "French", "German", "Greek", "Irish", "Italian", "Japanese"),
    *("Korean", "Polish", "Portuguese", "Russian", "Scottish", "Spanish", "Vietnamese"),
)
LARGEST_FILE = 1 << 17  # bytes of one language
LETTERS = 20  # of a name; the longest has 20
ALPHABET = "".join(map(chr, (*range(0x20, 0x7F), *range(0xC0, 0x180))))  # ASCII, and Latin letters with marks
CHARACTERS = len(ALPHABET) + 2  # with padding, and one token for every other character

AGNEWS = SourceFile(
    "agnews",
    "test.csv",
    1_857_427,
    "521465c2428ed7f02f8d6db6ffdd4b5447c1c701962353eb2c40d548c3c85699",
    home="https://github.com/mhjabreel/CharCnn_Keras (data/ag_news_csv)",
)
TOPICS = ("World", "Sports", "Business", "Sci/Tech")
WORDS = 40  # of an article that are read; half of the articles have fewer
BUCKETS = 4096  # tokens of words, padding among them


def load_names(data_dir: pathlib.Path, sha256: str = NAMES_SHA256) -> Dataset:
    """18,012 names (N, 20) of characters, 18 languages. A name that is there twice in a language is kept once: a record
    of which a copy is a member would be no non-member.

    Reads `data_dir`/names/names.tar, perhaps packed. sha256: of the files' names and contents. Raises DataError if it
    is missing or not the published content.
    """
    path = NAMES.find(data_dir)
    if path is None:
        raise DataError(
            f"names: {NAMES.name} not found in {data_dir / NAMES.dataset}; get it from {NAMES.home}, or name the "
            "folder above with --data-dir or NANOPRUNE_DATA"
        )
    tar = unpacked(read_bounded(path, NAMES.limit), NAMES.size, str(path))
    of = {f"names/{language}.txt": LARGEST_FILE for language in LANGUAGES}
    files = read_members(gzip.compress(tar, 1, mtime=0), of, NAMES.size, str(path))  # its reader is for packed ones
    content = b"".join(name.encode() + b"\0" + bytes(files[name]) for name in of)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"{path}: its texts are not the published ones; get them from {NAMES.home}")
    try:
        lines = [(c, bytes(files[name]).decode().split("\n")) for c, name in enumerate(of)]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({first_line(error)})") from error
    named = list(dict.fromkeys((c, text.strip()) for c, texts in lines for text in texts if text.strip()))
    x = np.array([characters(text) for _, text in named], np.int32)
    y = np.array([c for c, _ in named])
    return Dataset.of("names", x, y, len(LANGUAGES), class_names=LANGUAGES, tokens=CHARACTERS)


def characters(text: str, length: int = LETTERS) -> list[int]:
    """The tokens of the first `length` characters: 1 + the place in ALPHABET, or for others the last token."""
    found = [ALPHABET.find(letter) for letter in text[:length]]
    return padded([1 + place if place >= 0 else CHARACTERS - 1 for place in found], length)


def load_agnews(data_dir: pathlib.Path, file: SourceFile = AGNEWS) -> Dataset:
    """7,600 articles (N, 40) of words, 4 topics: title and text, without capitals. Articles whose tokens are those of
    an earlier one with the same topic are left out.

    Raises DataError if the file is missing or not the published one.
    """
    content = file.read(data_dir)
    try:
        rows = list(csv.reader(io.StringIO(content.decode()), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"agnews: {file.name} is no table of UTF-8 text ({first_line(error)})") from error
    for number, row in enumerate(rows, 1):
        if len(row) != 3 or row[0] not in ("1", "2", "3", "4"):
            raise DataError(f"agnews: record {number} of {file.name} has no topic of 1 to 4, title and text")
    found = list(dict.fromkeys((int(topic) - 1, *words(f"{title} {text}")) for topic, title, text in rows))
    if not found:
        raise DataError(f"agnews: {file.name} has no record")
    array = np.array(found, np.int32)
    return Dataset.of("agnews", array[:, 1:], array[:, 0], len(TOPICS), class_names=TOPICS, tokens=BUCKETS)


def words(text: str, length: int = WORDS, buckets: int = BUCKETS) -> list[int]:
    """The tokens of the first `length` words: 1 + CRC-32 of the word without capitals, modulo buckets - 1 (the hashing
    trick, Weinberger et al. 2009, arXiv 0902.2206). A word is letters, digits and apostrophes."""
    found = re.findall(r"[a-z0-9']+", text.lower())[:length]
    return padded([1 + zlib.crc32(word.encode()) % (buckets - 1) for word in found], length)


def padded(tokens: Sequence[int], length: int) -> list[int]:
    """The tokens, and PADDING up to the length."""
    return [*tokens, *[PADDING] * (length - len(tokens))]
