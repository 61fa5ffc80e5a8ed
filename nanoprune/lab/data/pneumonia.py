"""PneumoniaMNIST: 5,856 chest X-rays of children, 28 x 28, normal or pneumonia (Kermany et al. 2018, Yang et al. 2023).

The file is MedMNIST's by its content: arrays of the official parts. The copy that is known has the training images in
another order than MedMNIST's own file, so that its SHA-256 is another one.
"""

from __future__ import annotations

import io
import pathlib

import numpy as np

from nanoprune.errors import DataError
from nanoprune.lab.data.dataset import Dataset
from nanoprune.lab.data.source import SourceFile

FILE = SourceFile(
    "pneumoniamnist",
    "pneumoniamnist.npz",
    4_598_506,
    "1f76b8e936f237462a158127a14274535cc64d36c6b225413ce796a366e9148b",
    home="https://medmnist.com",
)
PARTS = ("train", "val", "test")
CLASSES = ("normal", "pneumonia")


def load_pneumonia(data_dir: pathlib.Path, file: SourceFile = FILE) -> Dataset:
    """x (5856, 28, 1, 28); the first 4,708 are the official training set, then come those for validation and test.

    Raises DataError if the file is missing or not the known one.
    """
    try:
        with np.load(io.BytesIO(file.read(data_dir)), allow_pickle=False) as arrays:
            images, labels = ([arrays[f"{part}_{what}"] for part in PARTS] for what in ("images", "labels"))
    except (ValueError, KeyError, OSError, EOFError) as error:
        raise DataError(f"pneumonia: {file.name} lacks images or labels of {', '.join(PARTS)}") from error
    x, y = np.concatenate(images)[:, :, None], np.concatenate(labels)[:, 0]
    return Dataset.of("pneumonia", x, y, len(CLASSES), 255, len(images[0]), class_names=CLASSES)
