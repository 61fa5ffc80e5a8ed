"""DP-SGD: stochastic gradient descent that bounds the influence of one record (Abadi et al. 2016, arXiv 1607.00133)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from nanoprune.backend import to_device, xp
from nanoprune.defend.losses import CROSS_ENTROPY
from nanoprune.defend.record_norms import record_norms
from nanoprune.errors import ArgumentError
from nanoprune.minibatch import MiniBatch
from nanoprune.nn import Network, Workspace, cross_entropy
from nanoprune.nn.formula import Formula
from nanoprune.nn.registry import check_registered
from nanoprune.nn.sequential import leaves

CLIPPINGS = ("flat", "layer")


@Formula
def add_scaled(grad, noise, *, scale):
    grad += scale * noise


class DPSGD(MiniBatch):
    r"""Algorithm 1 of Abadi et al. in the order of its lines. Each step

        samples      every record with probability q = L / M, independently (Poisson sampling)
        computes     g_i, the gradient of each record's loss
        clips        g_i <- g_i / max(1, ||g_i|| / C)
        adds noise   g <- 1/L (sum_i g_i + N(0, sigma^2 C^2 I))
        descends     by any function of g, theta and constants: momentum, weight decay, a mask, the penalty, the
                     projection and the dual step of ADMM are post-processing, which costs nothing

    so that adding or removing one record moves the sum by at most C, against noise of standard deviation sigma C;
    `nanoprune.lab.privacy` computes the epsilon. M is the number of members, L the batch of the schedule, a
    constant that the loss is divided by: the size of a sample is secret too. Here the loss carries the 1/L, so that a
    record's gradient is g_i / L, clipped to C / L.

    Per-record gradients are never stored. Their squared norms follow from what the backward pass computes anyway
    (`record_norms`), and the weight gradient from dY weighted record by record is $\sum_i c_i g_i$
    (Bu et al. 2023, arXiv 2210.00038, "book-keeping").

    Every replica has its own samples and noise. Shorter samples are padded with the index -1, no record, whose loss
    counts 0 times. With a mask only the gradients of survivors count for the norm, so that less is clipped.

    clipping "flat": C bounds the norm of a record's whole gradient; "layer": C / sqrt(layers) that of each layer's.
    seeds: None for generators seeded by the operating system; one per replica for a repeatable run, without privacy.
    PCG64 is not a cryptographic generator, and the bound ignores floating-point rounding (Mironov 2012).
    """

    defer = True

    def __init__(self, clip: float, noise: float, clipping: str = "flat", seeds: Sequence[int] | None = None) -> None:
        if not 0 < clip < np.inf:
            raise ArgumentError(f"clip must be positive and finite, got {clip}")
        if not 0 <= noise < np.inf:
            raise ArgumentError(f"noise must be finite and not negative, got {noise}")
        if clipping not in CLIPPINGS:
            raise ArgumentError(f"clipping must be one of {', '.join(CLIPPINGS)}, got {clipping!r}")
        self.C, self.sigma, self.clipping, self.seeds = clip, noise, clipping, seeds
        self.generators: list[np.random.Generator] = []
        self.steps = 0  # steps with noise, over all trainings

    def begin(
        self, net: Network, members: np.ndarray, plan: Any, generators: list, L_D: Callable, mask: Any, game: Any
    ) -> None:
        """As in `MiniBatch`, but all draws come from its own generators: with a public seed, augmentation and dropout
        could reveal who is in a batch."""
        if game:
            raise ArgumentError(
                "DP-SGD cannot be combined with the Min-Max game, whose adversary sees members without clipping; "
                "leave out one"
            )
        if plan.loss != CROSS_ENTROPY:
            raise ArgumentError(f"loss must be {CROSS_ENTROPY} with DP-SGD, got {plan.loss}")
        if not 1 <= plan.batch <= members.shape[1]:
            raise ArgumentError(f"batch must lie in 1..{members.shape[1]} for Poisson sampling, got {plan.batch}")
        for layer in trained_layers(net):
            check_registered(record_norms, layer)
        if not self.generators:
            self.generators = [np.random.default_rng(seed) for seed in self.seeds or [None] * net.replicas]
        if len(self.generators) != net.replicas:
            raise ArgumentError(f"seeds must be one for each of {net.replicas} replicas, got {len(self.generators)}")
        self.members, self.batch = members, plan.batch
        self.support = mask.M if mask else None  # (R, n): 1 where a weight is trained

    def batches(self) -> Iterator[np.ndarray]:
        """The round(M / L) samples of an epoch: indices (R, B), B the largest sample's size, at least 1."""
        R, M = self.members.shape
        for _ in range(round(M / self.batch)):
            drawn = np.stack([g.random(M) for g in self.generators]) < self.batch / M  # (R, M)
            sizes = drawn.sum(axis=1)
            index = np.full((R, max(1, sizes.max())), -1)
            for r in range(R):
                index[r, : sizes[r]] = self.members[r, drawn[r]]
            yield index

    def loss(self, logits: Any, y: Any, index: Any, ws: Workspace, count: int, epoch: int) -> tuple[Any, Any]:
        """The cross-entropy, summed over the sample and divided by L."""
        return cross_entropy(logits, y, self.batch, index >= 0)

    def clip(self, net: Network, ws: Workspace) -> None:
        """net.grad <- sum_i g_i / max(1, ||g_i|| / C), over the records of the backward pass that `ws` deferred."""
        deferred, ws.deferred = ws.deferred, []
        layers, trained = [layer for layer, *_ in deferred], trained_layers(net)
        if len(layers) != len(trained) or set(layers) != set(trained):
            raise ArgumentError(
                "DP-SGD clips every layer with parameters, each once in a backward pass; here "
                f"{len(layers)} took part, of {len(trained)}: let each call ws.weight_gradient exactly once"
            )
        support = self._support_of(net)
        squares = [record_norms(layer, dY, ws, saved, support) for layer, dY, saved in deferred]  # (R, N) each
        for (layer, dY, saved), c in zip(deferred, self._factors(squares), strict=True):
            weighted = ws.scratch("weighted", dY.shape, dY.dtype)
            xp.multiply(dY, c.astype(dY.dtype).reshape(len(c), *[1] * (dY.ndim - 2), -1), out=weighted)
            layer.weight_gradient(weighted, ws, *saved)  # sum_i c_i g_i

    def _support_of(self, net: Network) -> dict[Any, Any]:
        """For each Parameter of the weights its part of the support, (R, *shape); empty where all are trained."""
        if self.support is None:
            return {}
        found, start = {}, 0
        for p in net.weights:
            found[p] = self.support[:, start : start + p.size].reshape(-1, *p.shape)
            start += p.size
        return found

    def _factors(self, squares: list) -> list:
        """For each layer the factor of each record's gradient, (R, N): 1 / max(1, norm / bound)."""
        if self.clipping == "flat":
            return [self._factor(sum(squares), self.C)] * len(squares)
        return [self._factor(of_layer, self.C / len(squares) ** 0.5) for of_layer in squares]

    def _factor(self, squares: Any, bound: float) -> Any:
        return 1 / xp.maximum(1, xp.sqrt(squares) * (self.batch / bound))

    def add_noise(self, net: Network) -> None:
        """net.grad += N(0, (sigma C / L)^2 I), once per step, independently for each replica."""
        noise = np.stack([g.standard_normal(net.theta.shape[1], dtype=net.theta.dtype) for g in self.generators])
        net.apply(add_scaled, net.grad, to_device(noise), scale=self.sigma * self.C / self.batch)
        self.steps += 1

    def size(self, index: np.ndarray) -> int:
        return self.batch


def trained_layers(net: Network) -> list:
    """The layers that have parameters themselves, in the order of the forward pass."""
    return [layer for layer in leaves(net.body) if layer.parameters()]
