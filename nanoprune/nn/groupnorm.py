"""Group normalisation."""

from typing import Any

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError
from nanoprune.nn.layer import Layer, Parameter, positive
from nanoprune.nn.workspace import Workspace

EPS = 1e-5


class GroupNorm(Layer):
    """Each sample by itself, in groups g of neighbouring channels (Wu & He 2018, equations 1 to 6):

        Y = gamma_c x + beta_c,    x = (X - mu_gn) / sigma_gn,    sigma_gn = sqrt(var_gn + eps),    eps = 1e-5,

    with mu and var the mean and (biased) variance over the m = H (C / groups) W values of a group in one sample. No
    sample sees another and nothing is remembered, so that training and evaluation are one.

    X (R, H, C, W, N) or (R, C, N), Y alike; gamma, beta (R, C, 1), neither of them pruned. With d = gamma_c dY and
    means over the m values of a group in a sample,
        dbeta = sum dY,   dgamma = sum dY x,   dX = (d - mean d - x mean(d x)) / sigma.
    """

    def __init__(self, groups: int, channels: int) -> None:
        self.groups, self.channels = positive("groups", groups), positive("channels", channels)
        if channels % groups:
            raise ArgumentError(f"channels must be a multiple of the {groups} groups, got {channels}")
        self.gamma = Parameter("gamma", (channels, 1), std=0.0, prunable=False, start=1.0)
        self.beta = Parameter("beta", (channels, 1), std=0.0, prunable=False)

    def parameters(self) -> list[Parameter]:
        return [self.gamma, self.beta]

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) not in (1, 3) or shape[len(shape) // 2] != self.channels:
            C = self.channels
            raise ArgumentError(f"{self!r} takes images (H, {C}, W) or features ({C},), got {shape}")
        return shape

    def forward(self, X: Any, ws: Workspace) -> Any:
        A = self._grouped(X)  # (R, H, G, C/G, W, N)
        x = ws.buffer(self, "x", A.shape, X.dtype)
        xp.subtract(A, mean(A), out=x)
        Y = xp.multiply(x, x, out=ws.buffer(self, "Y", A.shape, X.dtype))
        inverse = 1 / xp.sqrt(mean(Y) + EPS)  # 1 / sigma, (R, 1, G, 1, 1, N)
        x *= inverse
        xp.multiply(x, self._column(self.gamma.value), out=Y)
        Y += self._column(self.beta.value)
        ws.save(self, x, inverse)
        return Y.reshape(X.shape)

    def backward(self, dY: Any, ws: Workspace, need_dX: bool = True, need_dW: bool = True) -> Any:
        x, inverse = ws.saved(self)
        D = self._grouped(dY)  # (R, H, G, C/G, W, N)
        term = xp.multiply(D, x, out=ws.scratch("term", x.shape, x.dtype))
        if need_dW and not ws.keeps(self, dY, x):
            self.beta.grad[...], self.gamma.grad[...] = self._over_samples(D), self._over_samples(term)
        if not need_dX:
            return None
        gamma = self._column(self.gamma.value)
        term *= gamma  # d x
        of_group = mean(term)  # (R, 1, G, 1, 1, N)
        dX = xp.multiply(D, gamma, out=ws.gradient(self, x.shape, x.dtype))  # d
        dX -= mean(dX)
        dX -= xp.multiply(x, of_group, out=term)
        dX *= inverse
        return dX.reshape(dY.shape)

    def weight_gradient(self, dY: Any, ws: Workspace, x: Any) -> None:
        D = self._grouped(dY)  # (R, H, G, C/G, W, N)
        self.beta.grad[...], self.gamma.grad[...] = self._over_samples(D), self._over_samples(D * x)

    def record_norms(self, dY: Any, ws: Workspace, x: Any) -> Any:
        D = self._grouped(dY)  # (R, H, G, C/G, W, N)
        dbeta, dgamma = xp.sum(D, axis=(1, 4)), xp.sum(D * x, axis=(1, 4))  # (R, G, C/G, N)
        return xp.sum(dbeta * dbeta + dgamma * dgamma, axis=(1, 2))

    def _grouped(self, X: Any) -> Any:
        """(R, H, C, W, N) as (R, H, G, C/G, W, N), and (R, C, N) as (R, 1, G, C/G, 1, N)."""
        H, W = (X.shape[1], X.shape[3]) if len(X.shape) == 5 else (1, 1)
        return X.reshape(X.shape[0], H, self.groups, self.channels // self.groups, W, X.shape[-1])

    def _column(self, parameter: Any) -> Any:
        """(R, C, 1) as (R, 1, G, C/G, 1, 1)."""
        return parameter.reshape(parameter.shape[0], 1, self.groups, -1, 1, 1)

    def _over_samples(self, A: Any) -> Any:
        """The sum of each channel of A (R, H, G, C/G, W, N) over pixels and samples, (R, C, 1)."""
        return xp.sum(xp.sum(A, axis=(4, 5)), axis=1).reshape(A.shape[0], self.channels, 1)

    def __repr__(self) -> str:
        return f"GroupNorm({self.groups}, {self.channels})"


def mean(A: Any) -> Any:
    """The mean over a group in a sample, of A (R, H, G, C/G, W, N); (R, 1, G, 1, 1, N)."""
    return xp.sum(A, axis=(1, 3, 4), keepdims=True) / (A.shape[1] * A.shape[3] * A.shape[4])
