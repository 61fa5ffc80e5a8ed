"""The attack network of Nasr, Shokri & Houmansadr 2018 (arXiv 1807.05852, section 4 and figure 3)."""

from typing import Any

from nanoprune.backend import xp
from nanoprune.nn import Branches, Dense, Network, ReLU, Sequential
from nanoprune.nn.loss import one_hot


def attacker(classes: int, replicas: int = 1, dtype: str = "float32") -> Network:
    """h(p, y): a branch 1024-512-64 on the prediction p, another 512-64 on the one-hot label y, then 256-64-1.

    Input (R, 2 classes, N): p above y. Output (R, 1, N): the logit of the probability that (x, y) is a member.
    The last layer is initialised to zero, so that an untrained h returns 1/2, with a loss of log 2.
    """
    prediction = Sequential(Dense(classes, 1024), ReLU(), Dense(1024, 512), ReLU(), Dense(512, 64), ReLU())
    label = Sequential(Dense(classes, 512), ReLU(), Dense(512, 64), ReLU())
    joint = [Dense(128, 256), ReLU(), Dense(256, 64), ReLU(), Dense(64, 1)]
    joint[-1].W.std = 0.0
    body = Sequential(Branches((classes, prediction), (classes, label)), *joint)
    return Network(body, (2 * classes,), replicas, dtype)


def attack_input(p: Any, y: Any) -> Any:
    """The input of the attack network: predictions p (R, classes, N) above the one-hot labels y (R, N)."""
    return xp.concatenate([p, one_hot(y, p.shape[1], p.dtype)], axis=1)  # (R, 2 classes, N)
