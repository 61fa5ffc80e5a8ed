"""Shadow predictions kept in a file, under a hash of everything that made them."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

import nanoprune
from nanoprune.audit.shadows import STAGES, Shadows
from nanoprune.checkpoint import Checkpoints
from nanoprune.errors import DataError
from nanoprune.hdf5 import new_file
from nanoprune.run import Run

FORMAT = 1


def cached(
    folder: str | os.PathLike | None, made_by: dict[str, Any], train: Callable[[Checkpoints | None], Shadows]
) -> Shadows:
    """The shadows that `made_by` describes: from their file in `folder`, else trained by `train` and kept there.

    made_by: plain data that says everything the predictions depend on. train is given a place for its checkpoints, so
    that it goes on where an earlier one was interrupted. Without a folder nothing is kept. Raises DataError, naming the
    file, where it is damaged or was made by something else: it is never used then.
    """
    if folder is None:
        return train(None)
    recipe = json.dumps({"format": FORMAT, "nanoprune": nanoprune.__version__} | made_by, sort_keys=True)
    digest = hashlib.sha256(recipe.encode()).hexdigest()
    path = pathlib.Path(folder) / f"shadows-{digest[:16]}.h5"
    if path.exists():
        return _read(path, recipe)
    with Run(path.with_suffix(".run"), resume=True, temporary=True, again="the same command goes on") as run:
        run.begin(json.loads(recipe))
        shadows = train(run.checkpoints)
        _write(path, recipe, shadows)
        run.finish()
    return shadows


def _write(path: pathlib.Path, recipe: str, shadows: Shadows) -> None:
    with new_file(path) as file:
        file.attrs["made_by"] = recipe
        file["inside"] = shadows.inside
        for kind in ("logits", "population"):
            for stage, values in getattr(shadows, kind).items():
                file[f"{kind}/{stage}"] = values
        if shadows.paths is not None:
            file["paths"] = shadows.paths
        file.attrs["content"] = _content(file)


def _read(path: pathlib.Path, recipe: str) -> Shadows:
    """The shadows of a file whose recipe and content are what they should be."""
    try:
        with h5py.File(path, "r") as file:
            if file.attrs["made_by"] != recipe:
                raise DataError(f"{path}: stale, made by another recipe or data set; delete it")
            if file.attrs["content"] != _content(file):
                raise DataError(f"{path}: changed since it was written; delete it")
            logits, population = (
                {stage: file[kind][stage][()] for stage in STAGES if stage in file[kind]}  # HDF5 sorts by name
                for kind in ("logits", "population")
            )
            return Shadows(file["inside"][()], logits, population, file["paths"][()] if "paths" in file else None)
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise DataError(f"{path}: damaged ({error}); delete it".replace("\n", " ")) from error


def _content(file: h5py.File) -> str:
    """SHA-256 over the names and the values of all arrays."""
    digest = hashlib.sha256()

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            values = np.ascontiguousarray(item[()])
            digest.update(f"{name} {values.dtype} {values.shape}".encode() + values.tobytes())

    file.visititems(add)
    return digest.hexdigest()
