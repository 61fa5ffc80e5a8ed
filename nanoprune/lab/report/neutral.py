"""matplotlib with its defaults, whatever the folder and the environment: equal results make equal plots everywhere.

A `matplotlibrc` in the current folder may be a stranger's, and text.usetex in it runs LaTeX on what it says. An unknown
MPLBACKEND is an error of the import, and a home that cannot be written to makes it print lines. Where matplotlib is
imported already, as in a notebook, its settings are the user's own and stay.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator


def import_matplotlib() -> None:
    """Import matplotlib with its default settings, unless it is imported already."""
    if "matplotlib" in sys.modules:
        return
    if not _cache_is_writable():
        folder = tempfile.mkdtemp(prefix="nanoprune-matplotlib-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["MPLCONFIGDIR"] = folder
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        with tempfile.TemporaryDirectory() as empty, _in_folder(empty):  # it would read ./matplotlibrc
            import matplotlib
        matplotlib.rcdefaults()
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


def _cache_is_writable() -> bool:
    """Whether matplotlib can make and fill the folders of its settings and of its font cache."""
    named, home = os.environ.get("MPLCONFIGDIR"), os.path.expanduser("~")
    usual = {"XDG_CONFIG_HOME": ".config", "XDG_CACHE_HOME": ".cache"}
    roots = [os.environ.get(name) or os.path.join(home, folder) for name, folder in usual.items()]
    try:
        for folder in [named] if named else [os.path.join(root, "matplotlib") for root in roots]:
            os.makedirs(folder, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _in_folder(folder: str) -> Iterator[None]:
    """Inside of it that folder is the current one; also where the current one is gone."""
    try:
        before = os.open(".", os.O_RDONLY) if hasattr(os, "fchdir") else os.getcwd()
    except OSError:
        yield
        return
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        if isinstance(before, int):
            os.close(before)


import_matplotlib()
