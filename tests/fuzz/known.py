"""Hostile files that mutations do not reach, such as bombs, and files that once failed."""

import io
import json
import zlib
from typing import Any

import formats
import h5py
import numpy as np
from seeds import curves_file, hdf5, model_file, predictions, shadow_file

from nanoprune.lab.audit import cache
from nanoprune.lab.data import purchase100, texas100
from nanoprune.lab.storage.hdf5 import write_text
from nanoprune.lab.zoo import build


def zeros_in(member: str, size: int, megabytes: int) -> bytes:
    """A .tgz in which `member` declares `size` bytes, followed by zeros."""
    return formats.gzip_bomb(megabytes, formats.tar_header(member, size))


def newlines_in(member: str, size: int) -> bytes:
    """A .tgz in which `member` is `size` line feeds."""
    return formats.gzip_bomb(size >> 20, formats.tar_header(member, size), b"\n")


PURCHASE_SIZE = purchase100.RECORDS * (2 * purchase100.BITS + 6)
TEXAS_SIZE = texas100.RECORDS * 2 * texas100.BITS


def with_attribute(name: str, value: Any) -> bytes:
    """A model with another attribute."""
    stream = io.BytesIO(model_file())
    with h5py.File(stream, "r+") as file:
        file.attrs[name] = value
    return stream.getvalue()


def with_text(name: str, text: str) -> bytes:
    """A model with another text."""
    stream = io.BytesIO(model_file())
    with h5py.File(stream, "r+") as file:
        del file[name]
        write_text(file, name, text)
    return stream.getvalue()


def long_text(whole: bytes, name: str) -> bytes:
    """An HDF5 file with a text of variable length that declares 4 GB."""
    stream = io.BytesIO(whole)
    with h5py.File(stream, "r+") as file:
        text = file[name][()].decode()
        del file[name]
        file[name] = text
    data = bytearray(stream.getvalue())
    named = len(text).to_bytes(4, "little") + data.find(b"GCOL").to_bytes(8, "little")  # its length and where it lies
    assert data.count(named) == 1
    return bytes(data).replace(named, b"\0\0\0\xf0" + named[4:])


def long_field() -> bytes:
    """A model whose number of non-members is a text of a megabyte."""
    with h5py.File(io.BytesIO(model_file()), "r") as file:
        about = json.loads(file["model"][()])
    return with_text("model", json.dumps(about | {"nonmembers": "a" * (1 << 20)}))


def steps_with(name: str, value: Any) -> bytes:
    """A model whose steps all have the given field."""
    with h5py.File(io.BytesIO(model_file(keep=0.1)), "r") as file:
        about = json.loads(file["model"][()])
    return with_text("model", json.dumps(about | {"steps": [step | {name: value} for step in about["steps"]]}))


