"""The buffers and saved activations of one forward and backward pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

from nanoprune.backend import xp
from nanoprune.errors import WorkspaceError


class Workspace:
    """Memory of one forward pass and the backward pass that belongs to it.

    Layers hold parameters only; what they compute is kept here and reused by the next pass, since allocating large
    temporaries costs more than the arithmetic on them. Two passes at the same time need two workspaces.

    training: whether layers that behave differently in training (Dropout, BatchNorm) do so.
    generators: one numpy.random.Generator per replica, for layers that draw random numbers.
    defer: whether weight gradients wait, in `deferred`, until each record's share of them has been clipped.
    padding: (R, T, N) bool, where the sequences of this pass are padding, set by the layer that makes them; else None.
    all_reduce(*values): each value summed over all parts of the batch, where its samples are divided; read-only.
    """

    def __init__(self, training: bool = True, generators: list | None = None, defer: bool = False) -> None:
        self.training, self.generators, self.defer = training, generators, defer
        self.padding: Any = None
        self.all_reduce: Callable[..., tuple] = lambda *values: values
        self.deferred: list[tuple[Any, Any, tuple]] = []  # (layer, dY, what its forward pass saved)
        self._turn = 0
        self._buffers: dict[tuple[Any, str], Any] = {}
        self._saved: dict[Any, tuple] = {}

    def buffer(self, owner: Any, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
        """An uninitialised C-contiguous array that `owner` keeps under `name` until its next call with that name."""
        size = math.prod(shape)
        flat = self._buffers.get((owner, name))
        if flat is None or flat.size < size or flat.dtype != dtype:
            flat = self._buffers[owner, name] = xp.empty(size, dtype)
        return flat[:size].reshape(shape)

    def scratch(self, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
        """A `buffer` that all layers share, valid within one call."""
        return self.buffer(None, name, shape, dtype)

    def gradient(self, owner: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        """A buffer for the dX of `owner`: one of two that all layers use alternately, as dX follows from dY.

        A backward pass needs two gradients at a time, however deep the network is. Deferred weight gradients need
        every dY later: then each owner has its own `buffer`.
        """
        if self.defer:
            return self.buffer(owner, "dX", shape, dtype)
        self._turn = 1 - self._turn
        return self.scratch(f"gradient {self._turn}", shape, dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers."""
        return sum(flat.nbytes for flat in self._buffers.values())

    def save(self, layer: Any, *arrays: Any) -> None:
        """Keep what the backward pass of `layer` needs."""
        self._saved[layer] = arrays

    def saved(self, layer: Any) -> tuple:
        """Return what `save` kept, once. Raises WorkspaceError without a forward pass, or the second time."""
        if layer not in self._saved:
            found = f"{layer!r}: backward without its forward pass, or twice"
            raise WorkspaceError(f"{found}; call forward with this workspace first")
        return self._saved.pop(layer)

    def weight_gradient(self, layer: Any, dY: Any, saved: tuple) -> None:
        """Let `layer` write its weight gradient, now or, with `defer`, later."""
        if self.defer:
            self.deferred.append((layer, dY, saved))
        else:
            layer.weight_gradient(dY, self, *saved)

    @cached_property
    def evaluation(self) -> Workspace:
        """A second workspace, for passes in evaluation mode."""
        return Workspace(training=False)
