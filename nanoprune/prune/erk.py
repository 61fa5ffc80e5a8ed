"""How many weights each layer keeps of those that all layers together may: the Erdős–Rényi kernel rule."""

from __future__ import annotations

from collections.abc import Sequence

from nanoprune.errors import ArgumentError
from nanoprune.nn.layer import Parameter


def erk(weights: Sequence[Parameter], keep: float) -> list[float]:
    """The ratio of each layer's weights, so that together they are `keep` of all, but for `Budget`'s rounding down:

        k_i = min(n_i, s e_i),
        e_i = n_in + n_out + kh + kw   for a convolution,   n_in + n_out   for a dense layer,

    n_i = n_in n_out kh kw is the number of its weights, and s is the same for all layers (Evci et al. 2020, arXiv
    1911.11134, section 3). A layer twice as wide at both ends has four times the weights and keeps about twice as many:
    small layers keep a larger share, and none loses all, as may happen where the largest of all weights are kept. n_in
    is 1 in a depthwise convolution, which reads one channel for each that it makes. Raises ArgumentError unless
    0 < keep <= 1.
    """
    if not 0.0 < keep <= 1.0:
        raise ArgumentError(f"keep must lie in (0, 1], got {keep}")
    n, e = [p.size for p in weights], [sum(p.shape[:1] + (p.window or p.shape[1:])) for p in weights]
    whole: set[int] = set()  # layers that keep all: those with s e_i >= n_i
    while True:
        others = [i for i in range(len(n)) if i not in whole]
        s = (keep * sum(n) - sum(n[i] for i in whole)) / max(1, sum(e[i] for i in others))
        full = {i for i in others if s * e[i] >= n[i]}
        if not full:
            return [1.0 if i in whole else s * e[i] / n[i] for i in range(len(n))]
        whole |= full
