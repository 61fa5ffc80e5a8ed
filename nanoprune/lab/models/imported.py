"""A model that was trained elsewhere, with the training records that its user names."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.data import Dataset
from nanoprune.lab.models.model import Model, check_records
from nanoprune.lab.storage.files import file_sha256
from nanoprune.nn import Network

UNKNOWN = "unknown"  # the data set of a model that came without one


def imported(
    net: Network, path: str | os.PathLike, dataset: Dataset | None, training: dict[str, Any] | None = None
) -> Model:
    """The model of a network that was read from `path`; trained on `dataset`'s official training set, if it is given.

    training: how it was trained as far as the user says: fields of `nanoprune.schedule.Schedule`.
    """
    step = {"step": "import", "file": os.path.basename(path), "sha256": file_sha256(path)} | (training or {})
    model = Model(net, UNKNOWN, "", None, 0, 0, 0, [step])
    return model if dataset is None else on_records(model, dataset)


def on_records(model: Model, dataset: Dataset) -> Model:
    """The model with its records: those of `dataset`, which must be its own unless the model does not know them.

    An imported model that came without its data takes the official training set of `dataset` for its members.
    Raises ArgumentError where the network is not made for the data, DataError where they are not what it was trained on
    or nobody says which of them it was trained on.
    """
    if model.dataset != UNKNOWN:
        check_records(model, dataset)
        return model
    if model.net.input_shape != dataset.x.shape[1:] or model.net.output_shape != (dataset.classes,):
        raise ArgumentError(
            f"the network maps {model.net.input_shape} to {model.net.output_shape}: not made for {dataset.name}, which "
            f"maps {dataset.x.shape[1:]} to {dataset.classes} classes"
        )
    held_out = len(dataset.y) - dataset.train
    if held_out < 2:
        raise DataError(
            f"{dataset.name}: does not say which records the model was trained on; name them with --members-file, or "
            "give the data file an array `member`"
        )
    names = None if dataset.class_names is None else list(dataset.class_names)
    known = {"dataset": dataset.name, "data_sha256": dataset.sha256, "nonmembers": held_out, "class_names": names}
    return dataclasses.replace(model, **known)
