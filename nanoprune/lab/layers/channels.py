"""Helpers of layers that treat channels separately: a flat view of images, and sums over a channel's values."""

from typing import Any

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError


def check_channels(layer: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` if it is (H, C, W) or (C,) with the layer's number of channels; raises ArgumentError otherwise."""
    if len(shape) not in (1, 3) or shape[len(shape) // 2] != layer.channels:
        C = layer.channels
        raise ArgumentError(f"{layer!r} takes images (H, {C}, W) or features ({C},), got {shape}")
    return shape


def flat(A: Any) -> Any:
    """Images (R, H, C, W, N) as (R, H, C, W*N), features (R, C, N) as (R, 1, C, N)."""
    R, N = A.shape[0], A.shape[-1]
    return A.reshape(R, A.shape[1], A.shape[2], A.shape[3] * N) if len(A.shape) == 5 else A[:, None]


def total(A: Any) -> Any:
    """The sum of each channel of A (R, H, C, M), (R, C, 1)."""
    return xp.sum(xp.sum(A, axis=-1, keepdims=True), axis=1)


def inner(A: Any, B: Any) -> Any:
    """The sum of each channel of A B, both (R, H, C, M), as a dot product per row without a temporary; (R, C, 1)."""
    return xp.sum(xp.matmul(A[:, :, :, None], B[..., None])[..., 0], axis=1)
