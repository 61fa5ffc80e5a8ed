"""The data sets by name, and the folder they are looked for in."""

import os
import pathlib
from collections.abc import Sequence

from nanoprune.errors import ArgumentError
from nanoprune.lab.data.cifar import load_cifar10, load_cifar100
from nanoprune.lab.data.dataset import Dataset
from nanoprune.lab.data.digits import load_digits
from nanoprune.lab.data.folder import load_folder
from nanoprune.lab.data.location30 import load_location30
from nanoprune.lab.data.medical import load_adult, load_diabetes130, load_thyroid
from nanoprune.lab.data.mnist import load_mnist
from nanoprune.lab.data.packed import load_imagenet
from nanoprune.lab.data.pneumonia import load_pneumonia
from nanoprune.lab.data.purchase100 import load_purchase100
from nanoprune.lab.data.table_file import TABLES, Reading, is_table, load_table
from nanoprune.lab.data.texas100 import load_texas100
from nanoprune.lab.data.text import load_agnews, load_names
from nanoprune.lab.data.user_files import SUFFIXES, is_own, load_own

_LOADERS = {
    "digits": lambda data_dir: load_digits(),  # embedded: there is no folder to look in
    "mnist": load_mnist,
    "location30": load_location30,
    "purchase100": load_purchase100,
    "texas100": load_texas100,
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
    "imagenet": load_imagenet,
    "diabetes130": load_diabetes130,
    "thyroid": load_thyroid,
    "pneumonia": load_pneumonia,
    "adult": load_adult,
    "names": load_names,
    "agnews": load_agnews,
}
NAMES = tuple(_LOADERS)


def check_name(name: str) -> None:
    """ArgumentError, listing the names there are, unless `name` is one of them."""
    if name not in NAMES:
        own = ", ".join((*SUFFIXES, *TABLES))
        raise ArgumentError(
            f"data set must be one of {', '.join(NAMES)}, or a file of yours ({own}), or a folder of images, "
            f"got {name!r}"
        )


def find_data_dir(data_dir: str | os.PathLike | None = None) -> pathlib.Path:
    """The folder that holds one folder for each data set.

    `data_dir` if it is given, else the environment's NANOPRUNE_DATA, else the repository's data/, else, for an
    installed package, data/ in the current folder. The folder need not exist.
    """
    if data_dir is not None:
        return pathlib.Path(data_dir)
    if os.environ.get("NANOPRUNE_DATA"):
        return pathlib.Path(os.environ["NANOPRUNE_DATA"])
    repository = pathlib.Path(__file__).parents[3] / "data"
    return repository if (repository / "digits.h5").is_file() else pathlib.Path("data")


def load(
    name: str,
    data_dir: str | os.PathLike | None = None,
    *,
    label: str | None = None,
    group: str | None = None,
    categorical: Sequence[str] = (),
    drop: Sequence[str] = (),
) -> Dataset:
    """The data set `name`, read from its folder under `find_data_dir(data_dir)`; digits are embedded.

    name: of a built-in data set; or the path of a file with the arrays x and y (`load_own`), of a table
    (`load_table`), or of a folder of class folders of images (`load_folder`). label: the column of a table that has the
    classes; group: the one that says whose a record is; categorical: columns of numbers that are categories; drop:
    columns to leave out. Raises ArgumentError on another name or on columns for what is no table, DataError if a file
    is missing or not the published one, or is not what it should be.
    """
    reading = Reading(label, group, tuple(categorical), tuple(drop))
    if name not in NAMES and is_table(name):
        return load_table(name, reading)
    if reading:
        raise ArgumentError(f"label, group, categorical and drop are for tables ({', '.join(TABLES)}), got {name!r}")
    if name not in NAMES and is_own(name):
        return load_own(name)
    if name not in NAMES and os.path.isdir(name):
        return load_folder(name)
    check_name(name)
    return _LOADERS[name](find_data_dir(data_dir))
