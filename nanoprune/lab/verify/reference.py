"""Naive references: each formula written as loops, simple and slow. NumPy arrays on the host only."""

import itertools
import math
from typing import Any

import numpy as np


def convolution(X: np.ndarray, W: np.ndarray, b: np.ndarray, size: int, stride: int, padding: int) -> np.ndarray:
    """Y[r, y, o, x, n] = b[r, o] + sum over i, c, j of W[r, o, i, c, j] X[r, s y + i - p, c, s x + j - p, n].

    X (R, H, C, W, N), W (R, O, size*C*size), b (R, O, 1) as in `nanoprune.nn.Conv2D`; X is 0 outside of the image.
    """
    R, H, C, width, N = X.shape
    O = W.shape[1]
    W = W.reshape(R, O, size, C, size)
    OH, OW = (H + 2 * padding - size) // stride + 1, (width + 2 * padding - size) // stride + 1
    Y = np.empty((R, OH, O, OW, N))
    for r, y, o, x, n in np.ndindex(Y.shape):  # five nested loops over the outputs
        total = float(b[r, o, 0])
        for i in range(size):
            for c in range(C):
                for j in range(size):
                    row, column = stride * y + i - padding, stride * x + j - padding
                    if 0 <= row < H and 0 <= column < width:
                        total += float(W[r, o, i, c, j]) * float(X[r, row, c, column, n])
        Y[r, y, o, x, n] = total
    return Y


