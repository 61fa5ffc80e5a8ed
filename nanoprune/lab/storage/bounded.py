"""Bounded reading of untrusted files: declared sizes are compared with stored ones before memory is allocated.

A kilobyte of HDF5 or zip can declare an array of 100 GB, and a megabyte of deflate unpacks to a gigabyte. So an array
is refused if it is larger than deflate could have packed into its bytes, and one above FREE must take at least a
hundredth of its size in the file: memory never exceeds FREE or a hundred times the file, whichever is more.

A link in an HDF5 file can lead to any file of the reader's machine, and libhdf5 follows it whenever its name is looked
up, even by `name in group`. So every link of a file is examined when it is opened, and only hard links are accepted.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import os
import zlib
from typing import IO, Any

import h5py

from nanoprune.errors import DataError
from nanoprune.lab.storage.files import open_regular
from nanoprune.lab.storage.libhdf5 import check_structure
from nanoprune.lab.storage.text import printable

DEFLATE_RATIO = 1032  # bytes that deflate can pack into one (zlib's technical details)
FREE = 1 << 28  # bytes that may be declared whatever the file holds
SHARE = 100  # above FREE: bytes declared per byte in the file, at most
JSON_LIMIT = 1 << 26  # bytes; results of a hundred seeds and networks have a few million
MOST_LINKS = 100_000  # names in one HDF5 file; a checkpoint has at most 10,000
REMEDY = "write it again"
ANOTHER_PLACE = "a link to another place"
KINDS = "biufS"  # numbers and text of a fixed length; other types use the global heap, or are never written by us
H5 = h5py.h5z
# Exceptions of h5py on damaged files, found by `make fuzz`.
DAMAGE = (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError)
FILTERS = frozenset({H5.FILTER_DEFLATE, H5.FILTER_SHUFFLE, H5.FILTER_FLETCHER32, H5.FILTER_LZF})


def read_bounded(path: str | os.PathLike, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes; DataError, naming it, if it is longer or cannot be read."""
    try:
        with open_regular(path) as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise DataError(f"{printable(path)}: cannot be read ({error.strerror or error})") from error
    if len(data) > limit:
        raise DataError(f"{printable(path)}: longer than the {limit} bytes expected")
    return data


def read_json(path: str | os.PathLike, remedy: str, **options: Any) -> Any:
    """The value in a JSON file. options: of `json.loads`. Raises DataError, naming the file, where it is not JSON.

    NaN and infinity, which JSON does not have, are refused; so is nesting too deep to be parsed. remedy: the advice at
    the end of the error message.
    """

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is not a JSON number")

    try:
        text = read_bounded(path, JSON_LIMIT).decode("utf-8")
        return json.loads(text, parse_constant=refuse, **options)
    except DataError as error:
        raise DataError(f"{error}; {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{printable(path)}: not JSON ({first_line(error)}); {remedy}") from error


def unpacked(file: IO[bytes], path: str | os.PathLike) -> io.BufferedReader:
    """The bytes that a gzip file holds, unpacked as they are read; DataError, naming `path`, where they are more than
    `check_promise` allows for its size."""
    stored = os.fstat(file.fileno()).st_size

    class Counted(io.RawIOBase):
        count = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            data = source.read(len(buffer))
            self.count += len(data)
            check_promise(self.count, stored, f"{path}: what is packed", "write it with fewer records, or as .npz")
            buffer[: len(data)] = data
            return len(data)

    source = gzip.GzipFile(fileobj=file, mode="rb")
    return io.BufferedReader(Counted(), 1 << 16)


def check_promise(promised: int, stored: int, what: str, remedy: str, packed: bool = True) -> None:
    """Raises DataError, naming `what`, if `promised` bytes of memory are too many for `stored` bytes of a file.

    packed: whether they are compressed in the file; otherwise each byte of memory needs one byte of the file.
    """
    most = max(min(DEFLATE_RATIO * stored, FREE), SHARE * stored) if packed else stored
    if promised > most:
        raise DataError(f"{what} declares {promised:,} bytes of memory for {stored:,} bytes in the file; {remedy}")


def open_hdf5(path: str | os.PathLike, remedy: str = REMEDY, locking: bool | None = None) -> h5py.File:
    """An untrusted HDF5 file, open for reading. locking: of `h5py.File`; False where this process has locked it itself.

    Raises DataError, naming it, where it is not safe to open, not a regular file, or has a link that is not a hard one;
    OSError where it is missing, damaged or not an HDF5 file.
    """
    if os.path.exists(path):
        open_regular(path).close()
    check_structure(path, remedy)
    file = h5py.File(path, "r", locking=locking)
    try:
        if file.id.get_create_plist().get_sizes() != (8, 8):
            raise DataError(f"{path}: its lengths and offsets do not have eight bytes; {remedy}")
        _refuse_links(file, path, remedy)
    except BaseException as error:
        file.close()
        if isinstance(error, DAMAGE):
            raise OSError(first_line(error)) from error
        raise
    return file


def _refuse_links(file: h5py.File, path: str | os.PathLike, remedy: str) -> None:
    """Raises DataError on a soft or external link, or more than MOST_LINKS names. No link is followed."""
    groups, visited, names = [file.id], set(), 0
    while groups:
        group = groups.pop()
        for name in group:  # bytes: a name need not be text
            names += 1
            if names > MOST_LINKS:
                raise DataError(f"{path}: has more than {MOST_LINKS:,} names; {remedy}")
            if group.links.get_info(name).type != h5py.h5l.TYPE_HARD:
                raise DataError(f"{path}: {printable(name.decode('utf-8', 'replace'))} is {ANOTHER_PLACE}; {remedy}")
            about = h5py.h5o.get_info(group, name)
            if about.type == h5py.h5o.TYPE_GROUP and about.addr not in visited:
                visited.add(about.addr)  # a group may contain itself
                groups.append(h5py.h5g.open(group, name))


