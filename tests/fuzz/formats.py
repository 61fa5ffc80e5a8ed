"""Mutations that know a format: JSON, gzip, tar, zip with arrays, HDF5, safetensors."""

import contextlib
import gzip
import io
import json
import random
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
from mutate import EDGES, Mutation, mutate, pack
from mutate import LONGEST as LARGEST

HOSTILE = (None, True, False, 0, -1, 1, 2, 0.5, -0.0, 1e308, float("nan"), float("inf"), 1 << 31, 1 << 40, 1 << 70,
           10**400, "", "x", "\0", "\ud800", "\x1b]0;pwn\x07", "\u202e", "../../../etc/passwd", "$\\frac$", "<script>",
           "a" * 5000, [], {}, [[]], [0] * 500, {"": 0})  # fmt: skip
SHAPES = ((), (0,), (1,), (1 << 31,), (1 << 40,), (1 << 62,), (1 << 20, 1 << 20), (5, 0), (3, 1 << 30), (1,) * 32)
TYPES = ("f8", "f4", "f2", ">f8", "i1", "i8", "u8", "?", "c16", "S7", "U3", "V8", "M8[s]")


def json_text(text: str, rng: random.Random) -> str:
    """JSON with a value changed, added, gone, there twice, or nested too deep; or text that is no JSON."""
    kind = rng.random()
    if kind < 0.05:
        return "[" * rng.choice((20, 1000, 100_000)) + "]" * rng.choice((0, 20, 1000))
    if kind < 0.15:
        return mutate(text.encode(), rng).decode("utf-8", "surrogateescape")
    try:
        value = json.loads(text)
    except ValueError:
        return text
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        value = _changed(value, rng)
    text = json.dumps(value)
    return text.replace('": ', rng.choice(('": 1, "x": ', '": [', '": ')), 1) if kind > 0.95 else text


def _changed(value: Any, rng: random.Random) -> Any:
    """`value` with one change somewhere in it."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.9:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = rng.choice(keys)
        copy: Any = dict(value) if isinstance(value, dict) else list(value)
        match rng.choice(("inside",) * 6 + ("gone", "more", "deeper")):
            case "inside":
                copy[key] = _changed(value[key], rng)
            case "gone":
                del copy[key]
            case "more" if isinstance(copy, dict):
                copy[rng.choice(("x", "", "0", str(key) + "x"))] = value[key]
            case "more":
                copy.extend(copy[: rng.choice((1, 10))] * rng.choice((1, 100)))
            case _:
                copy[key] = [value[key]]
        return copy
    if isinstance(value, (int, float)) and not isinstance(value, bool) and rng.random() < 0.4:
        return rng.choice((value + 1, value - 1, -value, value * 1000, str(value)))
    return rng.choice(HOSTILE)


def as_json(data: bytes, rng: random.Random) -> bytes:
    """A JSON file."""
    return json_text(data.decode(), rng).encode("utf-8", rng.choice(("surrogateescape", "backslashreplace")))


def gzipped(*inner: Mutation) -> Mutation:
    """A gzip file whose content is changed, by `inner` too; or several after one another."""

    def change(data: bytes, rng: random.Random) -> bytes:
        packed = gzip.compress(mutate(gzip.decompress(data), rng, inner), 1)
        return rng.choice((packed, packed, packed + data, packed + b"\0" * 40, packed[:-8] + data[-8:]))

    return change


def tarred(data: bytes, rng: random.Random) -> bytes:
    """A field of a tar header is changed, its checksum right or not; members come twice, change their kind, or lie."""
    out, headers, at = bytearray(data), [], 0
    with contextlib.suppress(tarfile.TarError), tarfile.open(fileobj=io.BytesIO(data)) as tar:
        headers = [member.offset for member in tar]
    if not headers:
        return data
    at = rng.choice(headers)
    field, size = rng.choice(
        ((0, 100), (100, 8), (124, 12), (124, 12), (124, 12), (156, 1), (156, 1), (157, 100), (345, 155))
    )
    match rng.choice(("bytes", "octal", "base-256")):
        case "bytes" if size == 1:
            new = rng.choice((b"0", b"1", b"2", b"5", b"L", b"K", b"S", b"x", b"g", b"X", b"\0", rng.randbytes(1)))
        case "bytes":
            new = bytes(out[at + field : at + field + size])
            new = mutate(new, rng)
        case "octal":
            new = b"%0*o\0" % (size - 1, rng.choice(EDGES))
        case _:
            new = rng.choice((b"\x80", b"\xff")) + rng.choice(EDGES).to_bytes(max(size - 1, 8), "big")[1 - size or 8 :]
    out[at + field : at + field + size] = new[:size].ljust(size, b"\0")
    if rng.random() < 0.9:
        out[at + 148 : at + 156] = b" " * 8
        out[at + 148 : at + 156] = b"%06o\0 " % sum(out[at : at + 512])
    where = rng.choice(headers)
    return bytes(out) if rng.random() < 0.8 else bytes(out[:where] + out[at : at + 1024] + out[where:])


def npz(data: bytes, rng: random.Random) -> bytes:
    """A zip of arrays: the header of one says another shape or type; a size in the directory lies; one comes twice."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = rng.choice(list(members))
    match rng.choice(("header", "header", "values", "text", "name", "gone", "none")):
        case "header":
            members[name] = _npy_header(members[name], rng)
        case "values":
            members[name] = members[name][:128] + mutate(members[name][128:], rng)
        case "text":
            members[name] = mutate(members[name], rng)
        case "name":
            names = ("shadow_probs", "target_logits", "../x", "theta", "\x1b]0;pwn\x07", "\u202e", "x" * 3000)
            members[rng.choice((*(f"{other}.npy" for other in names), "x"))] = members.pop(name)
        case "gone":
            del members[name]
    stream, kind = io.BytesIO(), rng.choice((0, 8, 8, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", kind, compresslevel=1) as archive:
        warnings.simplefilter("ignore")  # of a name that comes twice
        for member, content in members.items():
            archive.writestr(member, content)
        if rng.random() < 0.1:
            archive.writestr(name, data[:100])
    out = bytearray(stream.getvalue())
    if rng.random() < 0.4 and (at := out.find(b"PK\1\2")) >= 0:  # a size, a method or a flag in the directory
        field, form = rng.choice(((20, "<I"), (24, "<I"), (24, "<I"), (10, "<H"), (8, "<H"), (42, "<I")))
        new = pack(form, rng.choice(EDGES))
        out[at + field : at + field + len(new)] = new
    return bytes(out)


def _npy_header(array: bytes, rng: random.Random) -> bytes:
    """An array of NumPy's format with a header of its own making."""
    shape, dtype = rng.choice(SHAPES), rng.choice(TYPES)
    text = rng.choice(
        (
            f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}",
            f"{{'descr': {dtype!r}, 'fortran_order': {rng.choice((True, False))}, 'shape': (40, 3), }}",
            "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
            "{'descr': [('a', '<f8', (1073741824,))], 'fortran_order': False, 'shape': (1,), }",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }",
            "__import__('os').abort()",
            "(" * rng.choice((50, 3000)),
        )
    ).encode()
    version = rng.choice((1, 1, 2, 3, 9))
    length = rng.choice((len(text), len(text), len(text), rng.choice(EDGES)))
    return b"\x93NUMPY" + bytes((version, 0)) + pack("<H" if version == 1 else "<I", length) + text + array[128:]