def max_pool(X: np.ndarray, size: int, stride: int | None = None, padding: int = 0) -> tuple[np.ndarray, dict]:
    """Maxima over windows of X (R, H, C, W, N); for each output index that of its first maximum, column by column."""
    R, H, C, width, N = X.shape
    s = stride or size
    Y = np.empty((R, (H + 2 * padding - size) // s + 1, C, (width + 2 * padding - size) // s + 1, N))
    first = {}
    for r, y, c, x, n in np.ndindex(Y.shape):
        inside = [
            (r, s * y + i - padding, c, s * x + j - padding, n)
            for j in range(size)
            for i in range(size)
            if 0 <= s * y + i - padding < H and 0 <= s * x + j - padding < width
        ]
        best = max(inside, key=lambda index: X[index])  # the first of equals
        first[r, y, c, x, n] = best
        Y[r, y, c, x, n] = X[best]
    return Y, first


def depthwise(X: np.ndarray, W: np.ndarray, b: np.ndarray, size: int, stride: int, padding: int) -> np.ndarray:
    """Y[r, y, c, x, n] = b[r, c] + sum over i, j of W[r, c, i, j] X[r, s y + i - p, c, s x + j - p, n].

    X (R, H, C, W, N), W (R, C, size*size), b (R, C, 1) as in `nanoprune.nn.DepthwiseConv2D`.
    """
    R, H, C, width, N = X.shape
    W = W.reshape(R, C, size, size)
    Y = np.empty((R, (H + 2 * padding - size) // stride + 1, C, (width + 2 * padding - size) // stride + 1, N))
    for r, y, c, x, n in np.ndindex(Y.shape):
        total = float(b[r, c, 0])
        for i in range(size):
            for j in range(size):
                row, column = stride * y + i - padding, stride * x + j - padding
                if 0 <= row < H and 0 <= column < width:
                    total += float(W[r, c, i, j]) * float(X[r, row, c, column, n])
        Y[r, y, c, x, n] = total
    return Y


def average_pool(X: np.ndarray, size: int) -> np.ndarray:
    """Means over disjoint windows of X (R, H, C, W, N)."""
    R, H, C, width, N = X.shape
    Y = np.empty((R, H // size, C, width // size, N))
    for r, y, c, x, n in np.ndindex(Y.shape):
        values = [float(X[r, size * y + i, c, size * x + j, n]) for i in range(size) for j in range(size)]
        Y[r, y, c, x, n] = sum(values) / size**2
    return Y


def batch_norm(X: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Y, and the mean and unbiased variance of each channel (2, R, C), value by value.

    X (R, H, C, W, N) or (R, C, N), gamma and beta (R, C, 1).
    """
    Y, found = np.empty(X.shape), np.empty((2, *gamma.shape[:2]))
    for r, c in np.ndindex(gamma.shape[:2]):
        of_channel = (r, slice(None), c) if X.ndim == 5 else (r, c)
        values = [float(x) for x in X[of_channel].ravel()]
        mean = sum(values) / len(values)
        squares = sum((x - mean) ** 2 for x in values)
        found[:, r, c] = mean, squares / (len(values) - 1)
        normalised = [(x - mean) / math.sqrt(squares / len(values) + eps) for x in values]
        Y[of_channel] = np.reshape([gamma[r, c, 0] * x + beta[r, c, 0] for x in normalised], X[of_channel].shape)
    return Y, found


def layer_norm(X: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float) -> np.ndarray:
    """Y of X (R, T, E, N), position by position; gamma and beta (R, E, 1)."""
    Y = np.empty(X.shape)
    for r, t, n in np.ndindex(X.shape[0], X.shape[1], X.shape[3]):
        values = [float(x) for x in X[r, t, :, n]]
        mean = sum(values) / len(values)
        deviation = math.sqrt(sum((x - mean) ** 2 for x in values) / len(values) + eps)
        for e, x in enumerate(values):
            Y[r, t, e, n] = gamma[r, e, 0] * (x - mean) / deviation + beta[r, e, 0]
    return Y


def attention(X: np.ndarray, heads: int, causal: bool, padding: np.ndarray) -> np.ndarray:
    """Y (R, T, heads d, N) of queries, keys and values X (R, T, 3 heads d, N), one query after another.

    padding (R, T, N): keys that no query sees. Each query must see a key.
    """
    R, T, C, N = X.shape
    d = C // (3 * heads)
    Y = np.empty((R, T, heads * d, N))
    for r, n, head, t in np.ndindex(R, N, heads, T):
        query, key, value = (slice(place * d, place * d + d) for place in (head, heads + head, 2 * heads + head))
        seen = [s for s in range(T) if not padding[r, s, n] and (s <= t or not causal)]
        scores = [sum(float(X[r, t, query, n][i]) * float(X[r, s, key, n][i]) for i in range(d)) for s in seen]
        shares = [math.exp(score / math.sqrt(d)) for score in scores]
        for i in range(d):
            values = (share * float(X[r, s, value, n][i]) for share, s in zip(shares, seen, strict=True))
            Y[r, t, query.start + i, n] = sum(values) / sum(shares)
    return Y


def group_norm(X: np.ndarray, gamma: np.ndarray, beta: np.ndarray, groups: int, eps: float) -> np.ndarray:
    """Y of X (R, H, C, W, N) or (R, C, N), sample by sample and group by group; gamma and beta (R, C, 1)."""
    Y, C = np.empty(X.shape), gamma.shape[1]
    X, out = (X, Y) if X.ndim == 5 else (X[:, None, :, None], Y[:, None, :, None])
    for r, g, n in np.ndindex(len(X), groups, X.shape[-1]):
        channels = range(g * C // groups, (g + 1) * C // groups)
        places = [(r, h, c, w, n) for h in range(X.shape[1]) for c in channels for w in range(X.shape[3])]
        mean = sum(float(X[at]) for at in places) / len(places)
        var = sum((float(X[at]) - mean) ** 2 for at in places) / len(places)
        for at in places:
            out[at] = gamma[r, at[2], 0] * (X[at] - mean) / math.sqrt(var + eps) + beta[r, at[2], 0]
    return Y


def projection(W: np.ndarray, k: int, groups: list[list[int]] | None = None) -> np.ndarray:
    """The nearest point to W (n,) with at most k nonzero groups (by default, entries): of all supports of k groups the
    first that is nearest. Entries that are in no group become zero.

    `combinations` lists the supports in the order of their indices, so a tie goes to the lower index.
    """
    n, least, Z = len(W), math.inf, None
    groups = [[i] for i in range(n)] if groups is None else groups
    for chosen in itertools.combinations(groups, k):
        support = {i for group in chosen for i in group}
        distance = sum(float(W[i]) ** 2 for i in range(n) if i not in support)  # ||Z - W||^2
        if distance < least:
            least, Z = distance, np.array([W[i] if i in support else 0 for i in range(n)], W.dtype)
    return Z


def scheme_projection(W: np.ndarray, scheme: str, k: int, window: tuple[int, int, int]) -> np.ndarray:
    """The nearest point to the weights W (O, kh*C*kw) of a convolution in the constraint set of a scheme. Groups, and
    for N:M cells, are found from each weight's indices (o, h, c, w); then every support of every cell is tried."""
    cells: dict[Any, dict[Any, list[int]]] = {}
    for place, (o, h, c, w) in enumerate(np.ndindex(len(W), *window)):
        column, size = place % W.shape[1], int(scheme[-1]) if ":" in scheme else 1
        cell = (o, column // size) if scheme[0].isdigit() else 0
        group = {"filter": o, "channel": c, "column": (h, c, w)}.get(scheme, (o // size, column // size))
        cells.setdefault(cell, {}).setdefault(group if cell == 0 else place, []).append(place)
    parts = [projection(W.ravel(), min(k, len(groups)), list(groups.values())) for groups in cells.values()]
    return np.sum(parts, axis=0).reshape(W.shape)


def erk(sizes: list[tuple[int, int, int]], keep: float) -> list[float]:
    """Ratios min(1, s e_i / n_i) of layers (inputs, outputs, k), k = 0 where dense, with s found by bisection."""
    n = [inputs * outputs * max(k, 1) ** 2 for inputs, outputs, k in sizes]
    e = [inputs + outputs + 2 * k for inputs, outputs, k in sizes]
    low, high = 0.0, float(sum(n))  # the number of kept weights rises with s; at sum(n) all are kept
    for _ in range(200):
        s = (low + high) / 2
        kept = sum(min(n_i, s * e_i) for n_i, e_i in zip(n, e, strict=True))
        low, high = (s, high) if kept < keep * sum(n) else (low, s)
    return [min(1.0, high * e_i / n_i) for n_i, e_i in zip(n, e, strict=True)]


def sparse_least_squares(A: np.ndarray, b: np.ndarray, k: int) -> np.ndarray:
    """argmin ||A x - b|| with at most k nonzero entries: the best ordinary least-squares fit on any k columns."""
    least, best = math.inf, np.zeros(A.shape[1])
    for support in itertools.combinations(range(A.shape[1]), k):
        x = np.zeros(A.shape[1])
        x[list(support)] = np.linalg.lstsq(A[:, support], b, rcond=None)[0]
        distance = float(((A @ x - b) ** 2).sum())
        if distance < least:
            least, best = distance, x
    return best


def auc(members: np.ndarray, nonmembers: np.ndarray) -> float:
    """Over all pairs: 1 for a member that scores higher, 1/2 for a tie."""
    wins = sum(1.0 if m > n else 0.5 if m == n else 0.0 for m in members for n in nonmembers)
    return wins / (len(members) * len(nonmembers))


def roc(members: np.ndarray, nonmembers: np.ndarray) -> list[tuple[float, float]]:
    """(FPR, TPR) of "score >= t", counted for t = infinity and then for each distinct score, from the highest."""
    thresholds = [math.inf, *sorted({*members.tolist(), *nonmembers.tolist()}, reverse=True)]
    return [(share_above(nonmembers, t), share_above(members, t)) for t in thresholds]


def share_above(scores: np.ndarray, t: float) -> float:
    """Share of the scores that are at least t."""
    return sum(1 for score in scores if score >= t) / len(scores)


def tpr_at_fpr(members: np.ndarray, nonmembers: np.ndarray, fpr: float) -> float:
    """The largest counted TPR whose counted FPR is at most `fpr`."""
    return max(true for false, true in roc(members, nonmembers) if false <= fpr)


def best_balanced_accuracy(members: np.ndarray, nonmembers: np.ndarray) -> float:
    """The largest (TPR + TNR) / 2 of any threshold."""
    return max((true + 1 - false) / 2 for false, true in roc(members, nonmembers))


def modified_entropy(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Mentr(p, y) = -(1 - p_y) log p_y - sum_{i != y} p_i log(1 - p_i) for each row of p (n, classes); (n,).

    Song & Mittal 2021 (arXiv 2003.10595), equation 8, for p strictly between 0 and 1.
    """
    values = []
    for row, label in zip(p, y, strict=True):
        value = -(1 - row[label]) * math.log(row[label])
        for i in range(len(row)):
            if i != label:
                value -= row[i] * math.log(1 - row[i])
        values.append(value)
    return np.array(values)
