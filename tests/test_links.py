"""A link in an HDF5 file is never followed: not by a reader, and not by a check whether a name exists."""

import os
import pathlib
import sys

import h5py
import numpy as np
import pytest

from nanoprune.errors import DataError
from nanoprune.lab.audit import read_predictions
from nanoprune.lab.data import digits, packed
from nanoprune.lab.models.model import load_model
from nanoprune.lab.report.curves import open_curves
from nanoprune.lab.storage import bounded
from nanoprune.lab.storage.bounded import open_hdf5, own_item
from nanoprune.lab.storage.checkpoint import read_checkpoint

sys.path.insert(0, str(pathlib.Path(__file__).parent / "fuzz"))
import seeds


def read_curves(path: pathlib.Path) -> None:
    with open_curves(path) as curves:
        assert "prune-0.1" in curves


READERS = {
    "model": (seeds.model_file, load_model),
    "checkpoint": (seeds.checkpoint_file, read_checkpoint),
    "predictions": (seeds.predictions_h5, read_predictions),
    "curves": (seeds.curves_file, read_curves),
    "packed images": (seeds.packed_images, lambda path: packed.load_packed(path, "imagenet")),
    "digits": (seeds.digits_file, digits.load_digits),
}
LINKS = {
    "soft": h5py.SoftLink("/elsewhere"),
    "soft, to itself": h5py.SoftLink("/target_labels"),
    "external": h5py.ExternalLink("secret.h5", "/x"),
    "external, a pipe": h5py.ExternalLink("pipe", "/x"),
    "external, without an end": h5py.ExternalLink("/dev/zero", "/x"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """A private file that the reader may read, and a pipe that blocks its reader."""
    folder = tmp_path_factory.mktemp("links")
    with h5py.File(folder / "secret.h5", "w") as file:
        file["x"] = np.arange(3.0)
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("place", ["target_labels", "theta", "a", "a/group/b"])
@pytest.mark.parametrize("reader", READERS)
def test_no_reader_follows_a_link(folder, reader, place, link):
    """target_labels and theta are names that readers look up before they read anything. A reader that opened the pipe
    would wait for ever."""
    seed, read = READERS[reader]
    path = folder / "x.h5"
    path.write_bytes(seed())
    read(path)  # else the refusal could be of something else
    with h5py.File(path, "r+") as file:
        if place in file:
            del file[place]
        file[place] = LINKS[link]
    with pytest.raises(DataError, match=f"{place.split('/')[-1]} is a link to another place"):
        read(path)


def test_cyclic_groups_are_visited_once(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a/b/values"] = np.arange(3)
        file["a/again"] = file["a"]
        file["a/b/root"] = file["/"]
    with open_hdf5(tmp_path / "x.h5") as file:
        assert own_item(file, "a/again/b/values", "x.h5")[2] == 2


def test_a_link_behind_a_loop_of_groups_is_found(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a/again"] = file.create_group("b")
        file["b/back"] = file["a"]
        file["b/z"] = h5py.SoftLink("/a")
    with pytest.raises(DataError, match="z is a link to another place"):
        open_hdf5(tmp_path / "x.h5")


def test_endless_names_are_not_visited(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for n in range(11):
            file.create_group(str(n))
    open_hdf5(tmp_path / "x.h5").close()
    monkeypatch.setattr(bounded, "MOST_LINKS", 10)
    with pytest.raises(DataError, match="has more than 10 names"):
        open_hdf5(tmp_path / "x.h5")


def test_a_refused_file_is_closed_again(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a"] = h5py.SoftLink("/b")
    with pytest.raises(DataError):
        open_hdf5(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:  # h5py refuses to, while it is open for reading
        file["c"] = 1
