"""Pruning schemes: the granularity at which the weights of a layer are pruned."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from nanoprune.backend import to_host, xp
from nanoprune.errors import ArgumentError
from nanoprune.nn import Parameter
from nanoprune.prune.projection import largest

SCHEMES = "unstructured, filter, head, channel, column, block, block:B or N:M such as 2:4"
WIDEST = 256  # largest B and M: a layer is padded to their multiples


@dataclasses.dataclass(frozen=True)
class Grouping:
    r"""A partition of one layer's weights W (O, I) into cells of G groups each; the constraint set S_k: in each cell at
    most k groups have an entry that is not zero.

    W, padded with zeros to the shape `padded`, is viewed as an array of the shape `view`. A group is what lies along
    its axes `within`; the other axes, in order, count the groups, cell by cell. A scheme is these four fields:

        scheme         padded      view              within     cells    a group
        unstructured   O, I        O, I              -          1        one weight
        filter         O, I        O, I              1          1        the weights of one output unit
        head           O, I        3, h, d, I        0, 2, 3   1        the queries, keys and values of one head
        channel        O, I        O, kh, C, kw      0, 1, 3    1        the weights that read one input channel
        column         O, I        O, I              0          1        one column of W, all kernels at one (h, c, w)
        block:B        oB, iB      o, B, i, B        1, 3       1        an aligned block of B x B
        N:M            O, iM       O, i, M           -          O i      one weight; a cell is M inputs of one row

    In a depthwise convolution the weights that read one input channel are a filter: there channel is filter. In a layer
    that does not project to heads, head is filter.

    The Euclidean projection on S_k keeps in each cell the k groups of largest l2 norm, ties to the lower index: the
    squared distance is the sum of the squares that are dropped. Groups that are partly padding count as whole ones.
    """

    matrix: tuple[int, int]
    padded: tuple[int, int]
    view: tuple[int, ...]
    within: tuple[int, ...]
    cells: int

    @property
    def size(self) -> int:
        """The number of weights, O I."""
        return math.prod(self.matrix)

    @property
    def groups(self) -> int:
        """G, the number of groups in a cell."""
        return math.prod(n for axis, n in enumerate(self.view) if axis not in self.within) // self.cells

    def support(self, W: Any, k: int) -> Any:
        """Which entries of W (n,) the projection on S_k keeps, (n,) bool. ArgumentError if W holds a NaN or infinity.

        Energies are summed in float64: of float32 weights exactly up to its rounding, so ties are those of the sums.
        """
        E = self._energy(W)  # (cells, G)
        keep = largest(E[0], k)[None] if self.cells == 1 else largest_of_each(E, k)  # (cells, G)
        shape = tuple(1 if axis in self.within else n for axis, n in enumerate(self.view))
        keep = xp.broadcast_to(keep.reshape(shape), self.view).reshape(self.padded)
        return keep[: self.matrix[0], : self.matrix[1]].reshape(-1)

    def max_nonzero(self, k: int) -> int:
        """The largest number of nonzero weights that a point of S_k can have."""
        if self.padded == self.matrix:
            return k * self.size // self.groups
        sizes = to_host(self._energy(xp.ones(self.size)))  # (cells, G)
        return int(-np.sort(-sizes, axis=1)[:, :k].sum())

    def _energy(self, W: Any) -> Any:
        """The squared norm of each group, or where a group is one weight the weight: no square, no rounding."""
        if self.padded != self.matrix:
            framed = xp.zeros(self.padded)
            framed[: self.matrix[0], : self.matrix[1]] = W.reshape(self.matrix)
            W = framed
        V = W.reshape(self.view)
        if self.within:
            V = xp.sum(xp.multiply(V, V, dtype=np.float64), axis=self.within)
        return V.reshape(self.cells, -1)


def largest_of_each(A: Any, k: int) -> Any:
    """True at the k entries of largest magnitude in each row of A (rows, m), ties to the lower index; like A, bool.

    An entry is kept if fewer than k of its row come before it: the larger ones, and the equal ones on its left.
    """
    A = xp.abs(A)
    if not xp.isfinite(A).all():
        raise ArgumentError("W holds NaN or infinity, which have no nearest sparse point; the training has diverged")
    before = xp.zeros(A.shape, np.int32)
    for j in range(A.shape[1]):
        before += A[:, j : j + 1] > A
        before[:, j + 1 :] += A[:, j : j + 1] == A[:, j + 1 :]
    return before < k


@dataclasses.dataclass(frozen=True)
class Scheme:
    """A scheme by its name: how it groups a layer's weights, and the keep ratio that it fixes (N:M does), else None."""

    name: str
    grouping: Callable[[Parameter], Grouping]
    keep: float | None = None

    @property
    def structured(self) -> bool:
        """Whether weights are pruned in groups or cells: all schemes but unstructured."""
        return self.name != "unstructured"

    def check(self, keep: float) -> None:
        """ArgumentError if a layer cannot have this ratio: N:M has its own, or 1 for a layer that is exempt."""
        if self.keep is not None and keep not in (self.keep, 1):
            raise ArgumentError(f"keep must be {self.keep:g} where scheme is {self.name}, got {keep}; leave it out")


