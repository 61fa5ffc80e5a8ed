"""The WebAssembly kernel of the web page, assembled instruction by instruction: sparse rows on vectors of 4 floats.

rows(R, ptr, off, v, b, x, y, span, stride), all i32 and in bytes:

    for r in 0 .. R-1:  for t in 0, 64, ... < span:        16 floats at a time, in four vectors
        y[r stride + t] = b[r] + sum_k v[k] x[off[k] + t]   k from ptr[r] to ptr[r + 1], multiples of 4

The encoding is that of the WebAssembly specification 2.0, chapter 5 (binary format), with its vector instructions.
"""

from __future__ import annotations

R, PTR, OFF, V, B, X, Y, SPAN, STRIDE = range(9)  # parameters
K, S, E, T, P = range(9, 14)  # local i32: weight, first and last of the row, place in the row, address
W, A0, BIAS = 14, 15, 19  # local v128: a weight four times, four sums from A0 on, the bias four times

I32, V128 = 0x7F, 0x7B
BLOCK, LOOP, END, BR, BR_IF, VOID = b"\x02", b"\x03", b"\x0b", b"\x0c", b"\x0d", b"\x40"
ADD, SUB, EQZ, GE_U = b"\x6a", b"\x6b", b"\x45", b"\x4f"


def leb(n: int) -> bytes:
    """n >= 0 in unsigned LEB128."""
    out = bytearray()
    while True:
        n, byte = n >> 7, n & 0x7F
        out.append(byte | (0x80 if n else 0))
        if not n:
            return bytes(out)


def simd(code: int, *immediates: int) -> bytes:
    return b"\xfd" + leb(code) + b"".join(map(leb, immediates))


def get(local: int) -> bytes:
    return b"\x20" + leb(local)


def set_(local: int, value: bytes) -> bytes:
    return value + b"\x21" + leb(local)


def const(n: int) -> bytes:
    """i32.const, for 0 <= n < 64 in one byte, else in signed LEB128 of two."""
    return b"\x41" + (leb(n) if n < 64 else bytes([n & 0x7F | 0x80, n >> 7]))


def load(address: bytes, offset: int = 0) -> bytes:
    return address + b"\x28\x02" + leb(offset)  # i32.load


def splat(address: bytes) -> bytes:
    return address + simd(9, 2, 0)  # v128.load32_splat


def vector(address: bytes, offset: int) -> bytes:
    return address + simd(0, 2, offset)  # v128.load


def store(address: bytes, value: bytes, offset: int) -> bytes:
    return address + value + simd(11, 2, offset)  # v128.store


def advance(local: int, by: bytes) -> bytes:
    return set_(local, get(local) + by + ADD)


def until(condition: bytes, body: bytes) -> bytes:
    """A loop that ends as soon as the condition holds, tested before each pass."""
    return BLOCK + VOID + LOOP + VOID + condition + BR_IF + leb(1) + body + BR + leb(0) + END + END


def kernel() -> bytes:
    """The module: exports the memory "m" and the function "rows"."""
    multiply = set_(W, splat(get(V) + get(K) + ADD))
    multiply += set_(P, get(X) + get(T) + ADD + load(get(OFF) + get(K) + ADD) + ADD)
    for i in range(4):
        product = get(W) + vector(get(P), 16 * i) + simd(0xE6)  # f32x4.mul
        multiply += set_(A0 + i, get(A0 + i) + product + simd(0xE4))  # f32x4.add
    multiply += advance(K, const(4))
    block = b"".join(set_(A0 + i, get(BIAS)) for i in range(4)) + set_(K, get(S))
    block += until(get(K) + get(E) + GE_U, multiply)
    block += set_(P, get(Y) + get(T) + ADD) + b"".join(store(get(P), get(A0 + i), 16 * i) for i in range(4))
    block += advance(T, const(64))
    row = set_(S, load(get(PTR))) + set_(E, load(get(PTR), 4)) + set_(BIAS, splat(get(B))) + set_(T, const(0))
    row += until(get(T) + get(SPAN) + GE_U, block)
    row += set_(R, get(R) + const(1) + SUB)
    row += advance(PTR, const(4)) + advance(B, const(4)) + advance(Y, get(STRIDE))
    code = vec([leb(5) + bytes([I32]), leb(6) + bytes([V128])]) + until(get(R) + EQZ, row) + END
    sections = {
        1: vec([b"\x60" + vec([bytes([I32])] * 9) + vec([])]),  # the type of `rows`
        3: vec([leb(0)]),
        5: vec([b"\x00" + leb(1)]),  # a memory of one page; the page grows it
        7: vec([name("m") + b"\x02" + leb(0), name("rows") + b"\x00" + leb(0)]),
        10: vec([leb(len(code)) + code]),
    }
    return b"\0asm\x01\0\0\0" + b"".join(bytes([n]) + leb(len(of)) + of for n, of in sections.items())


def vec(items: list[bytes]) -> bytes:
    return leb(len(items)) + b"".join(items)


def name(text: str) -> bytes:
    return leb(len(text)) + text.encode()
