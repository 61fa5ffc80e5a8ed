"""RelaxLoss (Chen, Yu & Fritz 2022, arXiv 2207.05801): the training loss of the members is held near a level alpha.

The paper (algorithm 1) and the code that its authors published differ where the loss is below alpha in an odd epoch;
`relaxloss` is the paper's algorithm, `relaxloss_code` the loss of the code. Epochs count from 0, as in the code.
"""

from typing import Any

from nanoprune.backend import xp
from nanoprune.defend.log_softmax import log_softmax
from nanoprune.nn import Workspace, cross_entropy, softmax
from nanoprune.nn.loss import one_hot


def relaxloss(logits: Any, y: Any, count: int, ws: Workspace, epoch: int, alpha: float) -> tuple[Any, Any]:
    """The cross-entropy L (R,) of the batch, and the gradient (R, classes, N) in the logits that the step follows.

        L >= alpha                 (p - onehot(y)) / n          gradient descent
        L < alpha, even epoch      -(p - onehot(y)) / n         gradient ascent
        L < alpha, odd epoch       (p - t) / n                  posterior flattening

    The soft label t keeps the confidence, $t_y = p_y$, and spreads the rest, $t_c = (1 - p_y) / (classes - 1)$ for each
    $c != y$. It is a constant, so that (p - t) / n is the gradient of the cross-entropy against t.

    logits (R, classes, N), y (R, N); count: n, the records of the whole batch. L is the mean over the whole batch, of
    which `logits` may be one worker's shard: the workers sum it (`Workspace.all_reduce`). Each replica has its own L.
    """
    return _relaxed(logits, y, count, ws, epoch, alpha, flattening(logits, y, count))


def relaxloss_code(
    logits: Any, y: Any, count: int, ws: Workspace, epoch: int, alpha: float, upper: float
) -> tuple[Any, Any]:
    """`relaxloss` as in the authors' code (github.com/DingfanChen/RelaxLoss, source/cifar/defense/relaxloss.py).

    It differs from the paper where L < alpha in an odd epoch. There each record's loss is

        -CE(onehot(y), p)                   where the predicted class is right: gradient ascent
        CE(t, p) - CE(onehot(y), p)         where it is wrong: flattening and ascent

    with $t_y = min(p_y, upper)$, $t_c = (1 - t_y) / (classes - 1)$, and the gradient passes through t as well:

        $dCE(t, p)/dz = p - t - [p_y <= upper] p_y (onehot(y) - p) (log p_y - mean_{c != y} log p_c)$
    """
    classes = logits.shape[1]
    p, onehot = softmax(logits), one_hot(y, classes, logits.dtype)  # (R, classes, N)
    log_p = log_softmax(logits)  # (R, classes, N)
    p_y, log_p_y = ((of * onehot).sum(axis=1, keepdims=True) for of in (p, log_p))  # (R, 1, N)
    others = ((1 - onehot) * log_p).sum(axis=1, keepdims=True) / (classes - 1)  # (R, 1, N): mean over c != y
    t_y = xp.minimum(p_y, upper)
    t = onehot * t_y + (1 - onehot) * (1 - t_y) / (classes - 1)  # (R, classes, N)
    soft = p - t - (p_y <= upper) * p_y * (onehot - p) * (log_p_y - others)  # dCE(t, p)/dz
    wrong = (logits.argmax(axis=1) != y)[:, None]  # (R, 1, N)
    return _relaxed(logits, y, count, ws, epoch, alpha, (wrong * soft - (p - onehot)) / count)


def flattening(logits: Any, y: Any, count: int) -> Any:
    """(p - t) / n (R, classes, N) from logits (R, classes, N) and y (R, N); t as in `relaxloss`."""
    p, classes = softmax(logits), logits.shape[1]
    onehot = one_hot(y, classes, p.dtype)  # (R, classes, N)
    p_y = (p * onehot).sum(axis=1, keepdims=True)  # (R, 1, N)
    return (1 - onehot) * (p - (1 - p_y) / (classes - 1)) / count


def _relaxed(logits: Any, y: Any, count: int, ws: Workspace, epoch: int, alpha: float, odd: Any) -> tuple[Any, Any]:
    """L, and by L and the epoch the gradient of descent, of ascent, or `odd` (R, classes, N) of an odd epoch."""
    loss, descent = cross_entropy(logits, y, count)  # (R,), (R, classes, N)
    (batch_loss,) = ws.all_reduce(loss)  # (R,)
    relaxed = -descent if epoch % 2 == 0 else odd
    return loss, xp.where((batch_loss >= alpha)[:, None, None], descent, relaxed)