def parse_scheme(text: str) -> Scheme:
    """The scheme of a name such as filter, block:8 or 2:4. Raises ArgumentError on any other."""
    if text in PLAIN:
        return Scheme(text, PLAIN[text])
    found = re.fullmatch(r"block(?::([0-9]{1,4}))?|([0-9]{1,4}):([0-9]{1,4})", text) if isinstance(text, str) else None
    if not found:
        raise ArgumentError(f"scheme must be {SCHEMES}, got {text!r}")
    size, N, M = (int(number) if number else None for number in found.groups())
    if M is None:
        size = 4 if size is None else size
        if not 1 <= size <= WIDEST:
            raise ArgumentError(f"scheme block:B takes a B of 1 to {WIDEST}, got {text}")
        return Scheme(text, lambda p: blocks(p, size))
    if not 1 <= N < M <= WIDEST:
        raise ArgumentError(f"scheme N:M takes 1 <= N < M <= {WIDEST}, got {text}")
    return Scheme(text, lambda p: cells_of(p, M), keep=N / M)


def single(p: Parameter) -> Grouping:
    """Every weight a group."""
    return Grouping(p.shape, p.shape, p.shape, (), 1)


def filters(p: Parameter) -> Grouping:
    """All weights of one output unit."""
    return Grouping(p.shape, p.shape, p.shape, (1,), 1)


def channels(p: Parameter) -> Grouping:
    """All weights that read one input channel."""
    if p.depthwise:
        return filters(p)
    return Grouping(p.shape, p.shape, (p.shape[0], *(p.window or (1, p.shape[1], 1))), (0, 1, 3), 1)


def blocks(p: Parameter, B: int) -> Grouping:
    """Aligned blocks of B x B; those at the last rows and columns may be smaller."""
    o, i = (-(-n // B) for n in p.shape)
    return Grouping(p.shape, (o * B, i * B), (o, B, i, B), (1, 3), 1)


def cells_of(p: Parameter, M: int) -> Grouping:
    """Each row in cells of M inputs. A last cell of m < M inputs is padded with zeros, so it keeps min(N, m)."""
    O, i = p.shape[0], -(-p.shape[1] // M)
    return Grouping(p.shape, (O, i * M), (O, i, M), (), O * i)


PLAIN: dict[str, Callable[[Parameter], Grouping]] = {
    "unstructured": single,
    "filter": filters,
    "head": lambda p: Grouping(p.shape, p.shape, p.heads, (0, 2, 3), 1) if p.heads else filters(p),
    "channel": channels,
    "column": lambda p: Grouping(p.shape, p.shape, p.shape, (0,), 1),
}
