"""The history of ADMM, a line for each iteration."""

import numpy as np

from nanoprune.prune.admm import Iteration

HEADER = "iter       loss     primal    eps_pri       dual   eps_dual       rho   nonzero  changed"


def admm_line(of: Iteration) -> str:
    """The iteration in one line, as means over the replicas."""
    reals = (of.loss, of.primal, of.eps_primal, of.dual, of.eps_dual)
    text = f"{of.iteration:4d} " + " ".join(f"{np.mean(value):10.4g}" for value in reals)
    return f"{text} {np.mean(of.rho):9.3g} {np.mean(of.nonzero):9.0f} {np.mean(of.changed):8.0f}"
