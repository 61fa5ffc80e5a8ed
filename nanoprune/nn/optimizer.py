"""SGD and Adam on the flat parameter vector theta (R, P)."""

from typing import Any

from nanoprune.backend import xp
from nanoprune.nn.formula import Formula
from nanoprune.nn.network import Network


@Formula
def sgd_step(theta, g, V, *, lr, m, d):
    V *= m
    V += g
    if d:
        V += d * theta
    theta -= lr * V


class SGD:
    r"""Stochastic gradient descent with (heavy-ball) momentum m and weight decay d, in PyTorch's convention:
    $$V \leftarrow m V + (g + d\,\theta), \quad \theta \leftarrow \theta - \eta V.$$
    """

    def __init__(self, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        self.momentum, self.weight_decay = momentum, weight_decay
        self.V: Any = None  # (R, P), 0 before the first step

    def step(self, net: Network, lr: Any) -> None:
        """One update of net.theta from g = net.grad; lr: the learning rate, a number or (R,)."""
        self.V = xp.zeros_like(net.theta) if self.V is None else self.V
        net.apply(sgd_step, net.theta, net.grad, self.V, lr=lr, m=self.momentum, d=self.weight_decay)


@Formula
def adam_step(theta, g, M, S, *, lr, b1, c1, b2, c2, e):
    M *= b1
    M += c1 * g
    S *= b2
    S += c2 * (g * g)
    theta -= lr * (M / (xp.sqrt(S) + e))


class Adam:
    r"""Adam (Kingma & Ba 2015, algorithm 1), the two bias corrections folded into the step size as in their section 2:
    $$M \leftarrow b_1 M + (1 - b_1) g, \quad S \leftarrow b_2 S + (1 - b_2) g^2, \quad
      \theta \leftarrow \theta - \eta\, \frac{M / (1 - b_1^t)}{\sqrt{S / (1 - b_2^t)} + \epsilon}.$$
    """

    def __init__(self, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> None:
        self.b1, self.b2, self.eps, self.t = b1, b2, eps, 0
        self.M: Any = None  # (R, P), 0 before the first step
        self.S: Any = None

    def step(self, net: Network, lr: Any) -> None:
        """One update of net.theta from g = net.grad; lr: the learning rate, a number or (R,)."""
        if self.M is None:
            self.M, self.S = xp.zeros_like(net.theta), xp.zeros_like(net.theta)
        self.t += 1
        root = (1 - self.b2**self.t) ** 0.5  # lr M^ / (sqrt(S^) + eps) = lr c M / (sqrt(S) + e)
        c, e = root / (1 - self.b1**self.t), self.eps * root
        betas = {"b1": self.b1, "c1": 1 - self.b1, "b2": self.b2, "c2": 1 - self.b2}
        net.apply(adam_step, net.theta, net.grad, self.M, self.S, lr=lr * c, e=e, **betas)
