"""Label smoothing (Szegedy, Vanhoucke, Ioffe, Shlens & Wojna 2016, arXiv 1512.00567, section 7)."""

from typing import Any

from nanoprune.nn.loss import one_hot, soft_cross_entropy


def label_smoothing(logits: Any, y: Any, count: int, smoothing: float) -> tuple[Any, Any]:
    r"""$L = -\tfrac1n \sum_i \sum_c t_{ic} \log p_{ic}$, t = (1 - e) onehot(y) + e / classes; dL/dlogits = (p - t) / n.

    The targets are below 1, so that no record is fitted to a probability of 1. logits (R, classes, N), y (R, N);
    smoothing: e in [0, 1]. Returns L (R,) and its gradient (R, classes, N).
    """
    classes = logits.shape[1]
    t = (1 - smoothing) * one_hot(y, classes, logits.dtype) + smoothing / classes  # (R, classes, N)
    return soft_cross_entropy(logits, t, count)
