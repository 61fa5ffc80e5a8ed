"""Fixtures shared by the tests."""

import os
import pathlib

import pytest
from hypothesis import settings

settings.register_profile("no deadline", deadline=None)  # a busy machine is no failure
settings.register_profile("mutants", deadline=None, derandomize=True, database=None)  # the same verdict every time
settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def data_dir() -> pathlib.Path:
    """The folder of the real data sets: NANOPRUNE_DATA, else ../shared/data beside the repository, else skip."""
    folder = os.environ.get("NANOPRUNE_DATA") or pathlib.Path(__file__).parents[2] / "shared" / "data"
    if not pathlib.Path(folder).is_dir():
        pytest.skip("no real data: name the folder above mnist/ and location30/ in NANOPRUNE_DATA")
    return pathlib.Path(folder)
