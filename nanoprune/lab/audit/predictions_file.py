"""Predictions written to the files that an audit reads (`predictions.py`)."""

from __future__ import annotations

import csv
import os
import pathlib

import numpy as np

from nanoprune.errors import ArgumentError
from nanoprune.lab.audit.predictions import Predictions
from nanoprune.lab.storage.files import atomic_path


def check_predictions_path(path: str | os.PathLike) -> None:
    """ArgumentError unless the suffix of `path` is one that predictions are written with: .npz or .csv."""
    suffix = pathlib.Path(path).suffix.lower()
    if suffix not in (".npz", ".csv"):
        raise ArgumentError(f"{path}: predictions are written as .npz or .csv, got {suffix or 'no suffix'}")


def write_predictions(predictions: Predictions, path: str | os.PathLike) -> None:
    """Write predictions to `path`, .npz or .csv, whole or not at all: logits where they are known, else probabilities.

    In a .csv floats have the digits that give the same float64 again. Raises ArgumentError on another suffix.
    """
    check_predictions_path(path)
    known = predictions.logits is not None
    values = predictions.logits if known else predictions.p
    with atomic_path(path) as temporary:
        if pathlib.Path(path).suffix.lower() == ".npz":
            arrays = {
                "target_logits" if known else "target_probs": values,
                "target_labels": predictions.y,
                "target_member": predictions.member,
            }
            if predictions.group is not None:
                arrays["target_group"] = predictions.group
            with open(temporary, "wb") as file:
                np.savez(file, **arrays)
        else:
            columns = {"label": predictions.y, "member": predictions.member.astype(int)}
            if predictions.group is not None:
                columns["group"] = predictions.group
            columns |= {f"{'z' if known else 'p'}{c}": column for c, column in enumerate(values.T)}
            with open(temporary, "w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(columns)
                writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
