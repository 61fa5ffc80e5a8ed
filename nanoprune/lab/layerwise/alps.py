"""ALPS (Meng, Behdin, Wang & Mazumder 2024, arXiv 2406.07831): ADMM for one layer, then least squares."""

from __future__ import annotations

import numpy as np

from nanoprune.lab.layerwise.quadratic import damped, largest, refit

ITERATIONS, EVERY = 300, 3  # at most; between looks at the support
RHO, LEAST = 0.1, 1e-6  # the first penalty, and the smallest


def alps(W: np.ndarray, H: np.ndarray, k: int) -> np.ndarray:
    r"""k weights of least error for the layer with weights W (O, I), as far as ADMM finds them.

    As in the paper, with the weights as rows, B for its W and W for its dense weights:

        $B \leftarrow (W H - V + \rho D)(H + \rho I)^{-1}, \quad D \leftarrow \Pi(B + V / \rho), \quad
        V \leftarrow V + \rho (B - D)$

    H is damped, and inputs are scaled so that its diagonal is 1. Every third iteration rho grows by 1.3, 1.2 or 1.1
    where at least k / 10, k / 200 or 1 entries of the support have changed; where none has, it ends. As in the authors'
    code a support that has not changed at all divides rho by 5, since the first rho may be too large to leave the
    largest weights. In place of their conjugate gradients the least squares on the support of D are solved exactly.
    """
    H = damped(H)
    scale = np.sqrt(np.diag(H))  # (I,)
    dense, A = W * scale, H / np.outer(scale, scale)
    values, Q = np.linalg.eigh(A)
    goal, rho, V = dense @ A, RHO, np.zeros_like(W)
    support = before = largest(dense, k)
    D, moved = np.where(support, dense, 0.0), False
    for t in range(1, ITERATIONS + 1 if k < W.size else 1):
        B = (goal - V + rho * D) @ Q / (values + rho) @ Q.T
        support = largest(B + V / rho, k)
        D = np.where(support, B + V / rho, 0.0)
        V += rho * (B - D)
        if t % EVERY == 0:
            changed = int((support != before).sum())
            if changed == 0 and moved:
                break
            moved, before = moved or changed > 0, support
            grown = 1.3 if changed >= 0.1 * k else 1.2 if changed >= 0.005 * k else 1.1
            rho = rho * grown if changed else max(rho / 5, LEAST)
    return refit(W, support, H)
