"""Models as files: HDF5 that holds plain data and arrays, nothing that is executed. docs/formats.md describes it."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

import nanoprune
from nanoprune.backend import to_device, to_host
from nanoprune.errors import ArgumentError, DataError, VersionError
from nanoprune.lab.data.table import check_columns, feature_names
from nanoprune.lab.models.steps import SPLIT, check_about
from nanoprune.lab.storage.bounded import DAMAGE, first_line, number_attribute, open_hdf5, stored_text
from nanoprune.lab.storage.files import check_output
from nanoprune.lab.storage.hdf5 import Sparse, dense, new_file, packed, read_array, write_array, write_text
from nanoprune.lab.storage.text import printable
from nanoprune.lab.zoo import build, checked
from nanoprune.nn import Network

if TYPE_CHECKING:
    from nanoprune.lab.export.compiled import CompiledModel
    from nanoprune.lab.export.sparse import SparseModel

DENSE, SPARSE = 1, 2  # formats: all parameters, or those that are not zero
FORMATS = (DENSE, SPARSE)
ARRAYS = ("theta", "state")  # of the network, each (1, n) there; state, the running statistics, may be empty
REMEDY = "write it again with `train`"
OTHER_KINDS = {  # suffixes under which `load_model`, or a user, would take a model for something else
    ".npz": "predictions",
    ".csv": "predictions",
    ".safetensors": "the weights of another program",
    ".json": "results",
    ".html": "a page",
}
MAX_PARAMETERS = 2_000_000_000  # of one model; a description that asks for more is damaged or hostile


@dataclasses.dataclass
class Model:
    """A network of one replica, and what is needed to train it further: where its members came from, and its history.

    dataset: name. data_sha256: of the records. members, reference, nonmembers, seed: arguments of `make_split`.
    steps: what was done to it, one plain record a step (`steps.py`). class_names: the label of each class, where the
    data set has labels of its own. table: what its columns are, where it is a table, so that it is encoded alike.
    """

    net: Network
    dataset: str
    data_sha256: str
    members: int | None
    reference: int
    nonmembers: int
    seed: int
    steps: list[dict[str, Any]]
    class_names: list[str] | None = None
    table: dict[str, Any] | None = None

    def sparse(self) -> SparseModel:
        """The network for inference that leaves pruned weights out where that pays; see `lab.export.sparse`."""
        from nanoprune.lab.export.sparse import SparseModel

        return SparseModel(self.net)

    def compiled(self) -> CompiledModel:
        """The same as C code of this machine, faster for few records; needs a C compiler. See `lab.export.compiled`."""
        from nanoprune.lab.export.compiled import CompiledModel

        return CompiledModel(self.net)


FIELDS = (*SPLIT, "steps")
OPTIONAL = ("class_names", "table")


def check_records(model: Model, dataset: Any) -> None:
    """DataError unless `dataset` (`lab.data.Dataset`) is what the model was trained on, by its hash, and fits it."""
    check_columns(dataset.name, dataset.table, model.table)
    if dataset.sha256 != model.data_sha256:
        raise DataError(
            f"{dataset.name}: not the records that the model was trained on; name those with --data (and "
            "--members-file where a file named the members), or their folder with --data-dir"
        )
    if model.net.input_shape != dataset.x.shape[1:] or model.net.output_shape != (dataset.classes,):
        raise DataError(
            f"the model maps {model.net.input_shape} to {model.net.output_shape}: not made for {dataset.name}"
        )


def check_model_path(path: str | os.PathLike) -> None:
    """Refuse, before the work, a model file that could not be written or would not be read (`check_output`)."""
    check_output(path, OTHER_KINDS)


def save_model(model: Model, path: str | os.PathLike) -> None:
    """Write `model` to `path`, whole or not at all, and without zeros where that is smaller.

    Raises DataError where it cannot be written, ArgumentError on a name under which no command would read it.
    """
    check_model_path(path)
    about = {name: getattr(model, name) for name in FIELDS}
    about |= {name: getattr(model, name) for name in OPTIONAL if getattr(model, name) is not None}
    arrays = {name: packed(to_host(getattr(model.net, name))[0]) for name in ARRAYS}
    is_sparse = any(isinstance(array, Sparse) for array in arrays.values())
    with new_file(path) as file:
        file.attrs["format"] = SPARSE if is_sparse else DENSE
        write_text(file, "nanoprune", nanoprune.__version__)
        write_text(file, "network", json.dumps(model.net.description))
        write_text(file, "model", json.dumps(about))
        for name, array in arrays.items():
            if array.shape != (0,):
                write_array(file, name, array, compression="gzip", shuffle=True)


def load_model(path: str | os.PathLike) -> Model:
    """Read a model. Every size is checked before anything is made from it.

    Raises DataError, naming the file, where it is missing, damaged, of another format or not what it says.
    """
    if pathlib.Path(path).suffix.lower() in (".npz", ".csv"):
        raise DataError(f"{path}: not a nanoprune model; predictions are for `audit`")
    try:
        with open_hdf5(path, REMEDY) as file:
            if "target_labels" in file:
                raise DataError(f"{path}: predictions, not a model; use `audit`")
            return _read(file, path)
    except OSError as error:
        reason = "not found" if not os.path.exists(path) else f"cannot be read as HDF5 ({first_line(error)})"
        raise DataError(f"{path}: {reason}; name a model that `train` or `prune` wrote") from error
    except DAMAGE as error:
        raise DataError(f"{path}: not a nanoprune model ({first_line(error)}); write it again with `train`") from error


def _read(file: h5py.File, path: str | os.PathLike) -> Model:
    version = number_attribute(file, "format", path, REMEDY)
    if version not in FORMATS:
        by = stored_text(file, "nanoprune", path, REMEDY)
        reads = " and ".join(map(str, FORMATS))
        raise VersionError(f"{path}: format {version}, this version reads {reads}; use nanoprune {printable(by, 40)}")
    about = json.loads(stored_text(file, "model", path, REMEDY))
    check_about(about, printable(path, 400))
    net = _network(json.loads(stored_text(file, "network", path, REMEDY)), file, path)
    table = about.get("table")
    if table is not None and (len(feature_names(table)),) != net.input_shape:
        raise DataError(f"{path}: its columns make {len(feature_names(table)):,} features, its network takes others")
    return Model(net, **{name: about[name] for name in (*FIELDS, *OPTIONAL) if name in about})


def _network(description: dict[str, Any], file: h5py.File, path: str | os.PathLike) -> Network:
    try:
        of = checked(description)
        layout = build(of, replicas=0)  # the layout alone: no memory for parameters yet
    except ArgumentError as error:
        raise DataError(f"{path}: {error}") from error
    values = {name: _values(file, name, getattr(layout, name).shape[1], path) for name in ARRAYS}
    net = build(of)
    for name in ARRAYS:
        getattr(net, name)[0] = to_device(values[name])
    if any(to_host(s.value).min() < s.least for s in net.statistics):
        raise DataError(f"{path}: state holds a negative variance; train the model again")
    return net


def _values(file: h5py.File, name: str, size: int, path: str | os.PathLike) -> np.ndarray:
    """The array `name` (size,) of a file, checked before memory is taken for it."""
    if not size and name not in file:
        return np.empty(0, np.float32)
    if size > MAX_PARAMETERS:
        raise DataError(f"{path}: its network has {size:,} values of {name}, at most {MAX_PARAMETERS:,} are read")
    values = dense(read_array(file, name, path, REMEDY), (size,), np.float32, f"{path}: {name}")
    if not np.isfinite(values).all():
        raise DataError(f"{path}: {name} holds NaN or infinity; train the model again")
    return values
