"""Temperature: answers that are less sure of themselves."""

from collections.abc import Callable

import numpy as np
from scipy.special import softmax


def temperature(T: float) -> Callable[[np.ndarray], np.ndarray]:
    """Logits z (R, n, classes) -> probabilities softmax(z / T), float64 (Guo et al. 2017, arXiv 1706.04599).

    There T is fitted so that confidences are true; here it is fixed, above 1. All classes keep their order, so labels
    and accuracy stay; who knows T undoes it, since z is known from the answer up to a constant.
    """
    return lambda logits: softmax(logits.astype(np.float64) / T, axis=2)
