"""Files of data sets as they were published: found, read within bounds, and verified before anything parses them."""

import hashlib
import os
import pathlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nanoprune.errors import DataError
from nanoprune.lab.storage.bounded import read_bounded
from nanoprune.lab.storage.unpack import unpacked

GZIP = b"\x1f\x8b"  # how gzip data starts
GITHUB_LIMIT = 100 << 20  # bytes: no file of a repository on GitHub is larger


@dataclass(frozen=True)
class SourceFile:
    """A published file: its data set, its name, and the size in bytes and SHA-256 of its content.

    The content of a packed file (.gz, or .xz beside a plain name) is what it unpacks to: the wrapping differs among
    mirrors. Archives (.tgz, .tar.gz) are taken as they are. home: where it is to be had, if not by `fetch`.
    sha256 None: not known to us; `size` is then the largest number of bytes, and `parse`, which takes the content and
    raises DataError unless all of it is as it should be, stands for it.
    """

    dataset: str
    name: str
    size: int
    sha256: str | None
    parse: Callable[[bytes], Any] | None = field(default=None, compare=False)
    home: str = ""

    @property
    def limit(self) -> int:
        """The most bytes that the file may have: those of its content, and room for a gzip wrapping without packing."""
        return self.size + (1 << 16)

    def find(self, data_dir: pathlib.Path) -> pathlib.Path | None:
        """Where the file is under `data_dir`, as published or unpacked by hand; None if it is not there."""
        folder = data_dir / self.dataset
        names = (self.name, self.name.removesuffix(".gz"), f"{self.name}.xz", f"{self.name}.gz")
        return next((folder / name for name in names if os.path.isfile(folder / name)), None)

    def read(self, data_dir: pathlib.Path) -> bytes:
        """The verified content of the file; DataError if it is missing, unreadable or not the published one."""
        path = self.find(data_dir)
        fetch = f"get it from {self.home}" if self.home else f"run 'python cli.py data fetch {self.dataset}'"
        if path is None:
            raise DataError(
                f"{self.dataset}: {self.name} not found in {data_dir / self.dataset}; {fetch}, "
                "or name the folder above with --data-dir or NANOPRUNE_DATA"
            )
        try:
            return self.verify(read_bounded(path, self.limit), str(path))
        except DataError as error:
            raise DataError(f"{error}; remove it and {fetch}") from error

    def check(self, data: bytes, source: str) -> None:
        """DataError, naming `source`, unless `data` is the published file, by its hash or else record by record."""
        content = self.verify(data, source)
        if self.sha256 is None and self.parse is not None:
            try:
                self.parse(content)
            except DataError as error:
                raise DataError(f"{source}: {error}") from error

    def verify(self, data: bytes, source: str) -> bytes:
        """The content of `data`, the file's bytes; DataError, naming `source`, if it is not the published content.

        Where the hash is not known only the kind of file is looked at; `check`, or whoever reads it, parses it.
        """
        if self.sha256 is None:
            if not data.startswith(GZIP):
                raise DataError(f"{source}: starts with {data[:4].hex(' ') or 'nothing'}, expected a gzip archive")
            return data
        if not self.name.endswith((".tgz", ".tar.gz")):
            data = unpacked(data, self.size, source)
        found = hashlib.sha256(data).hexdigest()
        if found != self.sha256:
            raise DataError(
                f"{source}: its content is {len(data)} bytes with SHA-256 {found[:16]}..., "
                f"expected {self.size} bytes with {self.sha256[:16]}..."
            )
        return data
