"""Difficulty calibration (Watson et al. 2022, arXiv 2111.08440): a score minus its mean over models without x."""

import numpy as np


def calibrated(target: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """s(x) - mean of s(x) over models not trained on x (their equation 1): both (n,)."""
    return target - mean
