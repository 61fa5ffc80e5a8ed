"""From a sequence to the features of the record: the mean of its tokens, or its last token."""

from typing import Any

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError
from nanoprune.nn.layer import Layer
from nanoprune.nn.workspace import Workspace


class TokenMean(Layer):
    r"""The mean over the tokens of a record that are not padding (`ws.padding`, see `Embedding`).

    X (R, T, E, N), Y (R, E, N): $Y_n = \sum_t w_{tn} X_{tn}$, $dX_{tn} = w_{tn} dY_n$; w is 0 at padding, and elsewhere
    one over the number of tokens of record n. A record without a token gives 0.
    """

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 2:
            raise ArgumentError(f"{self!r} takes sequences (T, E), got {shape}")
        return shape[1:]

    def weights(self, real: Any) -> Any:
        """w (R, T, N) from `real` (R, T, N), 1 at tokens and 0 at padding."""
        return real / xp.maximum(real.sum(axis=1, keepdims=True), 1)

    def forward(self, X: Any, ws: Workspace) -> Any:
        R, T, E, N = X.shape
        real = xp.ones((R, T, N), X.dtype) if ws.padding is None else (~ws.padding).astype(X.dtype)
        w = self.weights(real)[:, :, None]  # (R, T, 1, N)
        weighted = xp.multiply(X, w, out=ws.scratch("weighted tokens", X.shape, X.dtype))
        ws.save(self, w)
        return xp.sum(weighted, axis=1, out=ws.buffer(self, "Y", (R, E, N), X.dtype))

    def input_gradient(self, dY: Any, ws: Workspace, w: Any) -> Any:
        (R, T, _, N), E = w.shape, dY.shape[1]
        return xp.multiply(w, dY[:, None], out=ws.gradient(self, (R, T, E, N), dY.dtype))


class LastToken(TokenMean):
    """The last token of a record that is not padding: w is 1 there and 0 elsewhere. For attention that is causal."""

    def weights(self, real: Any) -> Any:
        places = real * xp.arange(1, real.shape[1] + 1)[:, None]  # t + 1, and 0 at padding, (R, T, N)
        return real * (places == places.max(axis=1, keepdims=True))
