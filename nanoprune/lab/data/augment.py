"""Augmentation of training batches: every image shifted and mirrored at random, as is usual for CIFAR.

Only training batches pass through it: attacks and evaluation see the records as they are. What is drawn is drawn on the
host by each replica's generator, before the batch is shared out, so that neither device nor threads change it.
"""

from typing import Any

import numpy as np

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError
from nanoprune.nn import Workspace

AUGMENTATIONS = ("none", "crop-flip")
PAD = 4  # pixels of zeros on each side, from which a crop of the image's own size is taken


class Unchanged:
    """No augmentation; nothing is drawn."""

    def draw(self, generators: list[np.random.Generator], count: int) -> np.ndarray:
        """Nothing for each of `count` samples, (R, count, 0)."""
        return np.empty((len(generators), count, 0), np.int64)

    def __call__(self, X: Any, drawn: Any, ws: Workspace) -> Any:
        """X itself."""
        return X


class CropFlip:
    """A random crop of the image padded with PAD zeros on each side, then with probability 1/2 its mirror image.

    He et al. 2016 (arXiv 1512.03385), section 4.2.
    """

    def draw(self, generators: list[np.random.Generator], count: int) -> np.ndarray:
        """Of each of `count` samples how far the crop lies down and to the right, -PAD .. PAD, and 1 for a mirror."""
        low, high = (-PAD, -PAD, 0), (PAD + 1, PAD + 1, 2)
        return np.stack([generator.integers(low, high, (count, 3)) for generator in generators])  # (R, count, 3)

    def __call__(self, X: Any, drawn: Any, ws: Workspace) -> Any:
        """The views that were `drawn` (R, N, 3) of X (R, H, C, W, N), in a buffer of `ws`."""
        R, H, C, W, N = X.shape
        down, right, mirrored = (drawn[:, None, :, i] for i in range(3))  # (R, 1, N)
        h, w = xp.arange(H)[:, None], xp.arange(W)[:, None]  # (H, 1), (W, 1)
        rows = h + down  # (R, H, N) of the image that each row of the view shows
        columns = w + (W - 1 - 2 * w) * mirrored + right  # (R, W, N)
        inside_h, inside_w = (rows >= 0) * (rows < H), (columns >= 0) * (columns < W)
        rows, columns = rows * inside_h, columns * inside_w
        # where in X each element of the view lies; outside of the image it is the first one, times zero
        r, c, n = xp.arange(R)[:, None, None, None, None], xp.arange(C)[:, None, None], xp.arange(N)
        places = (((r * H + rows[:, :, None, None]) * C + c) * W + columns[:, None, None]) * N + n  # (R, H, C, W, N)
        view = ws.buffer(self, "view", X.shape, X.dtype)  # (R, H, C, W, N)
        xp.take(X, places, out=view)
        view *= inside_h[:, :, None, None]
        view *= inside_w[:, None, None]
        return view


def augmentation(kind: str) -> Unchanged | CropFlip:
    """The augmentation of that name; ArgumentError on another one."""
    if kind not in AUGMENTATIONS:
        raise ArgumentError(f"augment must be one of {', '.join(AUGMENTATIONS)}, got {kind!r}")
    return CropFlip() if kind == "crop-flip" else Unchanged()
