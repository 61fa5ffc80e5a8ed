"""How layers lose units: the algebra that Dense, Conv2D and Pointwise share. All on the host, of one replica."""

from __future__ import annotations

import numpy as np

from nanoprune.backend import to_host
from nanoprune.nn.layer import Layer, Parameter


def unit_count(shape: tuple[int, ...]) -> int:
    """The units of a sample of `shape`: channels of an image (H, C, W), features of (F,)."""
    return shape[len(shape) // 2]


class Linear(Layer):
    """A layer whose output units are sums over input units and places of a window, weights W (O, ...) and biases b.

    b is None where there are no biases, padding how many zeros surround an image. Below A (O, C, k) are the weights by
    output unit, input unit and place in the window (k = 1 where there is none), and c (C,) is as `Layer` tells.
    """

    W: Parameter
    b: Parameter | None
    padding = 0

    def by_unit(self, W: np.ndarray) -> np.ndarray:
        """W (O, ...) as A (O, C, k)."""
        return W.reshape(*W.shape, 1)

    def from_units(self, A: np.ndarray) -> np.ndarray:
        """The inverse of `by_unit`."""
        return A[..., 0]

    def resized(self, inputs: int, outputs: int) -> Linear:
        """The same kind of layer for other numbers of units."""
        raise TypeError(f"{self!r} defines no other size")

    def constants(self, c: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """An output unit is constant where it reads nothing but constants: b + sum A c."""
        (A, b), c = self._host(), self._foldable(c)
        varies = (A[:, np.isnan(c)] != 0).any(axis=(1, 2))  # (O,)
        return np.where(varies, np.nan, b + contribution(A, c, ~np.isnan(c)))

    def needs(self, needed: np.ndarray, c: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The input units that are not constant and that a needed output unit reads; the first one if there is none."""
        A, _ = self._host()
        read = (A[needed] != 0).any(axis=(0, 2)) & np.isnan(self._foldable(c))  # (C,)
        read[0] |= not read.any()
        return read

    def narrowed(
        self, kept: np.ndarray, needed: np.ndarray, c: np.ndarray, shape: tuple[int, ...]
    ) -> tuple[Layer, list[np.ndarray], np.ndarray]:
        """What the units that go contributed goes into the biases."""
        A, b = self._host()
        values = [self.from_units(A[needed][:, kept])]
        if self.b:
            values.append((b + contribution(A, self._foldable(c), ~kept))[needed][:, None])
        return self.resized(int(kept.sum()), int(needed.sum())), values, needed

    def _foldable(self, c: np.ndarray) -> np.ndarray:
        """The constants that a bias can stand for. 0 always is one. Others are not where zeros surround the image,
        since at the border a window has less of them than inside, and not where there is no bias."""
        return np.where(c == 0, c, np.nan) if self.padding or not self.b else c

    def _host(self) -> tuple[np.ndarray, np.ndarray]:
        """A (O, C, k) and b (O,) of the first replica."""
        A = self.by_unit(to_host(self.W.value)[0])
        return A, to_host(self.b.value)[0, :, 0] if self.b else np.zeros(len(A), A.dtype)


def contribution(A: np.ndarray, c: np.ndarray, of: np.ndarray) -> np.ndarray:
    """What the constant input units among `of` (bool) add to each output unit, in float64. (O,)"""
    of = of & ~np.isnan(c)
    return A[:, of].sum(axis=2, dtype=np.float64) @ c[of]