def safetensors(data: bytes, rng: random.Random) -> bytes:
    """The JSON header of a safetensors file is changed, and its length is right, or not."""
    size = int.from_bytes(data[:8], "little")
    header = as_json(data[8 : 8 + size], rng)
    length = rng.choice((len(header), len(header), len(header), rng.choice(EDGES)))
    return pack("<Q", length) + header + data[8 + size :]


def hdf5(data: bytes, rng: random.Random) -> bytes:
    """An HDF5 file in which attributes and datasets were replaced by the library itself, by others or by links."""
    stream = io.BytesIO(data)
    try:
        with h5py.File(stream, "r+") as file:
            for _ in range(rng.choice((1, 1, 1, 2, 3))):
                _hdf5_change(file, rng)
    except Exception:  # the library does not write every nonsense, and says so in every class there is
        return data
    return stream.getvalue()


def _hdf5_change(file: h5py.File, rng: random.Random) -> None:
    names: list[str] = []
    file.visit(names.append)
    owner = rng.choice([file, *(file[name] for name in names)])
    attributes = [(item, key) for item in (file, *(file[n] for n in names)) for key in item.attrs]
    if attributes and rng.random() < 0.45:
        item, key = rng.choice(attributes)
        _attribute(item, key, rng)
    elif names:
        _dataset(file, rng.choice(names), rng)
    else:
        owner.attrs["x"] = 1


def _attribute(item: Any, key: str, rng: random.Random) -> None:
    match rng.choice(("gone", "number", "empty", "array", "bytes", "reference", "fixed")):
        case "gone":
            del item.attrs[key]
        case "number":
            item.attrs[key] = rng.choice((0, 1, 2, -1, 2**40, 2.5, np.float32("nan"), True))
        case "empty":
            item.attrs[key] = h5py.Empty(rng.choice(TYPES))
        case "array":
            item.attrs[key] = np.zeros(rng.choice(((0,), (1,), (3, 4))), rng.choice(TYPES[:9]))
        case "bytes":
            item.attrs[key] = np.bytes_(b"\xff\xfe")
        case "reference":
            item.attrs[key] = item.ref
        case "fixed":
            item.attrs.create(key, rng.choice((b"\xff", b"{}")), dtype=f"S{rng.choice((1, 64, 60_000))}")


