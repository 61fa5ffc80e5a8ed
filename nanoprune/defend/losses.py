"""The losses L_D(W) by the names that schedules and model files use."""

import math
from collections.abc import Callable
from typing import Any

from nanoprune.defend.label_smoothing import label_smoothing
from nanoprune.defend.ppb import ppb
from nanoprune.defend.relaxloss import relaxloss, relaxloss_code
from nanoprune.errors import ArgumentError
from nanoprune.nn import Workspace, cross_entropy

CROSS_ENTROPY = "cross-entropy"
LOSSES = (CROSS_ENTROPY, "label-smoothing:E", "relaxloss:ALPHA", "relaxloss-code:ALPHA:UPPER", "ppb:LAMBDA")

Loss = Callable[[Any, Any, int, Workspace, int], tuple[Any, Any]]  # (logits, y, count, ws, epoch) -> (L, dL/dlogits)


def loss_function(name: str) -> Loss:
    """The loss of a name: "cross-entropy", "label-smoothing:E" with E in [0, 1], "relaxloss:ALPHA" with ALPHA >= 0,
    "relaxloss-code:ALPHA:UPPER" with UPPER in (0, 1], as in the authors' code, or "ppb:LAMBDA" with LAMBDA >= 0.

    Its arguments are the logits (R, classes, N), the labels y (R, N), the number of records of the batch, the workspace
    and the epoch, from 0; it returns L (R,) and dL/dlogits (R, classes, N). Raises ArgumentError on another name.
    """
    kind, _, text = name.partition(":")
    text, _, bound = text.partition(":") if kind == "relaxloss-code" else (text, "", "nan")
    if name == CROSS_ENTROPY:
        return lambda logits, y, count, ws, epoch: cross_entropy(logits, y, count)
    try:
        value, upper = float(text), float(bound)
    except ValueError:
        value = upper = math.nan
    if kind == "label-smoothing" and 0 <= value <= 1:
        return lambda logits, y, count, ws, epoch: label_smoothing(logits, y, count, value)
    if kind == "relaxloss" and 0 <= value < math.inf:
        return lambda logits, y, count, ws, epoch: relaxloss(logits, y, count, ws, epoch, value)
    if kind == "relaxloss-code" and 0 <= value < math.inf and 0 < upper <= 1:
        return lambda logits, y, count, ws, epoch: relaxloss_code(logits, y, count, ws, epoch, value, upper)
    if kind == "ppb" and 0 <= value < math.inf:
        return lambda logits, y, count, ws, epoch: ppb(logits, y, count, value)
    ranges = "E in [0, 1], ALPHA and LAMBDA at least 0, UPPER in (0, 1]"
    raise ArgumentError(f"loss must be one of {', '.join(LOSSES)}, {ranges}, got {name!r}")
