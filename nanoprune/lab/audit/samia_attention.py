r"""SAMIA with the self-attention of its authors (Yuan & Zhang 2022, arXiv 2202.03335, and the shapes of their code).

Each class c of a record is a token of three channels, $(\log p_c, \log s_c, [c = y])$, see
`nanoprune/attack/shadow/samia.py`. A dense layer with GELU makes them 64 channels wide; three blocks follow, each with
$$X \leftarrow \mathrm{LN}(X + \mathrm{Attention}(X)), \quad
  X \leftarrow \mathrm{LN}(X + W_2\, \mathrm{GELU}(W_1 X)),$$
four heads and a hidden layer of 128; then all tokens side by side, a dense layer of 64 with ReLU, and the logit of
membership. There is no positional encoding: only the last two layers know one class from another.

Deviations from their code: logarithms and noise as in `samia.py`; inputs standardised once, not in each batch; one
logit for their two; Adam for a fixed number of steps, not SGD for 100 epochs; no dropout and no weight decay.

A step takes far longer than one of the dense network, the more so with many classes, so this attack is made only where
`--attacks` has its full name.
"""

from __future__ import annotations

import numpy as np

from nanoprune.attack.shadow.fit import MemberNetwork, fit_member_network
from nanoprune.attack.shadow.samia import MOST
from nanoprune.lab.layers import GELU, LayerNorm, Residual, TokenDense, self_attention
from nanoprune.nn import Dense, Flatten, Layer, Network, ReLU, Sequential

WIDTH, HEADS, INSIDE, BLOCKS = 64, 4, 128, 3
BATCH, STEPS, RATE = 128, 600, 1e-3
OF_CLASS = 3  # log p, log s, whether it is the label


def attention_network(classes: int, replicas: int = 1) -> Network:
    """h(tokens): inputs (R, classes, 3, N), outputs (R, 1, N), the logit of membership."""
    layers: list[Layer] = [TokenDense(OF_CLASS, WIDTH), GELU()]
    for _ in range(BLOCKS):
        forward = Sequential(TokenDense(WIDTH, INSIDE), GELU(), TokenDense(INSIDE, WIDTH))
        layers += [Residual(self_attention(WIDTH, HEADS)), LayerNorm(WIDTH), Residual(forward), LayerNorm(WIDTH)]
    layers += [Flatten(), Dense(classes * WIDTH, WIDTH), ReLU(), Dense(WIDTH, 1)]
    return Network(Sequential(*layers), (classes, OF_CLASS), replicas)


def tokens_of(features: np.ndarray) -> np.ndarray:
    """(..., n, 3 classes), as `samia_features` makes them, to (..., n, classes, 3)."""
    return features.reshape(*features.shape[:-1], OF_CLASS, -1).swapaxes(-1, -2)


def fit_samia_attention(features: np.ndarray, member: np.ndarray, seed: int = 0) -> MemberNetwork:
    """Learn from tokens (n, classes, 3) and member (n,) bool; at most MOST of them, drawn at random."""
    h = attention_network(features.shape[-2]).initialise([np.random.default_rng([seed, 2])])
    return fit_member_network(features, member, h, BATCH, STEPS, RATE, MOST, seed)
