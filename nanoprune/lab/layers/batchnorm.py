"""Batch normalisation."""

from typing import Any

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError
from nanoprune.lab.layers.channels import ChannelFormula, check_channels, flat, inner, row_blocks, total
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
        mu, var, m = self._measure(A, ws) if ws.training else (self.mean.value, self.var.value, None)
        inverse = 1 / xp.sqrt(var + EPS)  # 1 / sigma, (R, C, 1)
        scale = self.gamma.value * inverse
        normalise(Y, A, scale=scale, shift=self.beta.value - mu * scale)
        ws.save(self, X, mu.copy(), inverse, m, [])
        return Y.reshape(X.shape)

    def _measure(self, A: Any, ws: Workspace) -> tuple[Any, Any, int]:
        """Mean and biased variance of each channel in the batch, (R, C, 1), and m."""
        sums, m = ws.all_reduce(total(A), A.shape[1] * A.shape[3])  # (R, C, 1)
        if m < 2:
            raise ArgumentError(
                f"{self!r} needs at least 2 values per channel in training, got {m}; use larger batches"
            )
        mu = sums / m
        squares = xp.zeros(mu.shape, mu.dtype)
        for rows in row_blocks(A.shape):
            centred = self._centred(A[:, rows], mu, ws)
            squares += inner(centred, centred)
        (squares,) = ws.all_reduce(squares)  # (R, C, 1)
        var = squares / m
        self.mean.batch[...], self.var.batch[...] = mu, var * (m / (m - 1))
        return mu, var, m

    def _centred(self, A: Any, mu: Any, ws: Workspace) -> Any:
        """A - mu for a block of rows (R, h, C, W*N), computed where it is needed: it stays in the cache."""
        centred = ws.scratch("centred", A.shape, A.dtype)
        centre(centred, A, mean=mu)
        return centred

    def _sums(self, dY: Any, ws: Workspace, X: Any, mu: Any, inverse: Any, sums: list) -> list:
        """dbeta and dgamma of one shard, (R, C, 1); computed once, by whichever gradient is computed first."""
        if not sums:
            A, D = flat(X), flat(dY)  # (R, H, C, W*N)
            dgamma = xp.zeros(mu.shape, mu.dtype)
            for rows in row_blocks(A.shape):
                dgamma += inner(D[:, rows], self._centred(A[:, rows], mu, ws))
            sums += [total(D), dgamma * inverse]
        return sums

    def weight_gradient(self, dY: Any, ws: Workspace, X: Any, mu: Any, inverse: Any, m: int | None, sums: list) -> None:
        self.beta.grad[...], self.gamma.grad[...] = self._sums(dY, ws, X, mu, inverse, sums)

    def input_gradient(self, dY: Any, ws: Workspace, X: Any, mu: Any, inverse: Any, m: int | None, sums: list) -> Any:
        D, scale = flat(dY), self.gamma.value * inverse  # (R, H, C, W*N), gamma / sigma (R, C, 1)
        dX = ws.gradient(self, D.shape, X.dtype)
        if m is None:
            xp.multiply(D, scale[:, None], out=dX)
            return dX.reshape(X.shape)
        dbeta, dgamma = ws.all_reduce(*self._sums(dY, ws, X, mu, inverse, sums))
        numbers = {"start": dbeta / m, "slope": dgamma * inverse / m, "scale": scale}
        normalise_gradient(dX, D, flat(X), mean=mu, **numbers)
        return dX.reshape(X.shape)

    def __repr__(self) -> str:
        return f"BatchNorm({self.channels})"


@ChannelFormula
def centre(Y: Any, X: Any, *, mean: Any) -> None:
    xp.subtract(X, mean, out=Y)


@ChannelFormula
def normalise(Y: Any, X: Any, *, scale: Any, shift: Any) -> None:
    xp.multiply(X, scale, out=Y)
    Y += shift


@ChannelFormula
def normalise_gradient(dX: Any, dY: Any, X: Any, *, mean: Any, slope: Any, start: Any, scale: Any) -> None:
    xp.subtract(X, mean, out=dX)
    dX *= slope  # x dgamma / m
    xp.subtract(dY, dX, out=dX)
    dX -= start  # dbeta / m
    dX *= scale  # gamma / sigma
