"""Digits: 1,797 handwritten digits of 8x8 pixels (UCI, Alpaydin & Kaynak 1998), embedded; see data/README.md."""

import pathlib

from nanoprune.errors import DataError
from nanoprune.lab.data.dataset import Dataset
from nanoprune.lab.storage.bounded import DAMAGE, open_hdf5, stored_array

PACKAGE = pathlib.Path(__file__).parents[2]
PLACES = (PACKAGE.parent / "data" / "digits.h5", PACKAGE / "embedded" / "digits.h5")  # the repository, a wheel
LAYOUT = {"images": ("uint8", (1797, 64)), "labels": ("uint8", (1797,))}  # pixels 0 .. 16
SHA256 = "dc4d6d0d3cc61a19f3a88249f019997634c2e7ae0ed3c3c672451e8d71b8de2a"  # Dataset.sha256 of the true file
REMEDY = "restore data/digits.h5 or reinstall nanoprune"


def load_digits(path: pathlib.Path | None = None) -> Dataset:
    """The embedded digits: x (1797, 64), pixels 0 .. 16 scaled to [0, 1], 10 classes, no official split.

    path: the HDF5 file, None for the embedded one. Raises DataError if it is missing, damaged or another one.
    """
    if path is None:
        path = next((place for place in PLACES if place.is_file()), None)
        if path is None:
            raise DataError(f"digits: the embedded digits.h5 is missing; {REMEDY}")
    try:
        with open_hdf5(path, REMEDY) as file:
            arrays = {name: stored_array(file, name, path, REMEDY) for name in LAYOUT}
            found = {name: (array.dtype.name, array.shape) for name, array in arrays.items()}
            if found != LAYOUT:  # looked at before anything of that size is read
                raise DataError(f"{path}: holds {found}, expected {LAYOUT}; {REMEDY}")
            images, labels = (array[:] for array in arrays.values())
    except DAMAGE as error:  # from h5py, whose words on damage fill lines
        raise DataError(f"{path}: not a readable HDF5 file of images and labels; {REMEDY}") from error
    dataset = Dataset.of("digits", images, labels, classes=10, scale=16)
    if dataset.sha256 != SHA256:
        raise DataError(
            f"{path}: its records have SHA-256 {dataset.sha256[:16]}..., expected {SHA256[:16]}...; {REMEDY}"
        )
    return dataset