def endless(whole: bytes) -> bytes:
    """The same, with a global heap whose free space has length 0: libhdf5 2.0 searches for its end for ever."""
    data = bytearray(whole)
    start = data.find(b"GCOL")
    at = start + 16
    while index := int.from_bytes(data[at : at + 2], "little"):
        at += 16 + -(-int.from_bytes(data[at + 8 : at + 16], "little") // 8) * 8
    assert index == 0
    data[at + 8 : at + 16] = bytes(8)
    return bytes(data)


def long_chunk(whole: bytes, size: int) -> bytes:
    """The same, with chunks of `size` bytes that declare two gigabytes each."""
    key = size.to_bytes(4, "little") + bytes(4)  # in the tree of the chunks: the length, and no filter left out
    assert key in whole
    return whole.replace(key, (1 << 31).to_bytes(4, "little") + bytes(4))


def free_for_ever(whole: bytes) -> bytes:
    """The same, with a group whose local heap has a cyclic free list."""
    data = bytearray(whole)
    heap = data.find(b"HEAP\0")
    size, _, place = (int.from_bytes(data[heap + i : heap + i + 8], "little") for i in (8, 16, 24))
    data[heap + 16 : heap + 24] = (size - 16).to_bytes(8, "little")
    data[place + size - 16 : place + size] = (size - 16).to_bytes(8, "little") + (16).to_bytes(8, "little")
    return bytes(data)


def virtual(whole: bytes, name: str) -> bytes:
    """The same, with a virtual array; a global heap lists its parts."""
    stream = io.BytesIO(whole)
    with h5py.File(stream, "r+") as file:
        layout = h5py.VirtualLayout(file[name].shape, file[name].dtype)
        layout[...] = h5py.VirtualSource("elsewhere", "x", layout.shape)
        del file[name]
        file.create_virtual_dataset(name, layout)
    return stream.getvalue()


ESCAPES = "\x1b]0;pwn\x07\x1b[31m"  # changes the title of a terminal, and the colour of what follows


def linked(whole: bytes, name: str, link: Any) -> bytes:
    """An HDF5 file in which `name`, which may exist already, is a link."""
    stream = io.BytesIO(whole)
    with h5py.File(stream, "r+") as file:
        if file.get(name, getlink=True) is not None:
            del file[name]
        file[name] = link
    return stream.getvalue()


def links(whole: bytes, *names: str) -> list[Any]:
    """Makers of files in which one of the names is a link of any kind: two of them would make a reader hang."""
    kinds = (
        h5py.SoftLink("/x"),
        h5py.SoftLink(f"/{names[0]}"),
        h5py.ExternalLink("/dev/zero", "/"),
        h5py.ExternalLink("pipe", "/x"),  # which the runner makes beside the input
        h5py.ExternalLink("\udcff" + "x" * 300, "/x"),
    )
    return [lambda name=name, link=link: linked(whole, name, link) for name in names for link in kinds]


def odd_name(whole: bytes, long: bool = False) -> bytes:
    """An HDF5 file with an additional name, full of escapes or long."""
    stream = io.BytesIO(whole)
    with h5py.File(stream, "r+") as file:
        file["x" * 60_000 if long else f"target_{ESCAPES}"] = np.zeros(3)
    return stream.getvalue()


def odd_names_npz(count: int) -> bytes:
    """An .npz without predictions, of arrays whose names are full of escapes."""
    stream = io.BytesIO()
    np.savez(stream, **{f"{ESCAPES}{i}": np.zeros(1) for i in range(count)})
    return stream.getvalue()


def odd_version(version: int) -> bytes:
    """A model of an unknown format, by a version whose name is full of escapes."""
    stream = io.BytesIO(with_text("nanoprune", ESCAPES * 100))
    with h5py.File(stream, "r+") as file:
        file.attrs["format"] = version
    return stream.getvalue()


def odd_type(whole: bytes, name: str) -> bytes:
    """An HDF5 file one of whose arrays is of floating-point numbers for which NumPy has no type."""
    stream = io.BytesIO(whole)
    with h5py.File(stream, "r+") as file:
        shape = file[name].shape
        del file[name]
        odd = h5py.h5t.IEEE_F64LE.copy()
        odd.set_ebias(1 << 20)
        h5py.h5d.create(file.id, name.encode(), odd, h5py.h5s.create_simple(shape))
    return stream.getvalue()


def npz_bomb(shape: tuple[int, ...], megabytes: int, descr: str = "|u1", header: int | None = None) -> bytes:
    """An .npz whose target_probs unpack to many zeros, or whose header declares that length."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    start = b"\x93NUMPY\2\0" + (len(text) if header is None else header).to_bytes(4, "little") + text
    return formats.zip_bomb("target_probs.npy", start, megabytes)


def hdf5_bomb(shape: tuple[int, ...], dtype: str, name: str = "target_probs") -> bytes:
    """An HDF5 file that unpacks to many zeros."""

    def fill(file: h5py.File) -> None:
        for key, values in predictions().items():
            if key != name:
                file[key] = values
        made = file.create_dataset(name, shape, dtype, chunks=(1 << 20, *shape[1:]), compression="gzip")
        packed_zeros = zlib.compress(bytes((1 << 20) * np.dtype(dtype).itemsize * int(np.prod(shape[1:]))), 6)
        for start in range(0, shape[0], 1 << 20):
            made.id.write_direct_chunk((start, *(0 for _ in shape[1:])), packed_zeros)

    return hdf5(fill)


def chunk_bomb(shape: tuple[int, ...], megabytes: int, name: str = "target_probs") -> bytes:
    """An HDF5 file with a small chunk that unpacks to `megabytes` megabytes."""

    def fill(file: h5py.File) -> None:
        for key, values in predictions().items():
            if key != name:
                file[key] = values
        made = file.create_dataset(name, shape, "f4", chunks=shape, compression="gzip")
        made.id.write_direct_chunk((0,) * len(shape), b"\x78\x9c" + formats.deflated(b"", megabytes))

    return hdf5(fill)


def forged(data: bytes, draw: Any) -> bytes:
    """One of the arrays is replaced, with a matching content hash, which an attacker can forge too."""
    name = draw.choice(("inside", "logits/train", "population/prune", "paths"))
    shape = draw.choice(((6, 8), (6, 8, 3), (6, 5, 3), (8, 8), (6, 9, 3), (6, 8, 0), (0, 8, 3), (1, 1), (6,)))
    with np.errstate(over="ignore"):  # 1e300 is infinity in float32
        values = np.full(shape, draw.choice((0, 1, np.nan, 1e300))).astype(draw.choice(("?", "f4", "f8")))
    return forged_shadows(name, values)


def forged_shadows(name: str, values: np.ndarray) -> bytes:
    """A shadow cache with another array and a matching content hash."""
    stream = io.BytesIO(shadow_file())
    with h5py.File(stream, "r+") as file:
        del file[name]
        file[name] = values
        del file["content"]
        arrays: dict[str, np.ndarray] = {}
        file.visititems(lambda n, item: arrays.update({n: item[()]} if isinstance(item, h5py.Dataset) else {}))
        del arrays["made_by"]
        write_text(file, "content", cache._content(arrays))
    return stream.getvalue()


def shadow_promise() -> bytes:
    """A shadow cache that declares a terabyte."""
    stream = io.BytesIO(shadow_file())
    with h5py.File(stream, "r+") as file:
        del file["paths"]
        file.create_dataset("paths", (1 << 20, 1 << 20), "u1", chunks=(1 << 10, 1 << 10), compression="gzip")
    return stream.getvalue()


def nested(depth: int) -> dict[str, Any]:
    """A deeply nested object."""
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"x": value}
    return value


def curves_promise() -> bytes:
    """Curves of which one declares a terabyte."""
    stream = io.BytesIO(curves_file())
    with h5py.File(stream, "r+") as file:
        del file["prune-0.1/adversary_loss"]
        file.create_dataset("prune-0.1/adversary_loss", (2, 1 << 40), "f8", chunks=(2, 1 << 10))
    return stream.getvalue()


def model_bomb() -> bytes:
    """A model of a kilobyte whose network has two billion weights, without weights in the file."""

    def fill(file: h5py.File) -> None:
        with h5py.File(io.BytesIO(model_file()), "r") as old:
            file.attrs["format"] = old.attrs["format"]
            for name in ("nanoprune", "model"):
                old.copy(name, file)
        description = {"network": "mlp", "input_shape": [999_999], "classes": 3, "widths": [1900]}
        write_text(file, "network", json.dumps(description))
        size = build(description, replicas=0).theta.shape[1]
        file.create_dataset("theta", (size,), "f4", chunks=(1 << 20,), compression="gzip")

    return hdf5(fill)
