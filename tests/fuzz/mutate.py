"""Mutations of a valid file: blind changes of its bytes, and changes that know its format.

They are our own: atheris needs clang and instrumented C, and no mutator in plain Python on PyPI is maintained. A
mutation depends only on the file's bytes and a `random.Random`: seed and number determine an input. Mutations of
formats (`formats.py`) unpack a file, change its content, and pack it again, so that checksums, compressed data and
lengths are valid where the damage is elsewhere; every other input is also changed blindly.
"""

import random
import re
import struct
from collections.abc import Callable, Sequence

Mutation = Callable[[bytes, random.Random], bytes]

EDGES = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40,
         (1 << 63) - 1, 1 << 63, (1 << 64) - 1)  # fmt: skip
NUMBERS = (b"-1", b"0", b"1", b"65536", b"2147483648", b"99999999999", b"18446744073709551616", b"1e308", b"1e999",
           b"nan", b"-inf", b"0.5", b"9" * 400, b"9" * 5000, b"\xd9\xa1")  # fmt: skip
LONGEST = (
    1 << 18
)  # bytes of an input: what is to be found is found in small ones, and 100,000 of them must be affordable


def flip(data: bytes, rng: random.Random) -> bytes:
    """One to eight bits."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8)) if out else 0):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def edge(data: bytes, rng: random.Random) -> bytes:
    """An integer of 1, 2, 4 or 8 bytes is set to an end of its range, or changed by a little."""
    size = rng.choice((1, 2, 4, 8))
    if len(data) < size:
        return data
    at = _place(len(data) - size + 1, rng)
    order = rng.choice(("little", "big"))
    old = int.from_bytes(data[at : at + size], order)
    new = rng.choice(EDGES) if rng.random() < 0.7 else old + rng.choice((-16, -1, 1, 16))
    return data[:at] + (new % (1 << 8 * size)).to_bytes(size, order) + data[at + size :]


def cut(data: bytes, rng: random.Random) -> bytes:
    """The end is missing."""
    return data[: _place(len(data) + 1, rng)]


def remove(data: bytes, rng: random.Random) -> bytes:
    """A block is missing."""
    start, stop = _block(data, rng)
    return data[:start] + data[stop:]


def repeat(data: bytes, rng: random.Random) -> bytes:
    """A block is there twice or many times."""
    start, stop = _block(data, rng)
    times = min(rng.choice((1, 1, 2, 16, 1000)), LONGEST // max(stop - start, 1))
    return data[:stop] + data[start:stop] * times + data[stop:]


def splice(data: bytes, rng: random.Random) -> bytes:
    """A block is replaced by another one of the file."""
    (a, b), at = _block(data, rng), _place(len(data) + 1, rng)
    return data[:at] + data[a:b] + data[at + rng.choice((0, b - a)) :]


def insert(data: bytes, rng: random.Random) -> bytes:
    """Some bytes more."""
    at = _place(len(data) + 1, rng)
    filling = rng.choice((b"\0", b"\xff", b"\n", b" ", b",", rng.randbytes(1)))
    return (
        data[:at]
        + rng.choice((filling * rng.choice((1, 2, 4, 512, 4096)), rng.randbytes(rng.randrange(1, 64))))
        + data[at:]
    )


def number(data: bytes, rng: random.Random) -> bytes:
    """A number in decimal digits becomes a hostile one."""
    found = list(re.finditer(rb"-?[0-9]+(?:\.[0-9]+)?", data[:LONGEST]))
    if not found:
        return edge(data, rng)
    spot = rng.choice(found)
    return data[: spot.start()] + rng.choice(NUMBERS) + data[spot.end() :]


BLIND: Sequence[Mutation] = (flip, flip, edge, edge, edge, cut, remove, repeat, splice, insert, number)


def mutate(data: bytes, rng: random.Random, formats: Sequence[Mutation] = ()) -> bytes:
    """A mutation of a valid file: half of them by its formats first, most of them by blind changes."""
    most = max(LONGEST, 2 * len(data))
    informed = bool(formats) and rng.random() < 0.6
    if informed:
        data = rng.choice(formats)(data, rng)
    for _ in range(rng.choice((0, 0, 0, 1, 2) if informed else (1, 1, 1, 2, 3, 8))):
        data = rng.choice(BLIND)(data, rng)[:most]
    return data


def _place(stop: int, rng: random.Random) -> int:
    """A position in range(stop), near its ends more often: headers and directories are there."""
    near = min(stop, 96)
    return rng.choice((rng.randrange(near), stop - 1 - rng.randrange(near), rng.randrange(stop)))


def _block(data: bytes, rng: random.Random) -> tuple[int, int]:
    """Start and stop of a block; short blocks are more frequent."""
    start = _place(len(data) + 1, rng)
    return start, min(len(data), start + rng.choice((1, 2, 4, 8, 64, 512, 1 << 14)))


def pack(form: str, *values: int) -> bytes:
    """`struct.pack` of values taken modulo the sizes of their unsigned fields, such as "<HI"."""
    sizes = [struct.calcsize(form[0] + letter) for letter in form[1:]]
    return struct.pack(form, *(value % (1 << 8 * size) for value, size in zip(values, sizes, strict=True)))
