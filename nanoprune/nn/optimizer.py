"""SGD and Adam on the flat parameter vector theta.

Each update is a handful of elementwise lines. They run block by block, so that a block stays in the cache through all
of them: that is the loop over `_blocks`, and nothing else is in it that the formula does not have.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nanoprune.backend import to_device, to_host, xp
from nanoprune.nn.network import ALL, Network

BLOCK = 16384  # elements; four arrays of them fit into a level-2 cache. benchmarks/optimizer_block.py


class SGD:
    """Stochastic gradient descent with (heavy-ball) momentum m and weight decay d:

    V <- m V + (grad + d theta),   theta <- theta - lr V        (the convention of PyTorch)
    """

    def __init__(self, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        self.momentum, self.weight_decay = momentum, weight_decay
        self.V: Any = None

    def begin(self, net: Network, zeros: Callable[[tuple[int, ...], Any], Any] | None = None) -> None:
        """Make V, 0 before the first step, where it is not there yet; by zeros(shape, dtype), if given, in any case."""
        self.V = _begun(self.V, net.theta, zeros)

    def state(self) -> dict[str, Any]:
        """V (R, P), after `begin` or the first step."""
        return {} if self.V is None else {"V": to_host(self.V)}

    def restore(self, saved: Any, net: Network) -> None:
        """Take a state back, for parameters like those of `net`."""
        self.begin(net)
        self.V[...] = to_device(saved.array("V", net.theta.shape, net.theta.dtype)) if "V" in saved else 0

    def step(self, net: Network, lr: Any, columns: slice = ALL) -> None:
        """One update of net.theta (R, P) from net.grad, or of some of its columns; lr: a number or (R,)."""
        self.begin(net)
        for lr_r, (theta, grad, V, tmp) in _blocks(lr, columns, net.theta, net.grad, self.V):
            V *= self.momentum
            V += grad
            if self.weight_decay:
                V += xp.multiply(theta, self.weight_decay, out=tmp)
            theta -= xp.multiply(V, lr_r, out=tmp)


class Adam:
    """Adam (Kingma & Ba 2015, algorithm 1), with the two bias corrections folded into the step size as in section 2:

    M <- b1 M + (1 - b1) grad,   S <- b2 S + (1 - b2) grad^2,
    theta <- theta - lr (M / (1 - b1^t)) / (sqrt(S / (1 - b2^t)) + eps)

    weight_decay adds d theta to the gradient.
    """

    def __init__(self, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.0) -> None:
        self.b1, self.b2, self.eps, self.weight_decay = b1, b2, eps, weight_decay
        self.t = 0
        self.M: Any = None
        self.S: Any = None

    def begin(self, net: Network, zeros: Callable[[tuple[int, ...], Any], Any] | None = None) -> None:
        """Make M and S, 0 before the first step, where they are not there yet; by zeros(shape, dtype), if given, in any
        case."""
        self.M, self.S = (_begun(moment, net.theta, zeros) for moment in (self.M, self.S))

    def state(self) -> dict[str, Any]:
        """t, and after the first step M and S (R, P)."""
        return {"t": self.t} | ({"M": to_host(self.M), "S": to_host(self.S)} if self.t else {})

    def restore(self, saved: Any, net: Network) -> None:
        """Take a state back, for parameters like those of `net`."""
        self.t = saved.value("t", int, 0)
        self.begin(net)
        for name, values in (("M", self.M), ("S", self.S)):
            values[...] = to_device(saved.array(name, values.shape, values.dtype)) if self.t else 0

    def step(self, net: Network, lr: Any, columns: slice = ALL) -> None:
        """One update of net.theta (R, P) from net.grad, or of some of its columns; lr: a number or (R,)."""
        self.begin(net)
        self.t += 1
        # lr M^ / (sqrt(S^) + eps) = lr c M / (sqrt(S) + e), which saves two passes over the parameters
        root = (1 - self.b2**self.t) ** 0.5
        c, e = root / (1 - self.b1**self.t), self.eps * root
        for lr_r, (theta, grad, M, S, tmp) in _blocks(lr, columns, net.theta, net.grad, self.M, self.S):
            if self.weight_decay:
                grad += xp.multiply(theta, self.weight_decay, out=tmp)
            M *= self.b1
            M += xp.multiply(grad, 1 - self.b1, out=tmp)
            S *= self.b2
            S += xp.multiply(xp.multiply(grad, grad, out=tmp), 1 - self.b2, out=tmp)
            xp.sqrt(S, out=tmp)
            tmp += e
            xp.divide(M, tmp, out=tmp)
            theta -= xp.multiply(tmp, lr_r * c, out=tmp)


def _begun(moment: Any, theta: Any, zeros: Callable[[tuple[int, ...], Any], Any] | None) -> Any:
    """A moment as it is, or 0, in an array like theta (R, P): a new one where there is none, or zeros are given."""
    if moment is not None and zeros is None:
        return moment
    made = (zeros or xp.zeros)(theta.shape, theta.dtype)  # (R, P)
    if moment is not None:
        made[...] = moment
    return made


def _blocks(lr: Any, columns: slice, *arrays: Any) -> Iterator[tuple[Any, tuple]]:
    """The columns of arrays (R, P) in blocks of one replica's BLOCK parameters, with a temporary and its learning rate.

    On a GPU in one block, with the learning rate as it is or as (R, 1).
    """
    arrays = tuple(array[:, columns] for array in arrays)
    R, P = arrays[0].shape
    if not isinstance(arrays[0], np.ndarray):
        rates = lr if np.ndim(lr) == 0 else to_device(np.asarray(lr, arrays[0].dtype)[:, None])
        yield rates, (*arrays, xp.empty_like(arrays[0]))
        return
    tmp = np.empty(min(BLOCK, P), arrays[0].dtype)
    for r, lr_r in enumerate(np.broadcast_to(lr, R).tolist()):
        for start in range(0, P, BLOCK):
            stop = min(start + BLOCK, P)
            yield lr_r, (*(array[r, start:stop] for array in arrays), tmp[: stop - start])
