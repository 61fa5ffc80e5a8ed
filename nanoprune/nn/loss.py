"""Losses from logits, with their gradients."""

from typing import Any

from nanoprune.backend import xp


def softmax(logits: Any) -> Any:
    r"""$p_c = \exp(z_c) / \sum_k \exp(z_k)$ over axis 1 of (R, classes, N), stable: the largest exponent is 0."""
    p = logits - logits.max(axis=1, keepdims=True)  # (R, classes, N)
    xp.exp(p, out=p)
    p /= p.sum(axis=1, keepdims=True)
    return p


def sigmoid(z: Any) -> Any:
    r"""$1 / (1 + \exp(-z))$, stable for any z: $(1 + \tanh(z/2)) / 2$ never overflows."""
    return 0.5 * (1 + xp.tanh(0.5 * z))


def one_hot(y: Any, classes: int, dtype: Any) -> Any:
    """Labels (R, N) as unit vectors (R, classes, N)."""
    return (xp.arange(classes)[None, :, None] == y[:, None, :]).astype(dtype)


def cross_entropy(logits: Any, y: Any, count: int | None = None, weight: Any = None) -> tuple[Any, Any]:
    r"""$L = -\tfrac1n \sum_i \log p(y_i | x_i)$, p = softmax(logits), and its gradient (p - onehot(y)) / n.

    logits (R, classes, N) and labels y (R, N) give L (R,), dL/dlogits (R, classes, N). count: n, where these samples
    are a part of a batch of n (default N). weight (R, N): how often each sample counts in the sum (default once).
    $\log p = z - \max z - \log \sum \exp(z - \max z)$ is finite for any finite logits.
    """
    return soft_cross_entropy(logits, one_hot(y, logits.shape[1], logits.dtype), count, weight)


def soft_cross_entropy(logits: Any, t: Any, count: int | None = None, weight: Any = None) -> tuple[Any, Any]:
    r"""$L = -\tfrac1n \sum_i \sum_c t_{ic} \log p_{ic}$ for targets t, and its gradient dL/dlogits = (p - t) / n.

    t (R, classes, N) is a constant and sums to 1 over the classes. Otherwise as `cross_entropy`.
    """
    n = logits.shape[-1] if count is None else count
    z = logits - logits.max(axis=1, keepdims=True)  # (R, classes, N)
    p = xp.exp(z)
    total = p.sum(axis=1)  # (R, N)
    losses = xp.log(total) - (z * t).sum(axis=1)  # (R, N)
    p /= total[:, None]
    p -= t
    if weight is not None:
        losses *= weight
        p *= weight[:, None]
    p /= n
    return losses.sum(axis=-1) / n, p


def log_loss(z: Any, t: Any, count: int | None = None) -> tuple[Any, Any]:
    r"""$-\tfrac1n \sum_i [t_i \log h_i + (1 - t_i) \log(1 - h_i)]$, h = sigmoid(z), and its gradient (h - t) / n.

    z and targets t in [0, 1], both (R, 1, N), give (R,) and (R, 1, N). count: as in `cross_entropy`.
    $-\log h = \log(1 + e^{-z})$ and $-\log(1 - h) = \log(1 + e^z)$, so each term is $\log(1 + e^z) - t z$: no overflow.
    """
    n = z.shape[-1] if count is None else count
    loss = (xp.logaddexp(0, z) - t * z).sum(axis=(1, 2)) / n  # (R,)
    return loss, (sigmoid(z) - t) / n
