"""RelaxLoss (Chen, Yu & Fritz 2022, arXiv 2207.05801, algorithm 1): the loss of the members is held at alpha."""

from typing import Any

from nanoprune.backend import xp
from nanoprune.nn import Workspace, cross_entropy, softmax
from nanoprune.nn.loss import one_hot


def relaxloss(logits: Any, y: Any, count: int, ws: Workspace, epoch: int, alpha: float) -> tuple[Any, Any]:
    """The cross-entropy L (R,) of the batch, and the direction (R, classes, N) that its step takes in the logits:

        L > alpha                  dL/dlogits = (p - onehot(y)) / n          descent, as ever
        L <= alpha, epoch even     -dL/dlogits                               ascent
        L <= alpha, epoch odd      (p - t) / n                               posterior flattening

    Epochs count from 0. The flat target t keeps the confidence p_y and spreads the rest, (1 - p_y) / (classes - 1) for
    each c != y; it is taken for a constant, so that (p - t) / n is the gradient of the cross-entropy against it. (The
    authors' code besides bounds p_y in t, by a second number for each data set.)

    L is the mean over the whole batch, of which `logits` may be a worker's part: they add it up
    (`Workspace.all_reduce`). Each replica goes by its own.
    """
    loss, descent = cross_entropy(logits, y, count)  # (R,), (R, classes, N)
    (batch_loss,) = ws.all_reduce(loss)  # (R,)
    relaxed = -descent if epoch % 2 == 0 else flattening(logits, y, count)  # (R, classes, N)
    return loss, xp.where((batch_loss > alpha)[:, None, None], descent, relaxed)


def flattening(logits: Any, y: Any, count: int) -> Any:
    """(p - t) / n with t_y = p_y, t_c = (1 - p_y) / (classes - 1): (R, classes, N) from logits alike and y (R, N)."""
    p, classes = softmax(logits), logits.shape[1]
    onehot = one_hot(y, classes, p.dtype)  # (R, classes, N)
    p_y = (p * onehot).sum(axis=1, keepdims=True)  # (R, 1, N)
    return (1 - onehot) * (p - (1 - p_y) / (classes - 1)) / count
