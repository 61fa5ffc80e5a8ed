"""Batch normalisation."""

from typing import Any

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError
from nanoprune.lab.layers.channels import check_channels, flat, inner, total
from nanoprune.nn.layer import Layer, positive
from nanoprune.nn.parameter import Parameter, Statistic
from nanoprune.nn.workspace import Workspace

EPS = 1e-5


class BatchNorm(Layer):
    r"""Each channel c normalised to mean 0 and variance 1, scaled and shifted (Ioffe & Szegedy 2015, algorithm 1):
    $$Y = \gamma_c x + \beta_c, \quad x = (X - \mu_c)/\sigma_c, \quad \sigma_c = \sqrt{v_c + \epsilon}, \quad
      \epsilon = 10^{-5}.$$

    X (R, H, C, W, N) or (R, C, N), Y alike; gamma, beta (R, C, 1), not pruned.

    Training: mean and (biased) variance v are those of the m values of the channel in this batch; m >= 2, else
    ArgumentError. The running `mean` and `var` (R, C, 1) follow them, the unbiased variance v m / (m - 1) as in PyTorch
    (`Network.update_statistics`). With sums over the m values of a channel,
    $$d\beta = \sum dY, \quad d\gamma = \sum dY\, x, \quad
      dX = \tfrac{\gamma}{\sigma} \left(dY - \tfrac{d\beta}{m} - x \tfrac{d\gamma}{m}\right).$$
    Where a batch is divided among processes, these sums go over all shards (`Workspace.all_reduce`); the gradients of
    gamma and beta are those of one shard, as in every layer.

    Evaluation, as in an attack: mean and variance are the running ones. They are constants, so no sample influences
    another: $dX = \gamma/\sigma\, dY$.
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
        return check_channels(self, shape)

    def forward(self, X: Any, ws: Workspace) -> Any:
        A = flat(X)  # (R, H, C, W*N)
        Y = ws.buffer(self, "Y", A.shape, X.dtype)
        mu, var, m = self._measure(A, Y, ws) if ws.training else (self.mean.value, self.var.value, None)
        inverse = 1 / xp.sqrt(var + EPS)  # 1 / sigma, (R, C, 1)
        scale = self.gamma.value * inverse
        xp.multiply(A, scale[:, None], out=Y)
        Y += (self.beta.value - mu * scale)[:, None]
        ws.save(self, X, mu.copy(), inverse, m, [])
        return Y.reshape(X.shape)

    def _measure(self, A: Any, centred: Any, ws: Workspace) -> tuple[Any, Any, int]:
        """Mean and biased variance of each channel in the batch, (R, C, 1), and m. Leaves A - mean in `centred`."""
        sums, m = ws.all_reduce(total(A), A.shape[1] * A.shape[3])  # (R, C, 1)
        if m < 2:
            raise ArgumentError(
                f"{self!r} needs at least 2 values per channel in training, got {m}; use larger batches"
            )
        mu = sums / m
        xp.subtract(A, mu[:, None], out=centred)
        (squares,) = ws.all_reduce(inner(centred, centred))  # (R, C, 1)
        var = squares / m
        self.mean.batch[...], self.var.batch[...] = mu, var * (m / (m - 1))
        return mu, var, m

    def _sums(self, dY: Any, ws: Workspace, X: Any, mu: Any, inverse: Any, sums: list) -> tuple[Any, Any, Any]:
        """X - mu, dbeta and dgamma of one shard; computed once, by whichever gradient is computed first."""
        if not sums:
            A, D = flat(X), flat(dY)  # (R, H, C, W*N)
            centred = xp.subtract(A, mu[:, None], out=ws.scratch("centred", A.shape, A.dtype))
            sums += [centred, total(D), inner(D, centred) * inverse]  # dbeta, dgamma (R, C, 1)
        return tuple(sums)

    def weight_gradient(self, dY: Any, ws: Workspace, X: Any, mu: Any, inverse: Any, m: int | None, sums: list) -> None:
        _, self.beta.grad[...], self.gamma.grad[...] = self._sums(dY, ws, X, mu, inverse, sums)

    def input_gradient(self, dY: Any, ws: Workspace, X: Any, mu: Any, inverse: Any, m: int | None, sums: list) -> Any:
        D, scale = flat(dY), self.gamma.value * inverse  # (R, H, C, W*N), gamma / sigma (R, C, 1)
        dX = ws.gradient(self, D.shape, X.dtype)
        if m is None:
            xp.multiply(D, scale[:, None], out=dX)
            return dX.reshape(X.shape)
        centred, *of_part = self._sums(dY, ws, X, mu, inverse, sums)
        dbeta, dgamma = ws.all_reduce(*of_part)
        xp.multiply(centred, (dgamma * inverse * (-1 / m))[:, None], out=dX)  # - x dgamma / m
        dX += D  # + dY
        dX -= (dbeta / m)[:, None]  # - dbeta / m
        dX *= scale[:, None]  # times gamma / sigma
        return dX.reshape(X.shape)

    def __repr__(self) -> str:
        return f"BatchNorm({self.channels})"
