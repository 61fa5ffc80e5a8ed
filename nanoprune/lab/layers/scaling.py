"""The columns of a table on one scale, each replica by the statistics of its own members."""

from typing import Any

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError
from nanoprune.nn.layer import Layer, positive
from nanoprune.nn.parameter import Statistic
from nanoprune.nn.workspace import Workspace


class ColumnScaling(Layer):
    r"""Each of the first `numbers` columns standardised, the others (0 or 1) as they are:
    $$Y_f = (X_f - \mu_f)/\sigma_f, \qquad Y_f = 0 \text{ where } X_f \text{ is NaN or } \sigma_f = 0.$$

    X (R, F, N), Y alike; `mean` and `std` (R, F, 1). A missing number is NaN in X, so that it becomes the mean. They
    are no running statistics: `lab.experiment.columns.fit_columns` sets them once, from the members of each replica,
    and training leaves them alone, to the last bit. For a column of 0 and 1 that one of the members has, mean is 0 and
    std 1; std is 0 where they all have the same number, or none of them the category. $dX = dY/\sigma$, and 0 there.
    """

    def __init__(self, columns: int, numbers: int) -> None:
        self.columns = positive("columns", columns)
        if not isinstance(numbers, int) or not 0 <= numbers <= columns:
            raise ArgumentError(f"numbers must be an integer from 0 to {columns}, got {numbers!r}")
        self.numbers = numbers
        self.mean = Statistic("mean", (columns, 1), start=0.0)
        self.std = Statistic("std", (columns, 1), start=1.0, least=0.0)
        self.mean.share = self.std.share = 0.0

    def statistics(self) -> list[Statistic]:
        return [self.mean, self.std]

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if shape != (self.columns,):
            raise ArgumentError(f"{self!r} takes features ({self.columns},), got {shape}")
        return shape

    def inverse(self) -> Any:
        """1 / std, and 0 where it is 0, (R, F, 1)."""
        std = self.std.value
        return xp.where(std > 0, 1 / xp.where(std > 0, std, 1), 0)

    def forward(self, X: Any, ws: Workspace) -> Any:
        n, inverse = self.numbers, self.inverse()
        known = X[:, :n] == X[:, :n]  # false where it is NaN, (R, numbers, N)
        Y = xp.multiply(X, inverse, out=ws.buffer(self, "Y", X.shape, X.dtype))
        centred = xp.subtract(X[:, :n], self.mean.value[:, :n], out=ws.scratch("centred", known.shape, X.dtype))
        centred *= inverse[:, :n]
        Y[:, :n] = xp.where(known, centred, 0)
        ws.save(self, inverse, known)
        return Y

    def input_gradient(self, dY: Any, ws: Workspace, inverse: Any, known: Any) -> Any:
        dX = xp.multiply(dY, inverse, out=ws.gradient(self, dY.shape, dY.dtype))
        dX[:, : self.numbers] *= known
        return dX

    def __repr__(self) -> str:
        return f"ColumnScaling({self.columns}, {self.numbers})"
