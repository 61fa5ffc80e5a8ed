"""The scores of the threshold attacks (Song & Mittal 2021, arXiv 2003.10595); higher means "member".

p (..., n, classes): probabilities, float64; y (..., n): labels. Each returns (..., n) float64.
"""

import numpy as np

TINY = 1e-30  # stands in for 0 under a logarithm, as in the authors' code


def correctness(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """1 where the predicted class is the label, else 0 (Song & Mittal 2021, equation 4)."""
    return (p.argmax(axis=-1) == y).astype(np.float64)


def confidence(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """p_y, the probability of the label (Song & Mittal 2021, equation 5)."""
    return np.take_along_axis(p, y[..., None], axis=-1)[..., 0]


def entropy(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    r"""$\sum_c p_c \log p_c$, minus the entropy, which members have less of (Song & Mittal 2021, equation 6)."""
    return (p * np.log(np.maximum(p, TINY))).sum(axis=-1)


def modified_entropy(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    r"""$(1 - p_y) \log p_y + \sum_{c \ne y} p_c \log(1 - p_c)$, the negative of Mentr (Song & Mittal 2021, equation 8).

    Unlike the entropy it depends on the label: a confident wrong prediction scores low.
    """
    p_y = confidence(p, y)
    others = p * np.log(np.maximum(1 - p, TINY))  # (..., n, classes)
    np.put_along_axis(others, y[..., None], 0.0, axis=-1)  # left out, not subtracted: it may dwarf the rest
    return (1 - p_y) * np.log(np.maximum(p_y, TINY)) + others.sum(axis=-1)
