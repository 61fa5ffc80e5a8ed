"""Difficulty calibration (Watson et al. 2022, arXiv 2111.08440): a score minus its mean over models without x."""

import numpy as np


def calibrated(target: np.ndarray, scores: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """s(x) - mean of s(x) over models not trained on x (their equation 1): target (n,), scores, inside (K, n)."""
    outside = ~inside
    return target - np.where(outside, scores, 0).sum(axis=0) / outside.sum(axis=0)
