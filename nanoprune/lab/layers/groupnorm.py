"""Group normalisation."""

from typing import Any

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError
from nanoprune.lab.layers.channels import check_channels
from nanoprune.nn.layer import Layer, positive
from nanoprune.nn.parameter import Parameter
from nanoprune.nn.workspace import Workspace

EPS = 1e-5


class GroupNorm(Layer):
    r"""Each sample n normalised in groups g of neighbouring channels (Wu & He 2018, equations 1 to 6):
    $$Y = \gamma_c x + \beta_c, \quad x = (X - \mu_{gn})/\sigma_{gn}, \quad \sigma_{gn} = \sqrt{v_{gn} + \epsilon},
      \quad \epsilon = 10^{-5},$$
    with mean and (biased) variance v over the m = H (C / groups) W values of a group in one sample. No sample
    influences another and there are no running statistics: training and evaluation are the same.

    X (R, H, C, W, N) or (R, C, N), Y alike; gamma, beta (R, C, 1), not pruned. With $d = \gamma_c dY$ and means over
    the m values of a group in a sample,
    $$d\beta = \sum dY, \quad d\gamma = \sum dY\, x, \quad dX = (d - \bar d - x\, \overline{d x})/\sigma.$$
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
        return check_channels(self, shape)

    def forward(self, X: Any, ws: Workspace) -> Any:
        A = self.grouped(X)  # (R, H, G, C/G, W, N)
        x = xp.subtract(A, mean(A), out=ws.buffer(self, "x", A.shape, X.dtype))
        Y = xp.multiply(x, x, out=ws.buffer(self, "Y", A.shape, X.dtype))
        inverse = 1 / xp.sqrt(mean(Y) + EPS)  # 1 / sigma, (R, 1, G, 1, 1, N)
        x *= inverse
        xp.multiply(x, self._column(self.gamma.value), out=Y)
        Y += self._column(self.beta.value)
        ws.save(self, x, inverse)
        return Y.reshape(X.shape)

    def weight_gradient(self, dY: Any, ws: Workspace, x: Any, inverse: Any) -> None:
        D = self.grouped(dY)  # (R, H, G, C/G, W, N)
        self.beta.grad[...] = self._over_samples(D)
        self.gamma.grad[...] = self._over_samples(xp.multiply(D, x, out=ws.scratch("term", x.shape, x.dtype)))

    def input_gradient(self, dY: Any, ws: Workspace, x: Any, inverse: Any) -> Any:
        dX = ws.gradient(self, x.shape, x.dtype)
        xp.multiply(self.grouped(dY), self._column(self.gamma.value), out=dX)  # d
        term = xp.multiply(dX, x, out=ws.scratch("term", x.shape, x.dtype))  # d x
        of_group = mean(term)  # (R, 1, G, 1, 1, N)
        dX -= mean(dX)
        dX -= xp.multiply(x, of_group, out=term)
        dX *= inverse
        return dX.reshape(dY.shape)

    def grouped(self, X: Any) -> Any:
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
