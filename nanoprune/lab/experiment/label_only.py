"""A label-only attack (Choquette-Choo, Tramer, Carlini & Papernot 2021, arXiv 2007.14321, section 3.3).

The attacker sees predicted labels and nothing else. It queries perturbed copies of a record and notes for which of them
the prediction is right: a network is right on more copies of the records that it was trained on. A logistic model turns
these features into a score. Defences that change the outputs and not the labels do not reach it.

The copies are those of the paper, few of each kind: shifts and the mirror image of images, bit flips of binary
features, Gaussian noise on others. All records get the same flips and the same noise, so that every feature means the
same query.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import expit

from nanoprune.backend import to_device, xp

SHIFTS = ((1, 0), (-1, 0), (0, 1), (0, -1))  # pixels down and to the right
FLIPS = (0.01, 0.03, 0.1)  # probability of a flip of each bit
NOISE = (0.05, 0.1, 0.2)  # standard deviations of features in [0, 1]
DRAWS = 6  # copies for each rate or standard deviation
RIDGE = 1.0  # of the logistic model: half the squared weights beside the summed loss, as usual elsewhere

Perturbation = Callable[[Any], Any]  # X (R, *input_shape, N) -> alike, a new array


def perturbations(input_shape: tuple[int, ...], binary: bool, generator: np.random.Generator) -> list[Perturbation]:
    """The queries, the unchanged record first: each maps X (R, *input_shape, N) to a new array of its shape and dtype.

    Images (H, C, W) are shifted and mirrored. Features (F,) are flipped where they are `binary` (all of them 0 or 1),
    else they get Gaussian noise and are clipped to [0, 1].
    """
    if len(input_shape) == 3:
        return [lambda X: X.copy(), *(_shift(*by) for by in SHIFTS), lambda X: X[:, :, :, ::-1].copy()]
    found: list[Perturbation] = [lambda X: X.copy()]
    for strength in FLIPS if binary else NOISE:
        for _ in range(DRAWS):
            if binary:
                found.append(_flip(generator.random(input_shape) < strength))
            else:
                found.append(_add(strength * generator.standard_normal(input_shape)))
    return found


def _shift(down: int, right: int) -> Perturbation:
    """The image moved by so many pixels; zeros come in from outside."""

    def shifted(X: Any) -> Any:
        H, W = X.shape[1], X.shape[3]
        moved = xp.zeros_like(X)  # (R, H, C, W, N)
        to_h, from_h = slice(max(0, down), H + min(0, down)), slice(max(0, -down), H - max(0, down))
        to_w, from_w = slice(max(0, right), W + min(0, right)), slice(max(0, -right), W - max(0, right))
        moved[:, to_h, :, to_w] = X[:, from_h, :, from_w]
        return moved

    return shifted


def _flip(bits: np.ndarray) -> Perturbation:
    """x -> 1 - x for the features where `bits` (F,) is true."""
    return lambda X: xp.abs(X - to_device(bits[:, None].astype(X.dtype)))


def _add(noise: np.ndarray) -> Perturbation:
    """x -> x + noise (F,), clipped to [0, 1]."""
    return lambda X: xp.minimum(xp.maximum(X + to_device(noise[:, None].astype(X.dtype)), 0), 1)


def table_perturbations(spread: np.ndarray, column: np.ndarray, generator: np.random.Generator) -> list[Perturbation]:
    """The queries for tables, the unchanged record first: numbers get Gaussian noise of NOISE times their `spread`, and
    a category is taken away, all its features 0, with a probability of NOISE.

    spread (F,): the standard deviation of a number, 0 for what is none. column (F,): which column of categories a
    feature belongs to, -1 for none.
    """
    found: list[Perturbation] = [lambda X: X.copy()]
    for strength in NOISE:
        for _ in range(DRAWS):
            gone = np.append(generator.random(column.max() + 1) < strength, False)  # the last one for -1
            found.append(_blur(~gone[column], strength * spread * generator.standard_normal(len(spread))))
    return found


def token_perturbations(length: int, tokens: int, generator: np.random.Generator) -> list[Perturbation]:
    """The queries for texts, the unchanged record first: a token becomes another one, any but padding, with a
    probability of NOISE. Padding stays. The paper has no texts; this is ours."""
    found: list[Perturbation] = [lambda X: X.copy()]
    for strength in NOISE:
        for _ in range(DRAWS):
            there = generator.random(length) < strength
            found.append(_replace(there, generator.integers(1, max(tokens, 2), length)))
    return found


def _replace(there: np.ndarray, tokens: np.ndarray) -> Perturbation:
    """x -> the token of that place where `there` (T,) is true and x is no padding."""

    def replaced(X: Any) -> Any:
        new = to_device(np.where(there, tokens, 0)[:, None].astype(X.dtype))  # (T, 1), 0 where x stays
        return xp.where((new > 0) & (X > 0), new, X)

    return replaced


def _blur(kept: np.ndarray, noise: np.ndarray) -> Perturbation:
    """x -> x + noise where `kept` (F,) is true, else 0; no value (NaN) stays none."""
    return lambda X: X * to_device(kept[:, None].astype(X.dtype)) + to_device(noise[:, None].astype(X.dtype))


class Logistic:
    """A logistic model of membership, P(member | features) = 1 / (1 + exp(-w . (features, 1))); w (d + 1,) float64."""

    def __init__(self, w: np.ndarray) -> None:
        self.w = w

    @classmethod
    def fit(cls, features: np.ndarray, member: np.ndarray, ridge: float = RIDGE) -> Logistic:
        """Minimise $sum_i c_i log(1 + exp(-s_i z_i)) + ridge/2 ||w||^2$ by Newton's method; no ridge on the intercept.

        features (n, d); member (n,) bool, s = 1 for members and -1 for others. The weights c let both sides count the
        same: n / (2 n_members) and n / (2 n_nonmembers).
        """
        X = np.concatenate([features, np.ones((len(features), 1))], axis=1).astype(np.float64)  # (n, d + 1)
        c = np.where(member, len(member) / (2 * member.sum()), len(member) / (2 * (~member).sum()))
        shrink = np.append(np.full(features.shape[1], ridge), 0.0)
        w = np.zeros(X.shape[1])

        def loss(w: np.ndarray) -> float:
            return float(c @ np.logaddexp(0, np.where(member, -1, 1) * (X @ w)) + shrink @ (w * w) / 2)

        for _ in range(100):
            p = expit(X @ w)
            gradient = X.T @ (c * (p - member)) + shrink * w
            if np.abs(gradient).max() <= 1e-9 * len(member):
                break
            hessian = (X * (c * p * (1 - p))[:, None]).T @ X + np.diag(shrink + 1e-9)
            step, now, size = np.linalg.solve(hessian, gradient), loss(w), 1.0
            while size > 1e-6 and loss(w - size * step) > now:
                size /= 2
            w = w - size * step
        return cls(w)

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Logits of membership (..., n) of features (..., n, d); "member" where they are at least 0."""
        return features @ self.w[:-1] + self.w[-1]
