"""DP-SGD: stochastic gradient descent with a bound on what one record can do (Abadi et al. 2016, arXiv 1607.00133)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nanoprune.backend import to_device, xp
from nanoprune.defend.minmax import MinMax
from nanoprune.errors import ArgumentError
from nanoprune.lab.storage.checkpoint import generators_state, restore_generators
from nanoprune.nn import Layer, Network, Workspace
from nanoprune.nn.network import ALL
from nanoprune.prune.mask import Mask

CLIPPINGS = ("flat", "layer")


class DPSGD:
    """Algorithm 1 of Abadi et al., in the order of its lines. Each step

        takes a sample    every record with probability q = L / M, by itself (Poisson sampling)
        computes          g_i, the gradient of each record's loss
        clips             g_i <- g_i / max(1, ||g_i|| / C)
        adds noise        g <- 1/L (sum_i g_i + N(0, sigma^2 C^2 I))
        descends          by whatever makes the next theta of g, theta and constants: momentum, weight decay, a mask,
                          the penalty, projection and dual step of ADMM are post-processing, and free

    so that adding or removing one record moves the sum by at most C, against noise of standard deviation sigma C; what
    that is worth, `nanoprune.lab.privacy.accounting` says. M is the number of members, L the batch of the schedule, a
    constant that a loss is divided by: the size of a sample is secret too. Here the loss carries the 1/L, so that a
    record's gradient is g_i / L, clipped to C / L.

    Every replica is a run of its own: its samples, its clipped gradients, its noise. Samples of a fleet differ in size;
    the shorter ones are filled up with the index -1, no record, whose loss counts 0 times and has no gradient.

    clipping "flat": C bounds the norm of all of a record's gradient; "layer": C / sqrt(layers) that of each layer's.
    With a mask only the gradients of survivors count for the norm (`Layer.record_norms`), and so less is clipped.
    seeds: None for generators seeded by the operating system; one a replica to repeat a run, which then is not
    private: who knows the seed knows the noise. The generator is PCG64, good statistics but no cipher, and rounding of
    floating-point numbers (Mironov 2012) is not in the bound.
    Raises ArgumentError where a value cannot be used.
    """

    def __init__(self, clip: float, noise: float, clipping: str = "flat", seeds: Sequence[int] | None = None) -> None:
        if not 0 < clip < float("inf"):
            raise ArgumentError(f"clip must be positive and finite, got {clip}")
        if not 0 <= noise < float("inf"):
            raise ArgumentError(f"noise must be finite and not negative, got {noise}")
        if clipping not in CLIPPINGS:
            raise ArgumentError(f"clipping must be one of {', '.join(CLIPPINGS)}, got {clipping!r}")
        self.C, self.sigma, self.clipping, self.seeds = clip, noise, clipping, seeds
        self.generators: list[np.random.Generator] = []
        self.members = np.empty((0, 0), np.int64)
        self.batch = 0  # L
        self.steps = 0  # that noise was added to, over all trainings

    def begin(
        self, net: Network, members: np.ndarray, batch: int, mask: Mask | None = None, game: MinMax | None = None
    ) -> list[np.random.Generator]:
        """Make ready for a training of `net` on members (R, M). Returns the generators that all draws must come from.

        Also augmentation and dropout draw from them: with a public seed, who is in a batch could be told from what the
        others in it met.
        """
        if game:
            raise ArgumentError(
                "private training plays no Min-Max game: the adversary is trained on members, and the gain's gradient "
                "carries what it learned past the clipping; leave out the game or DP"
            )
        if not 1 <= batch <= members.shape[1]:
            raise ArgumentError(f"batch must lie in 1..{members.shape[1]} for Poisson sampling, got {batch}")
        for layer, _ in net.body.leaves(net.input_shape):
            if layer.parameters() and type(layer).record_norms is Layer.record_norms:
                raise ArgumentError(
                    f"{layer!r} mixes the records of a batch, so that none can be clipped; use GroupNorm"
                )
        if not self.generators:
            self.generators = [np.random.default_rng(seed) for seed in self.seeds or [None] * net.replicas]
        if len(self.generators) != net.replicas:
            raise ArgumentError(f"seeds must be one for each of {net.replicas} replicas, got {len(self.generators)}")
        net.restrict(mask.M if mask else None)
        self.members, self.batch = members, batch
        return self.generators

    def state(self) -> dict[str, Any]:
        """The generators: who has them can run them both ways, and knows the noise of all steps of this training."""
        return {"generators": generators_state(self.generators), "steps": self.steps}

    def restore(self, saved: Any, net: Network) -> None:
        """Take a state back."""
        restore_generators(self.generators, saved, "generators")
        self.steps = saved.value("steps", int, 0)

    def batches(self) -> Iterator[np.ndarray]:
        """As many samples as make an epoch, round(M / L): indices (R, B), B the largest sample's size, at least 1."""
        R, M = self.members.shape
        for _ in range(round(M / self.batch)):
            drawn = np.stack([g.random(M) for g in self.generators]) < self.batch / M  # (R, M)
            sizes = drawn.sum(axis=1)
            index = np.full((R, max(1, sizes.max())), -1)
            for r in range(R):
                index[r, : sizes[r]] = self.members[r, drawn[r]]
            yield index

    def clip(self, net: Network, ws: Workspace) -> None:
        """net.grad <- sum_i g_i / max(1, ||g_i|| / C), over the records of the backward pass that `ws` has kept."""
        kept = ws.kept()
        squares = [layer.record_norms(dY, ws, *saved) for layer, dY, saved in kept]  # (R, N) each
        for (layer, dY, saved), c in zip(kept, self._factors(squares), strict=True):
            weighted = ws.scratch("weighted", dY.shape, dY.dtype)
            xp.multiply(dY, c.reshape(len(c), *[1] * (dY.ndim - 2), -1), out=weighted)
            layer.weight_gradient(weighted, ws, *saved)

    def _factors(self, squares: list) -> list:
        """For each layer what its records' gradients are multiplied by, (R, N): 1 / max(1, norm / bound)."""
        if self.clipping == "flat":
            return [self._factor(sum(squares), self.C)] * len(squares)
        return [self._factor(of_layer, self.C / len(squares) ** 0.5) for of_layer in squares]

    def _factor(self, squares: Any, bound: float) -> Any:
        return 1 / xp.maximum(1, xp.sqrt(squares) * (self.batch / bound))

    def add_noise(self, net: Network, columns: slice = ALL) -> None:
        """net.grad += N(0, (sigma C / L)^2 I), of each replica's own: once a step, after the workers' sums are one.

        Of some columns that is a part: who adds the rest has drawn the same noise, from generators in the same state.
        """
        for grad, generator in zip(net.grad, self.generators, strict=True):
            noise = generator.standard_normal(net.size, dtype=net.theta.dtype)
            noise *= self.sigma * self.C / self.batch
            grad[columns] += to_device(noise[columns])
        self.steps += 1