def check_link(group: h5py.Group, name: str, path: str | os.PathLike, remedy: str = REMEDY) -> None:
    """Raises DataError, naming `path`, unless `name` is a hard link of the group, to an object in the same file."""
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise DataError(f"{path}: {printable(name)} is {_kind_of(link)}; {remedy}")


def _kind_of(link: Any) -> str:
    return "missing" if link is None else ANOTHER_PLACE


def own_item(group: h5py.Group, name: str, path: str | os.PathLike, remedy: str = REMEDY) -> Any:
    """The object `name`, such as "admm/Z", in the same file. Raises DataError where it is missing, or a link."""
    item: Any = group
    for part in name.split("/"):
        if not isinstance(item, h5py.Group):
            raise DataError(f"{path}: {printable(name)} is missing; {remedy}")
        check_link(item, part, path, remedy)
        item = item[part]
    return item


def stored_array(group: h5py.Group, name: str, path: str | os.PathLike, remedy: str = REMEDY) -> h5py.Dataset:
    """The dataset `name` of an HDF5 file, if all values that it declares are stored in the same file.

    Raises DataError, naming `path`, where it is missing, a group or a link, or its values are in other files, are
    compressed by other filters than gzip or lzf, are in chunks larger than FREE, or are fewer or more than declared.
    """
    what, item = f"{path}: {printable(name)}", own_item(group, name, path, remedy)
    if not isinstance(item, h5py.Dataset) or item.shape is None:
        raise DataError(f"{what} is not an array; {remedy}")
    if item.dtype.kind not in KINDS:
        raise DataError(f"{what} holds {item.dtype}, expected numbers; {remedy}")
    properties = item.id.get_create_plist()
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    if item.is_virtual or item.external or set(filters) - FILTERS or len(set(filters)) < len(filters):
        raise DataError(f"{what} is stored in other files, or compressed otherwise than by gzip or lzf; {remedy}")
    if item.chunks and math.prod(item.chunks) * item.dtype.itemsize > FREE:
        raise DataError(f"{what} is in chunks of {item.chunks}, which are too large; {remedy}")
    stored, size = item.id.get_storage_size(), os.path.getsize(path)
    if stored > size:
        raise DataError(f"{what} declares {stored:,} stored bytes, the file has {size:,}; {remedy}")
    check_promise(item.nbytes, stored, what, remedy, packed=bool({H5.FILTER_DEFLATE, H5.FILTER_LZF} & set(filters)))
    if H5.FILTER_DEFLATE in filters:
        _check_chunks(item, filters.index(H5.FILTER_DEFLATE), what, remedy)
    return item


def _check_chunks(item: h5py.Dataset, place: int, what: str, remedy: str) -> None:
    """Raises DataError where a chunk, compressed by the filter at `place`, unpacks to more than a chunk's size.

    libhdf5 would unpack all of it. Only chunks that could exceed FREE are examined. Deflate must be their last filter:
    another one after it could hide their size.
    """
    size = math.prod(item.chunks) * item.dtype.itemsize + 64  # a checksum may follow
    chunks: list[Any] = []
    item.id.chunk_iter(chunks.append)
    for chunk in chunks:
        if chunk.size * DEFLATE_RATIO <= FREE or chunk.filter_mask >> place & 1:  # small, or deflate was skipped
            continue
        try:
            whole = chunk.size <= size + size // 100 and item.id.read_direct_chunk(chunk.chunk_offset)[1]
            fits = whole and len(zlib.decompressobj().decompress(whole, size + 1)) <= size
        except zlib.error:
            fits = False
        if not fits:
            raise DataError(f"{what} has a chunk that does not unpack to at most {size:,} bytes; {remedy}")


def stored_text(file: h5py.File, name: str, path: str | os.PathLike, remedy: str = REMEDY) -> str:
    """The text `name`, as `write_text` wrote it. Raises DataError, naming `path`, where it is missing or not a text.

    Its length is part of its type. For a text of variable length libhdf5 allocates and fills as much memory as the file
    declares, up to 4 GiB, before it checks the stored length.
    """
    item = stored_array(file, name, path, remedy)
    if item.dtype.kind != "S" or item.shape != ():
        raise DataError(f"{path}: {name} is {item.dtype} {item.shape}, expected one text; {remedy}")
    try:
        return bytes(item[()]).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: {name} is not UTF-8; {remedy}") from error


def number_attribute(file: h5py.File, name: str, path: str | os.PathLike, remedy: str = REMEDY) -> int:
    """The attribute `name`, an integer. Raises DataError, naming `path`, where it is missing or of another type."""
    if name not in file.attrs:
        raise DataError(f"{path}: attribute {name} is missing; {remedy}")
    about = file.attrs.get_id(name)
    if about.shape != () or about.dtype.kind not in "iu":
        raise DataError(f"{path}: attribute {name} is {about.dtype} {about.shape}, expected an integer; {remedy}")
    return int(file.attrs[name])


def first_line(error: BaseException) -> str:
    """The first line of an error's message, escaped and cut (`printable`); its class where it has no message."""
    lines = str(error).splitlines()
    return printable(lines[0]) if lines and lines[0] else type(error).__name__
