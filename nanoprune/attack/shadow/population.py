r"""The population attack, "Attack P" (Ye et al. 2022, arXiv 2111.09679).

A record is compared with population records z, which the target was not trained on, by the target alone:

    $score(x) = P_z[\ell(z) \ge \ell(x)]$

"Member" where the loss is at most the population's quantile of level alpha, that is where the score is at least
1 - alpha. alpha is then the false-positive rate, whatever the scale of the losses, so that a level can be carried from
one model to another. The paper takes alpha as given; ours is the one of best balanced accuracy on the shadow models,
the Bayes rule for equal priors. With losses N(0, 1) and N(-d, 1) of members it is $\Phi(-d/2)$.
"""

from __future__ import annotations

import numpy as np


def population_attack(target: np.ndarray, population: np.ndarray) -> np.ndarray:
    """P_z[phi(z) <= phi(x)] (n,), from any decreasing function phi of the loss: of records (n,), of population (m,)."""
    return np.searchsorted(np.sort(population), target, side="right") / len(population)
