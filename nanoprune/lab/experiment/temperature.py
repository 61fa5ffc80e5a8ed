"""Temperature scaling: less confident outputs."""

from collections.abc import Callable

import numpy as np
from scipy.special import softmax


def temperature(T: float) -> Callable[[np.ndarray], np.ndarray]:
    """Logits z (R, n, classes) -> probabilities softmax(z / T) (R, n, classes), float64 (Guo et al. 2017, 1706.04599).

    Guo et al. fit T to calibrate the confidences; here it is fixed, above 1. The order of the classes does not change,
    so neither do the predicted labels and the accuracy. Whoever knows T can undo it: the outputs determine z up to a
    constant.
    """
    return lambda logits: softmax(logits.astype(np.float64) / T, axis=2)
