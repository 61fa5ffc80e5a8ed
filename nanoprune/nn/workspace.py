"""The buffers and saved activations of one pass in flight."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

from nanoprune.backend import xp
from nanoprune.errors import WorkspaceError


class Workspace:
    """Memory of one forward pass and the backward pass that belongs to it.

    Layers hold parameters only; what they compute lives here, and is reused by the next pass: allocating large
    temporaries costs more than the arithmetic on them. Two passes in flight are two workspaces.

    training: whether layers that behave differently in training (Dropout) do so.
    generators: one numpy.random.Generator per replica, for layers that draw random numbers.
    keep_gradients: whether every dL/dX of a backward pass, and what the layers saved, stays until the next one, so that
    layers can leave their weight gradients until those of single records have been clipped (`gradient`, `keeps`).
    total(*values): each of the values summed over all parts of the batch, where its samples are shared out, else the
    values; not to be written to.
    """

    def __init__(self, training: bool = True, generators: list | None = None, keep_gradients: bool = False) -> None:
        self.training = training
        self.generators = generators
        self.keep_gradients = keep_gradients
        self.total: Callable[..., tuple] = lambda *values: values
        self._turn = 0
        self._buffers: dict[tuple[Any, str], Any] = {}
        self._saved: dict[Any, tuple] = {}
        self._kept: list[tuple[Any, Any, tuple]] = []

    def buffer(self, owner: Any, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
        """An uninitialised C-contiguous array that `owner` keeps under `name` until its next call with that name."""
        size = math.prod(shape)
        flat = self._buffers.get((owner, name))
        if flat is None or flat.size < size or flat.dtype != dtype:
            flat = self._buffers[owner, name] = xp.empty(size, dtype)
        return flat[:size].reshape(shape)

    def scratch(self, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
        """A `buffer` that all layers share: whoever asks for `name` next has it, so it is for use within one call."""
        return self.buffer(None, name, shape, dtype)

    def gradient(self, owner: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        """A buffer for the dL/dX of `owner`: one of two that all layers take by turns, as dX follows from dY.

        So it holds until the layer after the next one asks: a backward pass needs two gradients at a time, however deep
        the network is. With `keep_gradients`, a `buffer` of the owner's own.
        """
        if self.keep_gradients:
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
        """Hand out what `save` kept, once. Raises WorkspaceError if there is none: no forward pass, or used already."""
        try:
            return self._saved.pop(layer)
        except KeyError:
            raise WorkspaceError(
                f"{layer!r}: backward without its forward pass, or twice; call forward with this workspace first"
            ) from None

    def keeps(self, layer: Any, dY: Any, *saved: Any) -> bool:
        """Whether `layer` leaves its weight gradient for later; then what it takes is in `kept`."""
        if self.keep_gradients:
            self._kept.append((layer, dY, saved))
        return self.keep_gradients

    def kept(self) -> list[tuple[Any, Any, tuple]]:
        """Hand out, once, what the layers kept in this backward pass: (layer, dY, what it saved) each."""
        kept, self._kept = self._kept, []
        return kept

    @cached_property
    def evaluation(self) -> Workspace:
        """The workspace beside this one for passes in evaluation mode."""
        return Workspace(training=False)
