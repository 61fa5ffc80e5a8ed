"""The identity of a run: everything that the bits of its results depend on."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.util
import pathlib
import platform
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
import scipy
import threadpoolctl

import nanoprune
from nanoprune.backend import device_name, precision
from nanoprune.lab.data import Dataset, Split, splits_sha256


def identity(
    dataset: Dataset, recipe: Any, seeds: Sequence[int], threads: int, splits: Sequence[Split], **more: Any
) -> dict[str, Any]:
    """Data, recipe, seeds, device, versions, code and kernels of a run, as plain data."""
    code = {"blas": blas(), "kernels": kernels(), "code": code_sha256()}
    return {
        "dataset": dataset.title,
        "data_sha256": dataset.sha256,
        "splits_sha256": splits_sha256(splits),
        "seeds": list(seeds),
        "threads": threads,
        "device": device_name(),
        "precision": precision(),
        "versions": versions() | code,
        "recipe": dataclasses.asdict(recipe),
    } | more


def versions() -> dict[str, str]:
    """Versions of nanoprune, Python and the libraries that compute or write results; Numba's where it is installed."""
    compiler = {"numba": importlib.metadata.version("numba")} if importlib.util.find_spec("numba") else {}
    return {
        "nanoprune": nanoprune.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "h5py": h5py.__version__,
    } | compiler


def blas() -> list[str]:
    """The BLAS libraries that are loaded, each with the processor type of its kernels."""
    of = ("internal_api", "version", "architecture")
    libraries = [i for i in threadpoolctl.threadpool_info() if i["user_api"] == "blas"]
    return sorted({" ".join(str(library.get(name)) for name in of) for library in libraries})


def kernels() -> list[str]:
    """The instruction sets of NumPy's elementwise loops: they differ in the rounding of the last bit."""
    extensions = np.show_config(mode="dicts").get("SIMD Extensions", {})
    return sorted({*extensions.get("baseline", []), *extensions.get("found", [])})


@functools.cache
def code_sha256() -> str:
    """SHA-256 of the source of this package: a run is resumed only by the code that began it."""
    folder, digest = pathlib.Path(nanoprune.__file__).parent, hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()