def _dataset(file: h5py.File, name: str, rng: random.Random) -> None:
    """The dataset or group `name` becomes another one."""
    old = file[name]
    small = isinstance(old, h5py.Dataset) and old.shape is not None and old.nbytes < LARGEST
    values = np.asarray(old[()]) if small else np.zeros(3)
    shape, dtype = values.shape, values.dtype
    if dtype.kind == "S" and not shape and rng.random() < 0.7:
        text = bytes(values[()]).decode()
        other = json_text(text, rng) if text[:1] in "{[" else rng.choice((text + "x", text[:-1], "x"))
        del file[name]
        file[name] = rng.choice((np.bytes_, np.bytes_, np.bytes_, str))(other.encode("utf-8", "surrogateescape"))
        return
    kind = rng.choice(("values", "type", "shape", "promise", "promise", "filter", "chunk", "link", "virtual",
                       "external", "group", "gone", "words", "empty", "more"))  # fmt: skip
    if kind == "more":
        names = ("shadow_probs", "theta", "target_labels", "logits/train", "x", "\x1b]0;pwn\x07", "x" * 3000, "\u202e")
        file[rng.choice(names)] = rng.choice((np.zeros(4), *_links(name)))
        return
    del file[name]
    large = tuple(n * rng.choice((1, 1 << 20, 1 << 34)) for n in shape) or (1 << 34,)
    match kind:
        case "values" if dtype.kind in "fiub":
            flat = mutate(np.ascontiguousarray(values).tobytes(), rng)[: values.nbytes].ljust(values.nbytes, b"\0")
            file[name] = np.frombuffer(flat, dtype).reshape(shape)
        case "type":
            file.create_dataset(name, shape, rng.choice(TYPES[:9]))
        case "shape":
            file.create_dataset(name, rng.choice((shape[::-1], (*shape, 1), shape[:-1], (3, *shape))), dtype)
        case "promise":
            filters = rng.choice(
                ({}, {"compression": "gzip"}, {"compression": "lzf"}, {"scaleoffset": 2}, {"shuffle": True})
            )
            chunks = {"chunks": tuple(min(n, 1 << 10) for n in large)} if rng.random() < 0.7 or filters else {}
            file.create_dataset(name, large, dtype, fillvalue=rng.choice((0, 1)), **chunks, **filters)
        case "filter":
            filters = rng.choice(
                ({"compression": "lzf"}, {"fletcher32": True}, {"compression": "gzip"}, {"scaleoffset": 4})
            )
            file.create_dataset(name, data=values, **filters)
        case "chunk":
            file.create_dataset(
                name, shape, dtype, maxshape=(None,) * len(shape), chunks=tuple(1 << 14 for _ in shape) or None
            )
        case "link":
            file[name] = rng.choice(_links(name))
        case "virtual":
            layout = h5py.VirtualLayout(shape or (1,), dtype)
            layout[...] = h5py.VirtualSource("elsewhere", "x", shape or (1,))
            file.create_virtual_dataset(name, layout)
        case "external":
            file.create_dataset(name, shape or (1,), dtype, external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])
        case "words":
            file[name] = np.array([b"x", b"yy"], dtype=rng.choice((object, "S2")))
        case "empty":
            file[name] = h5py.Empty(dtype)
        case "group":
            file.create_group(name)


def _links(name: str) -> tuple[Any, ...]:
    """Links within the file, to itself, to what has no end, to what keeps its reader waiting, and to nowhere."""
    places = (("/dev/zero", "/"), ("pipe", "/x"), ("input", name), ("\x1b[31m", "/"))
    return (h5py.SoftLink("/"), h5py.SoftLink(f"/{name}"), *(h5py.ExternalLink(*place) for place in places))


def deflated(head: bytes, megabytes: int, filling: bytes = b"\0") -> bytes:
    """Raw deflate data of `head` and then so many million fillings: one compressed block, again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(filling * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + block * megabytes + packer.flush()


def gzip_bomb(megabytes: int, head: bytes = b"", filling: bytes = b"\0") -> bytes:
    """A gzip file of `head` and then zeros, or another filling; its checksum, at the end, is wrong."""
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + deflated(head, megabytes, filling) + bytes(8)


def zip_bomb(name: str, head: bytes, megabytes: int) -> bytes:
    """A zip file of one member, `head` and then zeros; its checksum, at the end, is wrong."""
    data, size, label = deflated(head, megabytes), len(head) + (megabytes << 20), name.encode()
    common = pack("<HHHHHIIIHH", 20, 0, 8, 0, 0x21, 0, len(data), size, len(label), 0)
    local = b"PK\3\4" + common + label + data
    entry = b"PK\1\2" + pack("<H", 20) + common + pack("<HHHII", 0, 0, 0, 0, 0) + label
    return local + entry + b"PK\5\6" + pack("<HHHHIIH", 0, 0, 1, 1, len(entry), len(local), 0)


def tar_header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """The header of one member of a tar archive."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


Formats = Sequence[Mutation]
