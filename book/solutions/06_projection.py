"""Answers to the exercises of chapter 6."""

import numpy as np


def nearest_sparse(W, k):
    kept = np.argsort(-np.abs(W), kind="stable")[:k]
    Z = np.zeros_like(W)
    Z[kept] = W[kept]
    return Z


def nearest_n_of_m(W, N, M):
    cells = W.reshape(-1, M)
    return np.array([nearest_sparse(cell, N) for cell in cells]).reshape(W.shape)


def nearest_filters(W, k):
    kept = np.argsort(-(W**2).sum(axis=1), kind="stable")[:k]
    Z = np.zeros_like(W)
    Z[kept] = W[kept]
    return Z
