"""Answers to the exercises of chapter 7."""

import math

import numpy as np

from nanoprune.prune import project


def admm_round(A, b, k, rho, w, z, u):
    z = project(w + u, k)
    w = np.linalg.solve(A.T @ A + rho * np.eye(len(w)), A.T @ b + rho * (z - u))
    return w, z, u + w - z


def is_fixed_point(A, b, k, rho, w):
    return bool(np.abs(project(w - A.T @ (A @ w - b) / rho, k) - w).max() < 1e-9)


def least_penalty(lipschitz):
    # rho / 2 - Lambda^2 / rho > 0
    return math.sqrt(2) * lipschitz
