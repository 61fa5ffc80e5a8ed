"""The losses L_D(W) by name, as schedules and the steps of model files have them."""

from collections.abc import Callable
from typing import Any

from nanoprune.defend.label_smoothing import label_smoothing
from nanoprune.defend.relaxloss import relaxloss
from nanoprune.errors import ArgumentError
from nanoprune.nn import Workspace, cross_entropy

CROSS_ENTROPY = "cross-entropy"
LOSSES = (CROSS_ENTROPY, "label-smoothing:E", "relaxloss:ALPHA")

Loss = Callable[[Any, Any, int, Workspace, int], tuple[Any, Any]]  # (logits, y, count, ws, epoch) -> (L, dL/dlogits)


def loss_function(name: str) -> Loss:
    """The loss of a name: "cross-entropy", "label-smoothing:E" with E in [0, 1], or "relaxloss:ALPHA", ALPHA >= 0.

    As a function of the logits (R, classes, N), the labels y (R, N), the number of records of the whole batch, the
    workspace and the epoch, from 0, it gives L (R,) and dL/dlogits (R, classes, N). Raises ArgumentError on another
    name.
    """
    kind, _, text = name.partition(":")
    if name == CROSS_ENTROPY:
        return lambda logits, y, count, ws, epoch: cross_entropy(logits, y, count)
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if kind == "label-smoothing" and 0 <= value <= 1:
        return lambda logits, y, count, ws, epoch: label_smoothing(logits, y, count, value)
    if kind == "relaxloss" and 0 <= value < float("inf"):
        return lambda logits, y, count, ws, epoch: relaxloss(logits, y, count, ws, epoch, value)
    raise ArgumentError(f"loss must be one of {', '.join(LOSSES)}, E in [0, 1] and ALPHA at least 0, got {name!r}")
