"""Shadow predictions kept in a file, under a hash of everything that made them."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import h5py
import numpy as np

import nanoprune
from nanoprune.errors import DataError
from nanoprune.lab.audit.shadows import STAGES, Shadows
from nanoprune.lab.engine.run_folder import Run
from nanoprune.lab.storage.bounded import DAMAGE, first_line, open_hdf5, own_item, stored_array, stored_text
from nanoprune.lab.storage.checkpoint import Checkpoints
from nanoprune.lab.storage.hdf5 import new_file, write_text

FORMAT = 1
KINDS = ("logits", "population")
BY_SHADOW = ("paths", "sensitivity")  # arrays that may be missing
REMEDY = "delete it"


def cached(
    folder: str | os.PathLike | None, made_by: dict[str, Any], train: Callable[[Checkpoints | None], Shadows]
) -> Shadows:
    """The shadows that `made_by` describes: from their file in `folder`, else trained by `train` and kept there.

    made_by: plain data that says everything the predictions depend on. train is given a place for its checkpoints, so
    that it resumes where an earlier one was interrupted. Without a folder nothing is kept. Raises DataError, naming the
    file, where it is damaged or was made by something else: it is never used then.
    """
    if folder is None:
        return train(None)
    recipe = json.dumps({"format": FORMAT, "nanoprune": nanoprune.__version__} | made_by, sort_keys=True)
    digest = hashlib.sha256(recipe.encode()).hexdigest()
    path = pathlib.Path(folder) / f"shadows-{digest[:16]}.h5"
    if path.exists():
        return read_shadows(path, recipe)
    with Run(path.with_suffix(".run"), resume=True, product=path, again="the same command resumes it") as run:
        run.begin(json.loads(recipe))
        if run.finished:  # by another process, while this one waited for it
            return read_shadows(path, recipe)
        shadows = train(run.checkpoints)
        run.finish(lambda folder: _write(folder / path.name, recipe, shadows))
    return shadows


def _write(path: pathlib.Path, recipe: str, shadows: Shadows) -> None:
    with new_file(path) as file:
        fill(file, recipe, shadows)


def fill(file: h5py.File, recipe: str, shadows: Shadows) -> None:
    """Write the shadows to a new file, with the text of what made them and the hash of their content."""
    write_text(file, "made_by", recipe)
    arrays = _arrays(shadows)
    for name, values in arrays.items():
        file[name] = values
    write_text(file, "content", _content(arrays))


def read_shadows(path: pathlib.Path, recipe: str, locking: bool | None = None) -> Shadows:
    """The shadows of a file that `fill` wrote with the same recipe. locking: of `open_hdf5`. Raises DataError, naming
    the file, where it is damaged, has another content than it says, or was made by another recipe."""
    try:
        with open_hdf5(path, REMEDY, locking) as file:
            if stored_text(file, "made_by", path, REMEDY) != recipe:
                raise DataError(f"{path}: stale, made by another recipe or data set; {REMEDY}")
            groups = {kind: own_item(file, kind, path, REMEDY) for kind in KINDS if kind in file}
            there = {f"{kind}/{name}" for kind, of in groups.items() if isinstance(of, h5py.Group) for name in of}
            there |= set(file)
            names = ["inside", *(f"{kind}/{stage}" for kind in KINDS for stage in STAGES), *BY_SHADOW]
            arrays = {name: stored_array(file, name, path, REMEDY)[()] for name in names if name in there}
            if stored_text(file, "content", path, REMEDY) != _content(arrays):
                raise DataError(f"{path}: changed since it was written; {REMEDY}")
    except DAMAGE as error:
        raise DataError(f"{path}: damaged ({first_line(error)}); {REMEDY}") from error
    logits, population = (
        {stage: arrays[f"{kind}/{stage}"] for stage in STAGES if f"{kind}/{stage}" in arrays} for kind in KINDS
    )
    shadows = Shadows(arrays.get("inside"), logits, population, *map(arrays.get, BY_SHADOW))
    if not _alike(shadows):
        raise DataError(f"{path}: its arrays are not those of shadow models; {REMEDY}")
    return shadows


def _alike(shadows: Shadows) -> bool:
    """Whether the arrays have the shapes and types of `Shadows`, all of the same shadows, records and classes."""
    inside, last = shadows.inside, list(shadows.logits.values())[-1:]
    if inside is None or inside.dtype != bool or inside.ndim != 2 or not last or last[0].ndim != 3:
        return False
    K, n, classes = *inside.shape, last[0].shape[2]
    m = {values.shape[1:2] for values in shadows.population.values()}
    expected = {f"logits/{stage}": (K, n, classes) for stage in shadows.logits}
    expected |= {f"population/{stage}": (K, *min(m), classes) for stage in shadows.logits if m}
    expected |= {"paths": (K, n)} if shadows.paths is not None else {}
    expected |= {"sensitivity": (K, n, classes)} if shadows.sensitivity is not None else {}
    arrays = {name: values for name, values in _arrays(shadows).items() if name != "inside"}
    shapes = {name: values.shape for name, values in arrays.items()}
    return shapes == expected and all(v.dtype.kind == "f" and np.isfinite(v).all() for v in arrays.values())


def _arrays(shadows: Shadows) -> dict[str, np.ndarray]:
    """All arrays by their names in the file."""
    arrays = {"inside": shadows.inside} | {name: getattr(shadows, name) for name in BY_SHADOW}
    arrays |= {f"{kind}/{stage}": values for kind in KINDS for stage, values in getattr(shadows, kind).items()}
    return {name: values for name, values in arrays.items() if values is not None}


def _content(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over the names and the values of all arrays, in the order of their names."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        values = np.ascontiguousarray(array)
        digest.update(f"{name} {values.dtype} {values.shape}".encode() + values.tobytes())
    return digest.hexdigest()
