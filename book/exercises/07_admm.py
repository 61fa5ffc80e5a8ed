"""Chapter 7: when does ADMM descend?

Write each function in place of its last line, then: python cli.py learn check 7
"""

import math

import numpy as np

from nanoprune.prune import project


def admm_round(A, b, k, rho, w, z, u):
    """One round in the order Z, W, U for 1/2 ||A w - b||^2 and k entries: return the new w, z and u.

    The W-step is exact. project(v, k) keeps the k largest magnitudes.
    """
    raise NotImplementedError


def is_fixed_point(A, b, k, rho, w):
    """Whether w = project(w - grad L(w) / rho, k) up to 1e-9, for L(w) = 1/2 ||A w - b||^2."""
    raise NotImplementedError


def least_penalty(lipschitz):
    """The rho above which the augmented Lagrangian must fall, for a convex loss; lipschitz is Lambda."""
    raise NotImplementedError
