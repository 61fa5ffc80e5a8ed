"""Packed files read as a stream: gzip, xz or neither, never more than the file may unpack to."""

from __future__ import annotations

import io
import lzma
import os
import zlib
from typing import Any, BinaryIO

from nanoprune.errors import DataError
from nanoprune.lab.storage.bounded import DEFLATE_RATIO, FREE, SHARE, first_line
from nanoprune.lab.storage.files import open_regular
from nanoprune.lab.storage.text import printable

CHUNK = 1 << 16  # packed bytes that are read at once, and unpacked bytes that are made at once
XZ_MEMORY = 1 << 28  # bytes that the decoder of an xz file may take: its header names the size of its dictionary
PACKED = {b"\x1f\x8b": "gzip", b"\xfd7": "xz"}  # how the data starts


def unpacker(kind: str) -> Any:
    """A new decoder of one stream of gzip or xz data."""
    return zlib.decompressobj(wbits=31) if kind == "gzip" else lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY)


class Unpacked(io.RawIOBase):
    """What a file of gzip or xz data unpacks to, at most `limit` bytes. Raises DataError, naming `source`, if there are
    more, or the data is damaged or cut off."""

    def __init__(self, file: BinaryIO, kind: str, limit: int, source: str) -> None:
        self.file, self.kind, self.left, self.source = file, kind, limit, source
        self.limit = limit
        self.decoder, self.packed, self.ready, self.begun = unpacker(kind), b"", b"", False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.ready:
            if not self.packed and not self._needs_none():
                self.packed = self.file.read(CHUNK)
                if not self.packed:
                    if self.begun:
                        raise DataError(f"{self.source}: damaged {self.kind} data (it ends too early)")
                    return 0
            try:
                self.ready = self._decoded()
            except (zlib.error, lzma.LZMAError, EOFError) as error:
                raise DataError(f"{self.source}: damaged {self.kind} data ({first_line(error)})") from error
        count = min(len(buffer), len(self.ready))
        buffer[:count], self.ready = self.ready[:count], self.ready[count:]
        return count

    def close(self) -> None:
        """Close the file, too."""
        if not self.closed:
            self.file.close()
        super().close()

    def _needs_none(self) -> bool:
        """Whether the xz decoder has more to give before it needs more data."""
        return self.kind == "xz" and self.begun and not self.decoder.needs_input

    def _decoded(self) -> bytes:
        """Some more bytes, perhaps none; a stream that ends is followed by the next one in the file, if any."""
        self.begun = True
        found = self.decoder.decompress(self.packed, CHUNK)
        self.packed = self.decoder.unconsumed_tail if self.kind == "gzip" else b""
        self.left -= len(found)
        if self.left < 0:
            raise DataError(f"{self.source}: unpacks to more than the {self.limit} bytes expected")
        if self.decoder.eof:
            self.packed = self.decoder.unused_data.lstrip(b"\0")  # zeros may follow
            self.decoder, self.begun = unpacker(self.kind), bool(self.packed)
        return found


def open_unpacked(path: str | os.PathLike) -> BinaryIO:
    """The content of a regular file for reading, unpacked where it starts as gzip or xz data does.

    It may unpack to FREE bytes, or SHARE times its size if that is more. Raises OSError where it cannot be opened, and
    while it is read DataError as `Unpacked` does.
    """
    file = open_regular(path)
    kind = PACKED.get(file.read(2))
    file.seek(0)
    if kind is None:
        return file
    size = os.fstat(file.fileno()).st_size
    most = max(min(DEFLATE_RATIO * size, FREE), SHARE * size) if kind == "gzip" else max(FREE, SHARE * size)
    return io.BufferedReader(Unpacked(file, kind, most, printable(path)), CHUNK)


def unpacked(data: bytes, limit: int, source: str) -> bytes:
    """`data` unpacked where it starts as gzip or xz data does; DataError if that is more than `limit` bytes."""
    kind = PACKED.get(data[:2])
    if kind is None:
        return data
    return io.BufferedReader(Unpacked(io.BytesIO(data), kind, limit, source), CHUNK).read()
