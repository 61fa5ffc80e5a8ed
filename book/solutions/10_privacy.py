"""Answers to the exercises of chapter 10."""

import math

import numpy as np


def record_lengths(dY, X):
    return np.sqrt((dY**2).sum(axis=0) * ((X**2).sum(axis=0) + 1))


def clipped_gradient(dY, X, C):
    dY = dY / np.maximum(1, record_lengths(dY, X) / C)
    return dY @ X.T, dY.sum(axis=1)


def advantage_bound(epsilon, delta):
    return (math.exp(epsilon) - 1 + 2 * delta) / (math.exp(epsilon) + 1)
