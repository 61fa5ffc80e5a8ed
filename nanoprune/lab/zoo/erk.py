"""ERK, the Erdős–Rényi kernel rule: weights allocated across layers by fan-in and fan-out."""

from __future__ import annotations

from collections.abc import Sequence

from nanoprune.errors import ArgumentError
from nanoprune.nn import Parameter


def erk(weights: Sequence[Parameter], keep: float) -> list[float]:
    r"""The keep ratio of each layer, so that all layers together keep a share `keep`, up to the rounding of `Budget`:
    $$k_i = \min(n_i,\ s\,e_i), \quad e_i = n_{in} + n_{out} + k_h + k_w \text{ (convolution)}, \quad
      e_i = n_{in} + n_{out} \text{ (dense)},$$
    where $n_i = n_{in} n_{out} k_h k_w$ is the number of the layer's weights and s is the same for all layers (Evci et
    al. 2020, arXiv 1911.11134, section 3). Small layers keep a larger share, and no layer loses all weights, as may
    happen with one global budget. $n_{in}$ is 1 in a depthwise convolution. Raises ArgumentError unless 0 < keep <= 1.
    """
    if not 0.0 < keep <= 1.0:
        raise ArgumentError(f"keep must lie in (0, 1], got {keep}")
    n, e = [p.size for p in weights], [sum(p.shape[:1] + (p.window or p.shape[1:])) for p in weights]
    whole: set[int] = set()  # layers that keep all weights: those with s e_i >= n_i
    while True:
        others = [i for i in range(len(n)) if i not in whole]
        s = (keep * sum(n) - sum(n[i] for i in whole)) / max(1, sum(e[i] for i in others))
        full = {i for i in others if s * e[i] >= n[i]}
        if not full:
            return [1.0 if i in whole else s * e[i] / n[i] for i in range(len(n))]
        whole |= full
