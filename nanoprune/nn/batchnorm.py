"""Batch normalisation."""

from typing import Any

import numpy as np

from nanoprune.backend import to_host, xp
from nanoprune.errors import ArgumentError
from nanoprune.nn.channels import flat, inner, total
from nanoprune.nn.layer import Layer, Parameter, Statistic, positive
from nanoprune.nn.workspace import Workspace

EPS = 1e-5


class BatchNorm(Layer):
    """Each channel c normalised to mean 0 and variance 1, then scaled and shifted (Ioffe & Szegedy 2015, algorithm 1):

        Y = gamma (X - mu_c) / sigma_c + beta,    sigma_c = sqrt(var_c + eps),    eps = 1e-5.

    X (R, H, C, W, N) or (R, C, N), Y alike; gamma, beta (R, C, 1), neither of them pruned.

    Training: mu_c and var_c are the mean and (biased) variance of the m values of the channel in this batch, of which
    there must be two (else ArgumentError). `mean` and
    `var` (R, C, 1) run after them: var after the unbiased var_c m / (m - 1), as in PyTorch; see `Network.remember`.
    With x = (X - mu) / sigma and sums over the m values of a channel,
        dbeta = sum dY,   dgamma = sum dY x,   dX = gamma / sigma (dY - dbeta / m - x dgamma / m).
    Where processes share a batch, these sums run over all of it (`Workspace.total`), so that the number of threads
    changes nothing but rounding. The gradients of gamma and beta are of a worker's own part, as in every layer.

    Evaluation (`ws.training` False), as in an attack: mu = mean and var = var are constants of each replica, so that no
    sample sees another: dX = gamma / sigma dY.
    """

    def __init__(self, channels: int) -> None:
        self.channels = positive("channels", channels)
        self.gamma = Parameter("gamma", (channels, 1), std=0.0, prunable=False, start=1.0)
        self.beta = Parameter("beta", (channels, 1), std=0.0, prunable=False)
        self.mean = Statistic("mean", (channels, 1), start=0.0)
        self.var = Statistic("var", (channels, 1), start=1.0, least=0.0)

    def parameters(self) -> list[Parameter]:
        return [self.gamma, self.beta]

    def statistics(self) -> list[Statistic]:
        return [self.mean, self.var]

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) not in (1, 3) or shape[len(shape) // 2] != self.channels:
            C = self.channels
            raise ArgumentError(f"{self!r} takes images (H, {C}, W) or features ({C},), got {shape}")
        return shape

    def forward(self, X: Any, ws: Workspace) -> Any:
        A = flat(X)  # (R, H, C, W*N)
        Y = ws.buffer(self, "Y", A.shape, X.dtype)
        if ws.training:
            mu, var, m = self._measure(A, Y, ws)
        else:
            mu, var, m = self.mean.value, self.var.value, None
        inverse = 1 / xp.sqrt(var + EPS)  # 1 / sigma, (R, C, 1)
        scale = self.gamma.value * inverse
        xp.multiply(A, scale[:, None], out=Y)
        Y += (self.beta.value - mu * scale)[:, None]
        ws.save(self, X, mu.copy(), inverse, m)
        return Y.reshape(X.shape)

    def backward(self, dY: Any, ws: Workspace, need_dX: bool = True, need_dW: bool = True) -> Any:
        X, mu, inverse, m = ws.saved(self)  # m: values of a channel in the batch; None in evaluation
        A, D = flat(X), flat(dY)  # (R, H, C, W*N)
        dX = ws.gradient(self, A.shape, X.dtype)
        if need_dW or m:
            xp.subtract(A, mu[:, None], out=dX)
            dbeta = total(D)  # (R, C, 1)
            dgamma = inner(D, dX) * inverse
        if need_dW:
            self.beta.grad[...], self.gamma.grad[...] = dbeta, dgamma
        if not need_dX:
            return None
        scale = self.gamma.value * inverse
        if m:
            dbeta, dgamma = ws.total(dbeta, dgamma)
            dX *= (dgamma * inverse * (-1 / m))[:, None]
            dX += D
            dX -= (dbeta / m)[:, None]
            dX *= scale[:, None]
        else:
            xp.multiply(D, scale[:, None], out=dX)
        return dX.reshape(X.shape)

    def constants(self, c: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        gamma, beta, mean, var = (values[:, 0].astype(np.float64) for values in self._host())  # (C,) each
        return gamma * (c - mean) / np.sqrt(var + EPS) + beta

    def needs(self, needed: np.ndarray, c: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return needed

    def narrowed(
        self, kept: np.ndarray, needed: np.ndarray, c: np.ndarray, shape: tuple[int, ...]
    ) -> tuple[Layer, list[np.ndarray], np.ndarray]:
        return BatchNorm(int(kept.sum())), [values[kept] for values in self._host()], kept

    def _host(self) -> list[np.ndarray]:
        """gamma, beta, mean and var of the first replica, (C, 1) each."""
        return [to_host(of.value)[0] for of in (*self.parameters(), *self.statistics())]

    def _measure(self, A: Any, centred: Any, ws: Workspace) -> tuple[Any, Any, int]:
        """Mean and biased variance of each channel in the batch, (R, C, 1), and the number m of its values.

        The statistics see the unbiased variance.
        """
        sums, m = ws.total(total(A), A.shape[1] * A.shape[3])  # (R, C, 1)
        if m < 2:
            raise ArgumentError(f"{self!r} needs at least 2 values a channel in training, got {m}; use larger batches")
        mu = sums / m
        xp.subtract(A, mu[:, None], out=centred)
        (squares,) = ws.total(inner(centred, centred))  # (R, C, 1)
        var = squares / m
        self.mean.seen[...], self.var.seen[...] = mu, var * (m / (m - 1))
        return mu, var, m

    def __repr__(self) -> str:
        return f"BatchNorm({self.channels})"
