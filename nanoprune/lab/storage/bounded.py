"""Files of strangers within bounds: what a file promises is compared with what it holds before memory is taken for it.

A kilobyte of HDF5 or zip can name an array of 100 GB, and a megabyte of deflate unpacks to a gigabyte. So an array is
refused that is larger than deflate could have packed into its bytes, and one above FREE must be a hundredth of itself
in the file: memory never exceeds FREE or a hundred times the file, whichever is more.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from typing import Any

import h5py

from nanoprune.errors import DataError
from nanoprune.lab.storage.libhdf5 import look_through

DEFLATE_RATIO = 1032  # bytes that deflate can pack into one (zlib's technical details)
FREE = 1 << 28  # bytes that may be promised whatever their share in the file
SHARE = 100  # above FREE: promised bytes a byte in the file
JSON_LIMIT = 1 << 26  # bytes; results of a hundred seeds and networks have a few million
REMEDY = "write it again"
KINDS = "biufS"  # of numbers and of text of one length; others refer to the global heap, or are none of ours
H5 = h5py.h5z
# What h5py was seen to raise on damaged files, by `make fuzz`.
DAMAGE = (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError)
FILTERS = frozenset({H5.FILTER_DEFLATE, H5.FILTER_SHUFFLE, H5.FILTER_FLETCHER32, H5.FILTER_LZF})


def read_bounded(path: str | os.PathLike, limit: int) -> bytes:
    """The bytes of a file of at most `limit` bytes; DataError, naming it, if it is longer or cannot be read."""
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(data) > limit:
        raise DataError(f"{path}: longer than the {limit} bytes expected")
    return data


def read_json(path: str | os.PathLike, remedy: str, **options: Any) -> Any:
    """The value of a JSON file. options: of `json.loads`. Raises DataError, naming the file, where it is none.

    NaN and infinity, which JSON does not have, are refused; so is what is nested too deep to be read. remedy: what
    the reader of the error can do.
    """

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is no number of JSON")

    try:
        text = read_bounded(path, JSON_LIMIT).decode("utf-8")
        return json.loads(text, parse_constant=refuse, **options)
    except DataError as error:
        raise DataError(f"{error}; {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: no JSON ({first_line(error)}); {remedy}") from error


def check_promise(promised: int, stored: int, what: str, remedy: str, packed: bool = True) -> None:
    """DataError, naming `what`, if `promised` bytes of memory are too many for `stored` bytes of a file.

    packed: whether they are compressed there; else one byte of the file is one of memory.
    """
    most = max(min(DEFLATE_RATIO * stored, FREE), SHARE * stored) if packed else stored
    if promised > most:
        raise DataError(f"{what} asks for {promised:,} bytes of memory, {stored:,} bytes of the file hold it; {remedy}")


def open_hdf5(path: str | os.PathLike, remedy: str = REMEDY, mode: str = "r") -> h5py.File:
    """A stranger's HDF5 file, open. Raises DataError, naming it, where it is not safe to open, and what h5py raises
    (DAMAGE) where it is missing or no such file."""
    look_through(path, remedy)
    file = h5py.File(path, mode)
    if file.id.get_create_plist().get_sizes() != (8, 8):
        file.close()
        raise DataError(f"{path}: has lengths of another size than eight bytes; {remedy}")
    return file


def own_item(group: h5py.Group, name: str, path: str | os.PathLike, remedy: str = REMEDY) -> Any:
    """What lies at `name`, such as "admm/Z", in that very file. Raises DataError where that is nothing, or a link."""
    item: Any = group
    for part in name.split("/"):
        link = item.get(part, getlink=True) if isinstance(item, h5py.Group) else None
        if not isinstance(link, h5py.HardLink):
            raise DataError(f"{path}: {name} is {'missing' if link is None else 'a link to another place'}; {remedy}")
        item = item[part]
    return item


def stored_array(group: h5py.Group, name: str, path: str | os.PathLike, remedy: str = REMEDY) -> h5py.Dataset:
    """The dataset `name` of an HDF5 file, if all that it promises lies in that very file.

    Raises DataError, naming `path`, where it is missing, no dataset or a link, or its values lie in other files, are
    packed in another way than by gzip or lzf, in larger chunks than FREE, or fewer or more than it says.
    """
    what, item = f"{path}: {name}", own_item(group, name, path, remedy)
    if not isinstance(item, h5py.Dataset) or item.shape is None:
        raise DataError(f"{what} is no array; {remedy}")
    if item.dtype.kind not in KINDS:
        raise DataError(f"{what} holds {item.dtype}, expected numbers; {remedy}")
    properties = item.id.get_create_plist()
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    if item.is_virtual or item.external or set(filters) - FILTERS or len(set(filters)) < len(filters):
        raise DataError(f"{what} lies in other files, or is packed in an unusual way (gzip is usual); {remedy}")
    if item.chunks and math.prod(item.chunks) * item.dtype.itemsize > FREE:
        raise DataError(f"{what} is in chunks of {item.chunks}, which nobody writes; {remedy}")
    stored, size = item.id.get_storage_size(), os.path.getsize(path)
    if stored > size:
        raise DataError(f"{what} is said to take {stored:,} bytes of the file, which has {size:,}; {remedy}")
    check_promise(item.nbytes, stored, what, remedy, packed=bool({H5.FILTER_DEFLATE, H5.FILTER_LZF} & set(filters)))
    if H5.FILTER_DEFLATE in filters:
        _check_chunks(item, filters.index(H5.FILTER_DEFLATE), what, remedy)
    return item


def _check_chunks(item: h5py.Dataset, place: int, what: str, remedy: str) -> None:
    """DataError where a chunk, packed by the filter at `place`, unpacks to more than a chunk is: libhdf5 unpacks it.

    Looked at are those alone that could be above FREE. They must be as deflate made them: another filter behind it
    could hide what they are.
    """
    size = math.prod(item.chunks) * item.dtype.itemsize + 64  # a checksum may be with it
    chunks: list[Any] = []
    item.id.chunk_iter(chunks.append)
    for chunk in chunks:
        if chunk.size * DEFLATE_RATIO <= FREE or chunk.filter_mask >> place & 1:  # small, or deflate was left out
            continue
        try:
            whole = chunk.size <= size + size // 100 and item.id.read_direct_chunk(chunk.chunk_offset)[1]
            fits = whole and len(zlib.decompressobj().decompress(whole, size + 1)) <= size
        except zlib.error:
            fits = False
        if not fits:
            raise DataError(f"{what} has a chunk that is not what deflate makes of {size:,} bytes; {remedy}")


def stored_text(file: h5py.File, name: str, path: str | os.PathLike, remedy: str = REMEDY) -> str:
    """The text `name`, which `write_text` wrote. Raises DataError, naming `path`, where it is missing or none.

    Its length is part of its type. Of a text of any length libhdf5 takes, and fills, as much memory as the file names,
    up to 4 GiB, before it looks how much is there.
    """
    item = stored_array(file, name, path, remedy)
    if item.dtype.kind != "S" or item.shape != ():
        raise DataError(f"{path}: {name} is {item.dtype} {item.shape}, expected one text; {remedy}")
    try:
        return bytes(item[()]).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: {name} is no UTF-8; {remedy}") from error


def number_attribute(file: h5py.File, name: str, path: str | os.PathLike, remedy: str = REMEDY) -> int:
    """The attribute `name`, one integer. Raises DataError, naming `path`, where it is missing or something else."""
    if name not in file.attrs:
        raise DataError(f"{path}: attribute {name} is missing; {remedy}")
    about = file.attrs.get_id(name)
    if about.shape != () or about.dtype.kind not in "iu":
        raise DataError(f"{path}: attribute {name} is {about.dtype} {about.shape}, expected an integer; {remedy}")
    return int(file.attrs[name])


def first_line(error: BaseException) -> str:
    """The first line of what an error says, cut where it is long; else its class."""
    lines = str(error).splitlines()
    return lines[0][:200] if lines and lines[0] else type(error).__name__
