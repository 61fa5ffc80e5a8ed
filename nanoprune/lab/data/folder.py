"""A data set from a folder of class folders of JPEG files, few and small enough for memory."""

from __future__ import annotations

import os
import pathlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from nanoprune.errors import DataError
from nanoprune.lab.data.dataset import Dataset
from nanoprune.lab.data.pack import crop, find_images
from nanoprune.lab.storage.text import printable

SIDE = 64  # pixels: a network for small images takes them, and 10,000 colour images are 120 MB
MOST_BYTES = 1 << 30  # of all pixels
THREADS = 4


def load_folder(path: str | os.PathLike, side: int = SIDE) -> Dataset:
    """x (N, side, 3, side): `path`/CLASS/*.jpg, or `path`/train/CLASS and `path`/val/CLASS, the first of which are then
    the official training set. The shorter side is resized to `side` pixels, the middle square is kept.

    Classes are the folders in order of name. Files that are no JPEG data are refused by name; so are more images than
    fit into memory, which `data pack` puts into a file. Raises DataError, ArgumentError on a folder without images.
    """
    source, shown = find_images(path), printable(path)
    if len(source.paths) * 3 * side * side > MOST_BYTES:
        raise DataError(f"{shown}: {len(source.paths):,} images are too many for memory; pack them with `data pack`")
    with ThreadPoolExecutor(THREADS) as pool:  # Pillow releases the interpreter lock
        images = list(pool.map(lambda name: crop(source.folder / name, side, side), source.paths))
    broken = [name for name, image in zip(source.paths, images, strict=True) if image is None]
    if broken:
        raise DataError(f"{shown}: {printable(broken[0])} is no JPEG file that can be read; remove it")
    names = tuple(printable(name, 100) for name in source.classes)
    if len(names) < 2:
        raise DataError(f"{shown}: one class folder, {names[0]}; expected at least 2")
    name = printable(pathlib.Path(path).resolve().name)
    return Dataset.of(name, np.stack(images), source.labels, len(names), 255, source.train, class_names=names)
