"""Readers of the data sets, their download, and the split into members, reference and non-members."""

from nanoprune.lab.data.catalogue import NAMES, find_data_dir, load
from nanoprune.lab.data.dataset import Dataset
from nanoprune.lab.data.fetch import fetch
from nanoprune.lab.data.split import Split, make_split, splits_sha256

__all__ = ["NAMES", "Dataset", "Split", "fetch", "find_data_dir", "load", "make_split", "splits_sha256"]
